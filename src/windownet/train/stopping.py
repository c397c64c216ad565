"""When a run stops before its last epoch."""

from collections.abc import Sequence


def is_over(dev_f1: Sequence[float], patience: int) -> bool:
    """Whether a run with these dev F1 so far, epoch by epoch, has had `patience` epochs without a better one.

    With patience 0 it never has.
    """
    best = max(range(len(dev_f1)), key=dev_f1.__getitem__)
    return 0 < patience <= len(dev_f1) - 1 - best
