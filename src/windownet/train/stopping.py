"""What the dev F1 so far decide: whether a run stops before its last epoch, and when its rate falls."""

from collections.abc import Sequence

from windownet.schema.curves import ScheduleConfig


def is_over(dev_f1: Sequence[float], patience: int) -> bool:
    """Whether a run with these dev F1 so far, epoch by epoch, has had `patience` epochs without a better one.

    With patience 0 it never has.
    """
    best = max(range(len(dev_f1)), key=dev_f1.__getitem__)
    return 0 < patience <= len(dev_f1) - 1 - best


def rate_factor(dev_f1: Sequence[float], schedule: ScheduleConfig) -> float:
    """What the rate is multiplied by after epochs with these dev F1; 1 for every schedule but "plateau".

    As `optax.contrib.reduce_on_plateau` has it, for which `patience` epochs without a better one are enough; the same
    in torch's `ReduceLROnPlateau` is a patience of one less.
    """
    factor, best, since = 1.0, -1.0, 0
    for f1 in dev_f1 if schedule.name == "plateau" else ():
        best, since = (f1, 0) if f1 > best else (best, since + 1)
        if since == schedule.patience:
            factor, since = max(factor * schedule.factor, schedule.final), 0
    return factor
