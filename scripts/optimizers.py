"""Optimizers: loss curves over seeds, each optimizer at the rate that suits it best of a few.

Rates and seeds of an optimizer are one compiled program. Its rate is the one with the least training loss in the end.

    python scripts/optimizers.py --figure docs/optimizers.png
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import _lecture
from windownet import config as config_module, experiment
from windownet.schema.config import Config

SMALL = (
    "data.limit=400",
    "model.hidden=[100]",
    "regularization.input_dropout=0",
    "regularization.hidden_dropout=0",
    # The table is small: all its rows at every step cost less than to remember what some of them missed.
    "optimizer.rows=dense",
    "train.epochs=5",
)
RATES = {
    "sgd": (0.3, 1.0, 2.0, 3.0),
    "momentum": (0.1, 0.3, 1.0),
    "nesterov": (0.1, 0.3, 1.0),
    "adagrad": (0.03, 0.1, 0.3, 1.0),
    "rmsprop": (3e-3, 1e-2, 3e-2),
    "adadelta": (3.0, 10.0, 30.0, 100.0),
    "adam": (3e-3, 1e-2, 3e-2),
    "adamw": (3e-3, 1e-2, 3e-2),
    "nadam": (3e-3, 1e-2, 3e-2),
    "radam": (3e-3, 1e-2, 3e-2, 1e-1),
    "lion": (1e-3, 3e-3, 1e-2),
}
# Without decay AdamW is Adam.
DECAY = {"adamw": 0.1}
PLAIN = "sgd"
ENDS = {"highest": max, "lowest": min}
VARIED = ("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay", "train.seed")


@dataclass(frozen=True)
class Curve:
    """An optimizer at its rate: R runs' losses [R][epochs] in nats and dev F1 [R] in percent, after the last."""

    name: str
    rate: float
    losses: list[list[float]]
    f1: list[float]

    @property
    def last(self) -> list[float]:
        """The last epoch's loss of each run."""
        return [run[-1] for run in self.losses]


def curve(config: Config, name: str, seeds: int, console: Console) -> Curve:
    chosen = config_module.change(config, {"optimizer.name": name, "optimizer.weight_decay": DECAY.get(name, 0.0)})
    settings = experiment.grid({"optimizer.learning_rate": RATES[name], "train.seed": range(seeds)})
    outcomes = experiment.run(chosen, settings, console, every=config.train.epochs)
    curves = []
    for rate in RATES[name]:
        mine = [o for o in outcomes if o.settings["optimizer.learning_rate"] == rate]
        curves.append(Curve(name, rate, [list(o.losses) for o in mine], [o.dev[-1].f1 for o in mine]))
    return best(curves)


def best(curves: list[Curve]) -> Curve:
    """The one of the least loss in the end; one that diverged is never it unless all did."""
    means = [float(np.mean(c.last)) for c in curves]
    return curves[min(range(len(curves)), key=lambda n: means[n] if math.isfinite(means[n]) else math.inf)]


def verdict(curves: list[Curve]) -> str:
    ranked = sorted(curves, key=lambda c: float(np.mean(c.last)))
    epochs, first, plain = len(ranked[0].losses[0]), ranked[0], next(c for c in curves if c.name == PLAIN)
    level = [c.name for c in ranked[1:] if not _lecture.apart(c.last, first.last)]
    faster = [c.name for c in ranked if c.name != PLAIN and _lecture.apart(plain.last, c.last)]
    slower = [c.name for c in ranked if c.name != PLAIN and _lecture.apart(c.last, plain.last)]
    return (
        f"After {epochs} epoch{'s'[: epochs > 1]} {first.name} has the least training loss "
        f"({_lecture.plus_minus(first.last, 3)})"
        + (f", which the seeds do not tell from {', '.join(level)}" if level else ", apart from all others")
        + f". Plain SGD at its best rate has {_lecture.plus_minus(plain.last, 3)}; "
        + (f"{', '.join(faster)} {'is' if len(faster) == 1 else 'are'} below it" if faster else "none is below it")
        + (f", {', '.join(slower)} above it" if slower else "")
        + "."
        + _at_an_end(curves)
    )


def _at_an_end(curves: list[Curve]) -> str:
    """Whose best rate is the highest or the lowest of its RATES, so that one beyond may be better still."""
    ends = {end: [c.name for c in curves if c.rate == pick(RATES[c.name])] for end, pick in ENDS.items()}
    said = [f"the {end} tried for {', '.join(names)}" for end, names in ends.items() if names]
    return f" The best rate is {' and '.join(said)}." if said else ""


def table(curves: list[Curve]) -> str:
    rows = [
        (
            c.name,
            f"{c.rate:g}",
            _lecture.plus_minus([run[0] for run in c.losses], 3),
            _lecture.plus_minus(c.last, 3),
            _lecture.plus_minus(c.f1, 1),
        )
        for c in curves
    ]
    head = ("optimizer", "rate", "loss of the first epoch", "loss of the last epoch", "dev F1 at the end")
    return _lecture.table(head, rows)


def draw(curves: list[Curve], file: Path | None) -> None:
    with _lecture.figure(file, 3, 4, (9.5, 6.2), sharex=True, sharey=True) as axes:
        if axes is None:
            return
        epochs = range(1, len(curves[0].losses[0]) + 1)
        for axis, mine in zip(axes.flat, curves, strict=False):
            for other in curves:
                axis.plot(epochs, np.mean(other.losses, axis=0), color=_lecture.GREY, linewidth=0.5, zorder=0)
            _lecture.band(axis, epochs, mine.losses, color=_lecture.BLUE)
            axis.set_yscale("log")
            axis.set_title(f"{mine.name}, rate {mine.rate:g}", loc="left", fontsize=10)
        for axis in list(axes.flat)[len(curves) :]:
            axis.axis("off")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        axes[1][0].set_ylabel("training loss, nats a word; mean and 95 % interval; grey: the others")


def main() -> None:
    args = _lecture.training_parser(__doc__, seeds=3).parse_intermixed_args()
    config, console = _lecture.config(args, *SMALL, varied=VARIED), _lecture.console()
    curves = [curve(config, name, args.seeds, console) for name in RATES]
    _lecture.report(args, table(curves), verdict(curves))
    draw(curves, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
