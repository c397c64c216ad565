"""The learning rate of a run, step by step, and the numbers that follow curves of their own."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from windownet.optim import schedules
from windownet.schema.config import Config


class Curve(NamedTuple):
    """A run's rates.

    Attributes:
      name: the schedule's.
      rates: float64 [steps], the rate of each step.
      steps_an_epoch: how many of them are an epoch.
      marks: {step: what is there}, in order.
      others: {key: float64 [steps]}, the numbers that have a curve of their own.
    """

    name: str
    rates: np.ndarray
    steps_an_epoch: int
    marks: dict[int, str]
    others: dict[str, np.ndarray]


def of(config: Config, steps_an_epoch: int) -> Curve:
    """The curve of a config's schedule over its epochs."""
    steps = config.train.epochs * steps_an_epoch

    def drawn(number: optax.Schedule) -> np.ndarray:
        return np.asarray(jnp.broadcast_to(number(jnp.arange(steps)), (steps,)), np.float64)

    rates = drawn(schedules.build(config.schedule, config.optimizer, steps))
    others = {key: drawn(number) for key, number in schedules.others(config, steps).items()}
    quarters = [(quarter * steps // 4, f"{25 * quarter} %") for quarter in (1, 2, 3)] if steps > 4 else []
    seams = schedules.seams(config.schedule, steps).items()
    marks: dict[int, str] = {}
    for step, what in ((0, "first"), *quarters, (steps - 1, "last"), *seams, (int(rates.argmax()), "highest")):
        if step < steps and not (what == "highest" and np.ptp(rates) == 0):
            marks[step] = f"{marks[step]}, {what}" if step in marks else what
    return Curve(config.schedule.name, rates, steps_an_epoch, dict(sorted(marks.items())), others)
