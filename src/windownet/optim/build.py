"""The config's optimizer as an optax transformation."""

import optax

from windownet.config import Config, OptimizerConfig
from windownet.optim import schedules


def build(config: Config, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps."""
    return _optimizer(config.optimizer, schedules.build(config.schedule, config.optimizer, steps))


def _optimizer(config: OptimizerConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    match config.name:
        case "sgd":
            return optax.sgd(rate)
        case "momentum":
            return optax.sgd(rate, momentum=config.momentum)
        case "adagrad":
            return optax.adagrad(rate, eps=config.eps)
        case "rmsprop":
            return optax.rmsprop(rate, decay=config.decay, eps=config.eps)
        case "adam":
            return optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps)
        case "adamw":
            return optax.adamw(rate, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay)
