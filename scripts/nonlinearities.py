"""Nonlinearities: their curves and derivatives, and what becomes of hidden units in training.

Every nonlinearity's curve and its rule's slope; then the same network trained with each, several seeds, and looked
into: a unit is dead if its slope is zero on every training window, so that no gradient reaches it any more; a value is
saturated where the slope is under a tenth of the largest that the nonlinearity has.

    python scripts/nonlinearities.py --figure docs/nonlinearities.png
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

import _inside
import _lecture
from windownet import config as config_module
from windownet.autodiff import ops
from windownet.autodiff.graph import primal, record
from windownet.errors import InputError
from windownet.model.network import Params, WindowNetwork
from windownet.schema.choices import Nonlinearity
from windownet.schema.config import Config
from windownet.train import statistics
from windownet.train.prepare import prepare

SMALL = (
    "data.limit=400",
    "model.hidden=[100]",
    "regularization.input_dropout=0",
    "regularization.hidden_dropout=0",
    "optimizer.learning_rate=0.003",
    "train.epochs=4",
)
NAMES: tuple[str, ...] = get_args(Nonlinearity)
# A rate at which units die: a ReLU that has does not come back.
HIGH_RATE = 0.2
AT_HIGH_RATE = ("relu", "leaky_relu", "elu")
SLOPE_OF_PRELU = 0.25
VARIED = ("model.nonlinearity", "train.seed")


@dataclass(frozen=True)
class Trained:
    """What became of one nonlinearity at one rate; one number a run, shares in percent."""

    name: str
    rate: float
    f1: list[float]
    dead: list[float]
    saturated: list[float]


def curve(name: str, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Values and slopes at x, by the op and its rule."""
    inputs = _inputs(name, x)
    y = ops.OPS[name](*inputs)
    return y, ops.OPS[name].cotangents(jnp.ones_like(y), y, *inputs)[0]


def trained(config: Config, name: str, rate: float, seeds: int) -> Trained:
    changes = {"model.nonlinearity": name, "optimizer.learning_rate": rate}
    prepared = prepare(config_module.change(config, changes))
    *_, (_, params, _) = _inside.epochs(prepared, range(seeds))
    part = _inside.Part(prepared, prepared.splits.train)
    dead, saturated = [], []
    for run in range(seeds):
        slopes = hidden_slopes(prepared.network, jax.tree.map(lambda x, run=run: x[run], params), part)
        dead.append(100 * float(statistics.dead(slopes).mean()))
        saturated.append(100 * float(statistics.saturated(name, slopes).mean()))
    _, f1 = _inside.Part(prepared, prepared.splits.dev)(params)
    return Trained(name, rate, f1, dead, saturated)


def hidden_slopes(network: WindowNetwork, params: Params, part: _inside.Part) -> np.ndarray:
    """The slope of the first hidden layer's nonlinearity at every window, [T, H], from the recorded graph."""
    found, op = [], ops.OPS[network.nonlinearity]
    for batch in part.batches:
        # The walk from the scores meets the last layer first.
        node = [n for n in _inside.nodes(network.scores(jax.tree.map(record, params), batch)) if n.op is op][-1]
        slope = op.cotangents(jnp.ones_like(node.value), node.value, *map(primal, node.inputs))[0]
        found.append(np.asarray(slope)[batch.mask])
    return np.concatenate(found)


def verdict(usual: list[Trained], high: list[Trained]) -> str:
    """`usual` holds every nonlinearity at the config's rate, `high` some of them at a high one."""
    by_name = {t.name: t for t in usual}
    mean = {name: float(np.mean(t.f1)) for name, t in by_name.items()}
    best = max(mean, key=mean.__getitem__)
    worst = min(mean, key=mean.__getitem__)
    tied = [n for n in mean if n != best and not _lecture.apart(by_name[best].f1, by_name[n].f1)]
    told = [n for n in mean if n not in (best, *tied)]
    dying, *others = sorted(high, key=lambda t: t.name != "relu")
    dies = _lecture.apart(dying.dead, by_name["relu"].dead)
    fewer = [_lecture.apart(dying.dead, t.dead) for t in others]
    at_usual, at_high = float(np.mean(by_name["relu"].dead)), float(np.mean(dying.dead))
    bounded = max(("sigmoid", "tanh", "hard_tanh"), key=lambda n: np.mean(by_name[n].saturated))
    return (
        f"{best} has the highest dev F1 ({_lecture.plus_minus(by_name[best].f1, 1)}), {worst} the lowest "
        f"({_lecture.plus_minus(by_name[worst].f1, 1)}); the seeds tell the highest from "
        + ("all others" if not tied else f"{', '.join(told)} only" if told else "NONE of the others")
        + f". At the usual rate of {usual[0].rate:g} {at_usual:.1f} % of ReLU's units are dead; at "
        f"{dying.rate:g} {at_high:.1f} %, "
        + ("which the high rate killed" if dies else "NOT more beyond chance")
        + "".join(
            f"; of {t.name} {np.mean(t.dead):.1f} %, {'fewer' if is_fewer else 'NOT fewer beyond chance'}"
            for t, is_fewer in zip(others, fewer, strict=True)
        )
        + f". Of the bounded ones {bounded} saturates most, in "
        f"{np.mean(by_name[bounded].saturated):.1f} % of its values."
    )


def table(all_trained: list[Trained]) -> str:
    rows = [
        (t.name, f"{t.rate:g}", *(_lecture.plus_minus(values, 1) for values in (t.f1, t.dead, t.saturated)))
        for t in all_trained
    ]
    return _lecture.table(("nonlinearity", "rate", "dev F1", "dead units, %", "saturated values, %"), rows)


def draw(all_trained: list[Trained], file: Path | None) -> None:
    with _lecture.figure(file, 3, 4, (9.5, 6.2), sharex=True, sharey=True) as axes:
        if axes is None:
            return
        x = jnp.linspace(-4, 4, 401)
        for axis, name in zip(axes.flat, NAMES, strict=False):
            y, slope = curve(name, x)
            axis.plot(x, y, color=_lecture.BLUE)
            axis.plot(x, slope, color=_lecture.RED)
            axis.axhline(0, color=_lecture.GREY, linewidth=0.6, zorder=0)
            axis.axvline(0, color=_lecture.GREY, linewidth=0.6, zorder=0)
            axis.set_ylim(-1.3, 2.2)
            axis.set_title(name, loc="left", fontsize=10)
            t = next(t for t in all_trained if t.name == name)
            said = f"dead {np.mean(t.dead):.0f} %\nsaturated {np.mean(t.saturated):.0f} %"
            axis.text(0.04, 0.95, said, transform=axis.transAxes, va="top", fontsize=8)
        for axis in list(axes.flat)[len(NAMES) :]:
            axis.axis("off")
            axis.text(0.05, 0.8, "value", color=_lecture.BLUE, transform=axis.transAxes)
            axis.text(0.05, 0.65, "slope, by the rule", color=_lecture.RED, transform=axis.transAxes)
            axis.text(0.05, 0.35, "dead units, saturated values:\nafter training", transform=axis.transAxes, fontsize=9)


def main() -> None:
    args = _lecture.training_parser(__doc__, seeds=12).parse_intermixed_args()
    config = _lecture.config(args, *SMALL, varied=VARIED)
    _lecture.require_hidden(config)
    if config.optimizer.learning_rate >= HIGH_RATE:
        raise InputError(
            f"optimizer.learning_rate: required a usual rate, below the high one of {HIGH_RATE:g}, got "
            f"{config.optimizer.learning_rate:g}; lower it"
        )
    usual = [trained(config, name, config.optimizer.learning_rate, args.seeds) for name in NAMES]
    high = [trained(config, name, HIGH_RATE, args.seeds) for name in AT_HIGH_RATE]
    _lecture.report(args, table(usual + high), verdict(usual, high))
    draw(usual, args.figure)


def _inputs(name: str, x: jax.Array) -> Sequence[jax.Array]:
    return (x, jnp.full(x.shape[-1:], SLOPE_OF_PRELU)) if name == "prelu" else (x,)


if __name__ == "__main__":
    _lecture.run(main)
