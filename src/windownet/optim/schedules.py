"""Learning rates over a run: the config's choice as an optax schedule, step -> rate."""

import optax

from windownet.config import OptimizerConfig, ScheduleConfig


def build(schedule: ScheduleConfig, optimizer: OptimizerConfig, steps: int) -> optax.Schedule:
    """The rate at each of a run's steps."""
    peak = optimizer.learning_rate
    match schedule.name:
        case "constant":
            return optax.constant_schedule(peak)
        case "warmup_cosine":
            warmup = round(schedule.warmup * steps)
            return optax.warmup_cosine_decay_schedule(
                0.0 if warmup else peak, peak, warmup, max(steps, warmup + 1), peak * schedule.final
            )
