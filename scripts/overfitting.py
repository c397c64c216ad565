"""Overfitting and L2: the loss on training and on unseen sentences, epoch by epoch, with and without the penalty.

Few sentences and many epochs, so that the network can learn its data by heart. The losses are those of the network
itself, without dropout and without the penalty, so that they can be compared.

    python scripts/overfitting.py --figure docs/overfitting.png
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import _inside
import _lecture
from windownet import config as config_module
from windownet.schema.config import Config
from windownet.train.prepare import prepare

SMALL = (
    "data.limit=60",
    "features.min_count=1",
    "regularization.input_dropout=0",
    "regularization.hidden_dropout=0",
    "optimizer.learning_rate=0.003",
    # Adam divides by the root of mean squares; when nothing is left to learn they vanish, and it would jump.
    "optimizer.eps=1e-5",
    "train.epochs=40",
    "train.batch_size=32",
)
PENALTY = "regularization.l2"
VARIED = (PENALTY, "train.seed")
EVERY = 2


@dataclass(frozen=True)
class Curves:
    """R runs with one strength of the penalty: at N epochs losses [R][N] in nats and F1 on dev [R][N] in percent."""

    strength: float
    epochs: list[int]
    train: list[list[float]]
    dev: list[list[float]]
    f1: list[list[float]]

    def rise(self) -> list[float]:
        """By how much each run's dev loss ends above its least."""
        return [run[-1] - min(run) for run in self.dev]

    def gap(self) -> list[float]:
        """Dev loss above train loss in the end."""
        return [dev[-1] - train[-1] for dev, train in zip(self.dev, self.train, strict=True)]


def curves(config: Config, strength: float, seeds: int) -> Curves:
    prepared = prepare(config_module.change(config, {PENALTY: strength}))
    parts = [_inside.Part(prepared, prepared.splits.train), _inside.Part(prepared, prepared.splits.dev)]
    epochs, train, dev, f1 = [], [], [], []
    for epoch, params, _ in _inside.epochs(prepared, range(seeds)):
        if epoch % EVERY and epoch < prepared.config.train.epochs:
            continue
        epochs.append(epoch)
        (train_loss, _), (dev_loss, dev_f1) = (part(params) for part in parts)
        train.append(train_loss)
        dev.append(dev_loss)
        f1.append(dev_f1)
    return Curves(strength, epochs, *(np.transpose(values).tolist() for values in (train, dev, f1)))


def verdict(plain: Curves, penalized: Curves) -> str:
    overfits = _lecture.apart(plain.rise(), [0.0] * len(plain.dev)) and _lecture.apart(
        plain.gap(), [0.0] * len(plain.dev)
    )
    closer = _lecture.apart(plain.gap(), penalized.gap())
    lower = _lecture.apart([run[-1] for run in plain.dev], [run[-1] for run in penalized.dev])
    worst = max(run[-1] for run in plain.train)
    ends = [run[-1] for run in plain.f1], [run[-1] for run in penalized.f1]
    better = "higher" if _lecture.apart(ends[1], ends[0]) else "lower" if _lecture.apart(*ends) else "not apart"
    return (
        f"Without a penalty the training loss falls to {worst:.4f} or less, while the loss on unseen sentences "
        + (
            f"rises again, by {_lecture.plus_minus(plain.rise())} nats: the network overfits. "
            if overfits
            else "does NOT rise: on these data the network does not overfit. "
        )
        + f"With L2 of {penalized.strength:g} the gap between the two in the end is "
        f"{'smaller' if closer else 'NOT smaller'} ({_lecture.plus_minus(penalized.gap())} against "
        f"{_lecture.plus_minus(plain.gap())}), the loss on unseen sentences {'lower' if lower else 'NOT lower'}, and "
        f"dev F1 {better} ({_lecture.plus_minus(ends[1], 1)} against {_lecture.plus_minus(ends[0], 1)})."
    )


def table(all_curves: list[Curves]) -> str:
    rows = [
        (
            f"{c.strength:g}",
            _lecture.plus_minus([run[-1] for run in c.train], 3),
            _lecture.plus_minus([min(run) for run in c.dev], 3),
            _lecture.plus_minus([run[-1] for run in c.dev], 3),
            _lecture.plus_minus(c.gap(), 3),
            _lecture.plus_minus([run[-1] for run in c.f1], 1),
        )
        for c in all_curves
    ]
    head = (
        "L2",
        "train loss at the end",
        "least dev loss",
        "dev loss at the end",
        "gap at the end",
        "dev F1 at the end",
    )
    return _lecture.table(head, rows)


def draw(all_curves: list[Curves], file: Path | None) -> None:
    with _lecture.figure(file, 1, 2, (9, 3.4), sharey=True) as axes:
        if axes is None:
            return
        for axis, c in zip(axes[0], all_curves, strict=True):
            _lecture.band(axis, c.epochs, c.train, color=_lecture.BLUE, label="training sentences")
            _lecture.band(axis, c.epochs, c.dev, color=_lecture.RED, label="unseen sentences")
            axis.set_title(f"L2 = {c.strength:g}" if c.strength else "no penalty", loc="left")
            axis.set_xlabel("epoch")
            axis.set_ylim(0, 1.5 * max(max(run[1:]) for run in all_curves[0].dev))
        axes[0][0].set_ylabel("loss, nats a word")
        axes[0][0].legend(frameon=False)


def main() -> None:
    parser: argparse.ArgumentParser = _lecture.training_parser(__doc__, seeds=6)
    parser.add_argument("--l2", type=float, default=1e-3, help=f"strength of the penalty, {PENALTY}")
    args = parser.parse_intermixed_args()
    config = _lecture.config(args, *SMALL, varied=VARIED)
    found = [curves(config, strength, args.seeds) for strength in (0.0, args.l2)]
    _lecture.report(args, table(found), verdict(*found))
    draw(found, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
