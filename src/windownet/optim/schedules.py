"""Learning rates, and other numbers, over a run: the config's choice as an optax schedule, step -> rate.

Steps count from 0, over the whole run. Every schedule takes an array of steps of any shape, also of steps after the
run's end, where it stays as it ends or goes on falling. Shares of the run are rounded to whole steps.
"""

import jax.numpy as jnp
import optax

from windownet.schema.config import Config
from windownet.schema.curves import Curve, ScheduleConfig
from windownet.schema.keys import value
from windownet.schema.training import OptimizerConfig

WORD_DROPOUT = "regularization.word_dropout"


def build(schedule: ScheduleConfig, optimizer: OptimizerConfig, steps: int) -> optax.Schedule:
    """The rate at each of a run's steps.

    With P for optimizer.learning_rate, W for the steps of warm-up (round(warmup * steps), but never the whole run),
    T = steps - W, t = step - W, and `every` in steps, the rate after the warm-up is

        constant              P
        step                  P factor^floor(t / every)
        exponential           P factor^(t / every)
        inverse_time          P / (1 + t / every)                  (Robbins & Monro 1951; Bottou 2012)
        inverse_sqrt          P / sqrt(1 + t / every)              (Vaswani et al. 2017, where every = warmup)
        linear                P (final + (1 - final) (1 - t/T))
        polynomial            P (final + (1 - final) (1 - t/T)^power)
        cosine                P (final + (1 - final) (1 + cos(pi t/T)) / 2) in each cycle, with its own t and T
                              (Loshchilov & Hutter 2017, equation 5; growth is their T_mult)
        one_cycle             half a cosine from start P up to P, then one down to final P (Smith & Topin 2018, with
                              the cosines of fastai and torch; from P where the climb has no step)
        triangular            straight from start P to P and back, in each cycle (Smith 2017); at most T / 2 cycles,
                              and P where T is one step
        warmup_stable_decay   P, and a straight fall to final P at the end (Hu et al. 2024)
        plateau               P, which the run multiplies by max(factor^n, final): n is how often `patience` epochs
                              passed without a better dev F1, counted anew each time (optax's reduce_on_plateau)

    and in the warm-up it climbs straight from 0 to that of t = 0 (Goyal et al. 2017).

    Returns:
      int32 steps, any shape -> float32 rates of that shape; or a float where the rate is constant.
    """
    return _along(schedule, optimizer.learning_rate, steps)


def others(config: Config, steps: int) -> dict[str, optax.Schedule]:
    """The numbers of schedule.others by their keys, each as `build` has the rate.

    That of word dropout changes between epochs alone: all of an epoch's steps have the first one's.
    """
    curves = {key: _along(curve, 1.0, steps) for key, curve in config.schedule.others.items()}
    if WORD_DROPOUT in curves:
        curve, epoch = curves[WORD_DROPOUT], max(1, steps // config.train.epochs)
        curves[WORD_DROPOUT] = lambda step: curve(step // epoch * epoch)
    return {key: _times(value(config, key), curve) for key, curve in curves.items()}


def _times(number: float, curve: optax.Schedule) -> optax.Schedule:
    return lambda step: number * curve(step)


def _along(schedule: Curve, peak: float, steps: int) -> optax.Schedule:
    warmup = _warmup(schedule, steps)
    after = _after_warmup(schedule, peak, steps, steps - warmup)
    if not warmup:
        return after
    first = peak * _first(schedule, steps - warmup)
    return optax.join_schedules([optax.linear_schedule(0.0, first, warmup), after], [warmup])


def seams(schedule: ScheduleConfig, steps: int) -> dict[int, str]:
    """The steps at which a schedule turns from one of its parts to the next, with what begins there."""
    warmup = _warmup(schedule, steps)
    length = steps - warmup
    found = {warmup: "warm-up is over"} if warmup else {}
    match schedule.name:
        case "cosine":
            found |= {warmup + bound: "restart" for bound in _cycles(schedule, length)[:-1]}
        case "one_cycle" if climb := _climb(schedule, length):
            found |= {warmup + climb: "climb is over"}
        case "warmup_stable_decay":
            found |= {steps - _decay(schedule, steps, length): "decay begins"}
    return found


def _after_warmup(schedule: Curve, peak: float, steps: int, length: int) -> optax.Schedule:
    every = max(1, round(schedule.every * steps))
    last = peak * schedule.final
    match schedule.name:
        case "constant" | "plateau":
            return optax.constant_schedule(peak)
        case "step":
            return optax.exponential_decay(peak, every, schedule.factor, staircase=True)
        case "exponential":
            return optax.exponential_decay(peak, every, schedule.factor)
        case "inverse_time":
            return lambda step: peak / (1 + jnp.maximum(step, 0) / every)
        case "inverse_sqrt":
            return lambda step: peak / jnp.sqrt(1 + jnp.maximum(step, 0) / every)
        case "linear":
            return optax.linear_schedule(peak, last, length)
        case "polynomial":
            return optax.polynomial_schedule(peak, last, schedule.power, length)
        case "cosine":
            bounds = _cycles(schedule, length)
            lengths = [end - start for start, end in zip([0, *bounds], bounds, strict=False)]
            cycles = [optax.cosine_decay_schedule(peak, steps, schedule.final) for steps in lengths]
            return optax.join_schedules(cycles, bounds[:-1])
        case "one_cycle":
            return _one_cycle(schedule, peak, length)
        case "triangular":
            if length == 1:
                return optax.constant_schedule(peak)
            # One of less than two steps may have them all at its ends.
            cycle = length / min(schedule.cycles, length // 2)

            def triangular(step: int) -> object:
                place = jnp.clip(step, 0, length) / cycle
                height = 1 - jnp.abs(2 * (place - jnp.floor(place)) - 1)
                return peak * (schedule.start + (1 - schedule.start) * height)

            return triangular
        case "warmup_stable_decay":
            decay = _decay(schedule, steps, length)
            fall = optax.linear_schedule(peak, last, decay)
            return optax.join_schedules([optax.constant_schedule(peak), fall], [length - decay])


def _one_cycle(schedule: Curve, peak: float, length: int) -> optax.Schedule:
    climb = _climb(schedule, length)
    down = optax.cosine_decay_schedule(peak, length - climb, schedule.final)
    if not climb:
        return down
    # Half a cosine upwards is what one downwards leaves; a start too small to be added to 1 is its start all the same.
    left = optax.cosine_decay_schedule(1.0, climb)

    def up(step: int) -> object:
        return peak * (schedule.start + (1 - schedule.start) * (1 - left(step)))

    return optax.join_schedules([up, down], [climb])


def _warmup(schedule: Curve, steps: int) -> int:
    return min(round(schedule.warmup * steps), steps - 1)


def _first(schedule: Curve, length: int) -> float:
    # The factor at t = 0.
    match schedule.name:
        case "one_cycle" if _climb(schedule, length):
            return schedule.start
        case "triangular" if length > 1:
            return schedule.start
    return 1.0


def _climb(schedule: Curve, length: int) -> int:
    return min(round(schedule.climb * length), length - 1)


def _decay(schedule: Curve, steps: int, length: int) -> int:
    return min(max(1, round(schedule.decay * steps)), length)


def _cycles(schedule: Curve, length: int) -> list[int]:
    # Where each cycle ends; one that rounding leaves without a step is left out.
    sizes = [schedule.growth**n for n in range(schedule.cycles)]
    ends = {round(length * sum(sizes[: n + 1]) / sum(sizes)) for n in range(schedule.cycles)}
    return sorted(ends - {0})
