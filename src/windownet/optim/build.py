"""The config's optimizer as an optax transformation."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from windownet.config import Config, OptimizerConfig
from windownet.errors import InputError
from windownet.optim import missed, schedules
from windownet.optim.missed import Missed
from windownet.optim.rowwise import Rowwise, rowwise

TABLE = "words"


def build(config: Config, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps, for gradients that are all arrays.

    Its `init` raises an InputError where a pattern of optimizer.rates matches no parameter.
    """
    inner = _optimizer(config.optimizer, schedules.build(config.schedule, config.optimizer, steps))
    return optax.chain(inner, _scale(config.optimizer.rates)) if config.optimizer.rates else inner


def build_rowwise(config: Config, steps: int) -> Rowwise:
    """The same for a word table whose gradient is a `RowSparse`, by optimizer.rows."""
    mode = config.optimizer.rows
    if mode == "exact":
        schedule = schedules.build(config.schedule, config.optimizer, steps)
        factor = _factor(config.optimizer.rates, TABLE)
        closed = _missed(config.optimizer, schedule if factor == 1 else lambda k: factor * schedule(k))
        return rowwise(build(config, steps), "exact", tables=[TABLE], missed=closed)
    return rowwise(build(config, steps), "exact" if mode == "replay" else mode, tables=[TABLE])


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


def _missed(config: OptimizerConfig, rate: optax.Schedule) -> Missed:
    match config.name:
        case "sgd":
            return missed.decay(rate)
        case "momentum":
            return missed.momentum(rate, config.momentum)
        case "adagrad":
            return missed.decay(rate, sum_of_squares=1.0)
        case "rmsprop":
            return missed.decay(rate, nu=config.decay)
        case "adam":
            return missed.adam(rate, config.b1, config.b2)
        case "adamw":
            return missed.adam(rate, config.b1, config.b2, config.weight_decay)


def _scale(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def init(params: Any) -> optax.EmptyState:
        names = [_name(path) for path, _ in jax.tree.leaves_with_path(params)]
        for pattern in rates:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InputError(
                    f"optimizer.rates: required patterns of parameters, got {pattern!r}, which matches none of "
                    f"{', '.join(names)}"
                )
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map_with_path(lambda path, u: _factor(rates, _name(path)) * u, updates), state

    return optax.GradientTransformation(init, update)


def _factor(rates: Mapping[str, float], name: str) -> float:
    return next((factor for pattern, factor in rates.items() if fnmatchcase(name, pattern)), 1.0)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
