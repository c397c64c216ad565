"""The config's optimizer as an optax transformation."""

import jax
import optax

from windownet.autodiff.scalars import is_zero
from windownet.optim import by_path, missed, schedules
from windownet.optim.by_step import by_step
from windownet.optim.missed import Missed
from windownet.optim.rowwise import Rowwise, rowwise
from windownet.schema.config import Config
from windownet.schema.keys import replace
from windownet.schema.training import OptimizerConfig

TABLE = "words"
_SMALL_EPS = 1e-7
# The closed form of missed updates has one value of these for all steps. Of weight decay it takes every step's, and no
# other number moves a row that has no gradient.
_REPLAYED = {f"optimizer.{name}" for name in ("momentum", "decay", "b1", "b2", "eps")}


def build(config: Config, steps: int, factor: jax.Array | None = None) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps, for gradients that are all arrays.

    In this order: the gradient is clipped, made a direction by the optimizer's rule, weight decay is added, all is
    multiplied by the rate and by what scales it for some parameters, and weights beyond their norm are drawn back.
    `factor`, a scalar, multiplies the rates of the schedule.
    """
    varied = _of_optimizer(config, steps)
    if not varied:
        return _chain(config, steps, factor)
    return by_step(lambda k: _chain(replace(config, {key: number(k) for key, number in varied.items()}), steps, factor))


def _of_optimizer(config: Config, steps: int) -> dict[str, optax.Schedule]:
    numbers = schedules.others(config, steps).items()
    return {key: n for key, n in numbers if key.startswith("optimizer.") or key == "regularization.max_norm"}


def _chain(config: Config, steps: int, factor: jax.Array | None) -> optax.GradientTransformation:
    o, max_norm = config.optimizer, config.regularization.max_norm
    parts = []
    if not is_zero(o.clip_value):
        parts.append(optax.clip(o.clip_value))
    if not is_zero(o.clip_norm):
        parts.append(optax.clip_by_global_norm(o.clip_norm))
    parts.append(_direction(o))
    if not is_zero(o.weight_decay):
        parts.append(by_path.add_decayed_weights(o.weight_decay, o.undecayed))
    parts.append(optax.scale_by_learning_rate(_rate(config, steps, factor)))
    if o.fan_in_rates:
        parts.append(by_path.scale_by_fan_in())
    if o.rates:
        parts.append(by_path.scale(o.rates))
    if not is_zero(max_norm):
        parts.append(by_path.max_norm(max_norm))
    return optax.chain(*parts)


def build_rowwise(config: Config, steps: int, factor: jax.Array | None = None) -> Rowwise:
    """The same for a word table whose gradient is a `RowSparse`, by optimizer.rows."""
    mode, closed = config.optimizer.rows, None
    varied = _of_optimizer(config, steps)
    if mode == "exact" and not is_replayed(config):
        decay = varied.get("optimizer.weight_decay", config.optimizer.weight_decay)
        closed = _missed(config.optimizer, _rate_of_table(config, steps, factor), decay)
    inner, mode = build(config, steps, factor), "exact" if mode == "replay" else mode
    return rowwise(inner, mode, tables=[TABLE], missed=closed, proven=True)


def is_replayed(config: Config) -> bool:
    """Whether "exact" rows of the word table catch up as those of "replay" do: there is no closed form, or none near.

    Arrays may stand for rate and weight decay; how large these are is then not asked.
    """
    o = config.optimizer
    # Of radam the first steps are not adam's; what lion misses does not fade.
    if o.name in ("radam", "lion") or _REPLAYED & config.schedule.others.keys():
        return True
    # A larger one slows every row down, and in the first updates the closed form has too little of that.
    if o.name in ("adam", "adamw", "nadam") and o.eps > _SMALL_EPS:
        return True
    try:
        # With a decay, as runs of one program may have one and none.
        most = _missed(o, lambda k: 0.0, lambda k: 0.0).most_decay
    except ValueError:
        # Its sums would take too many terms.
        return True
    if by_path.matches(o.undecayed, TABLE):
        return False
    decay = o.learning_rate * o.weight_decay * by_path.factor(o.rates, TABLE)
    return not isinstance(decay, jax.Array) and decay >= most


def _rate(config: Config, steps: int, factor: jax.Array | None) -> optax.Schedule:
    rate = schedules.build(config.schedule, config.optimizer, steps)
    return rate if factor is None else lambda step: factor * rate(step)


def _rate_of_table(config: Config, steps: int, factor: jax.Array | None) -> optax.Schedule:
    rate, curves = _rate(config, steps, factor), schedules.others(config, steps)
    shares = {
        pattern: curves.get(f"optimizer.rates.{pattern}", share) for pattern, share in config.optimizer.rates.items()
    }
    share = by_path.factor(shares, TABLE)
    if callable(share):
        return lambda k: share(k) * rate(k)
    return rate if share == 1 else lambda k: share * rate(k)


def _direction(config: OptimizerConfig) -> optax.GradientTransformation:
    match config.name:
        case "sgd":
            return optax.identity()
        case "momentum":
            return optax.trace(config.momentum)
        case "nesterov":
            return optax.trace(config.momentum, nesterov=True)
        case "adagrad":
            return optax.scale_by_rss(config.accumulator, config.eps)
        case "rmsprop":
            return optax.scale_by_rms(decay=config.decay, eps=config.eps)
        case "adadelta":
            return optax.scale_by_adadelta(rho=config.decay, eps=config.eps)
        case "adam" | "adamw":
            return optax.scale_by_adam(config.b1, config.b2, config.eps)
        case "nadam":
            return optax.scale_by_adam(config.b1, config.b2, config.eps, nesterov=True)
        case "radam":
            return optax.scale_by_radam(config.b1, config.b2, config.eps)
        case "lion":
            return optax.scale_by_lion(config.b1, config.b2)


def _missed(config: OptimizerConfig, rate: optax.Schedule, decay: float | optax.Schedule) -> Missed:
    decay = 0.0 if by_path.matches(config.undecayed, TABLE) else decay
    match config.name:
        case "sgd":
            return missed.decay(rate, decay)
        case "momentum" | "nesterov":
            return missed.momentum(rate, config.momentum, nesterov=config.name == "nesterov", weight_decay=decay)
        case "adagrad":
            return missed.decay(rate, decay, sum_of_squares=1.0)
        case "rmsprop":
            return missed.decay(rate, decay, nu=config.decay)
        case "adadelta":
            return missed.decay(rate, decay, e_g=config.decay, e_x=config.decay)
        case "adam" | "adamw" | "nadam":
            nesterov = config.name == "nadam"
            return missed.adam(rate, config.b1, config.b2, decay, eps=config.eps, nesterov=nesterov)
        case _:
            raise ValueError(f"{config.name} has no closed form")
