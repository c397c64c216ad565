"""Learning rates: too low, right, too high; and constant, decaying or cosine at the same peak.

SGD, whose step is the rate times the gradient and nothing else. All constant rates and seeds are one compiled program;
then the best of them and one above it are peaks of schedules.

    python scripts/learning_rates.py --figure docs/learning_rates.png
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
    "optimizer.name=sgd",
    "optimizer.rows=dense",
    "train.epochs=15",
)
RATES = (0.001, 0.01, 0.1, 0.3, 1.0, 2.0, 3.0, 4.0, 10.0)
SCHEDULES = ("constant", "step", "exponential", "cosine")
VARIED = ("optimizer.learning_rate", "schedule.name", "train.seed")


@dataclass(frozen=True)
class Curve:
    """R runs at one peak rate and schedule: losses [R][epochs] in nats and dev F1 [R] in percent, after the last."""

    rate: float
    schedule: str
    losses: list[list[float]]
    f1: list[float]

    @property
    def last(self) -> list[float]:
        """The last epoch's loss of each run; infinite where a run has left the numbers."""
        return [run[-1] if math.isfinite(run[-1]) else math.inf for run in self.losses]


def measure(config: Config, schedule: str, rates: tuple[float, ...], seeds: int, console: Console) -> list[Curve]:
    chosen = config_module.change(config, {"schedule.name": schedule})
    settings = experiment.grid({"optimizer.learning_rate": rates, "train.seed": range(seeds)})
    outcomes = experiment.run(chosen, settings, console, every=config.train.epochs)
    curves = []
    for rate in rates:
        mine = [o for o in outcomes if o.settings["optimizer.learning_rate"] == rate]
        curves.append(Curve(rate, schedule, [list(o.losses) for o in mine], [o.dev[-1].f1 for o in mine]))
    return curves


def best(constant: list[Curve]) -> Curve:
    """The constant rate of the least mean loss in the end."""
    return min(constant, key=lambda c: float(np.mean(c.last)))


def above(constant: list[Curve], chosen: Curve) -> float:
    """The next higher rate that was tried; the rate itself if it is the highest."""
    return min((c.rate for c in constant if c.rate > chosen.rate), default=chosen.rate)


def verdict(constant: list[Curve], scheduled: list[Curve]) -> str:
    """`constant` at all rates; `scheduled` at the best of them and the one above it."""
    chosen = best(constant)
    worse = [c for c in constant if c is not chosen and _worse(c, chosen)]
    low, high = ([c for c in worse if (c.rate < chosen.rate) == is_low] for is_low in (True, False))
    epochs = len(chosen.losses[0])
    never = [c for c in high if epochs > 1 and not min(c.last) < 0.9 * float(np.mean([run[0] for run in c.losses]))]
    parts = [f"The best constant rate is {chosen.rate:g} (loss {_lecture.plus_minus(chosen.last, 3)} in the end)."]
    parts.append(f"Too low, so that the loss is still above that: {_rates(low)}." if low else "NONE tried is too low.")
    parts.append(f"Too high: {_rates(high)}." if high else "NONE tried is too high.")
    if never:
        parts.append(f"At {_rates(never)} the loss does not come down at all.")
    for peak in dict.fromkeys(c.rate for c in scheduled):
        same = {c.schedule: c for c in (*constant, *scheduled) if c.rate == peak}
        falling = [name for name in same if name != "constant"]
        gains = [name for name in falling if _worse(same["constant"], same[name])]
        losses = [name for name in falling if _worse(same[name], same["constant"])]
        level = [name for name in falling if name not in gains + losses]
        said = [f"{_end(names)} {where}" for names, where in ((gains, "below constant"), (losses, "above it")) if names]
        said += [f"the seeds do NOT tell {_all(level)} from it"] if level else []
        parts.append(f"At a peak of {peak:g} {', '.join(said)}.")
    return " ".join([*parts, *_begun_higher(chosen, [c for c in scheduled if c.rate > chosen.rate])])


def _begun_higher(chosen: Curve, higher: list[Curve]) -> list[str]:
    """Whether schedules that begin above the best constant rate end as low as it does."""
    lower = [c.schedule for c in higher if _worse(chosen, c)]
    short = [c.schedule for c in higher if _worse(c, chosen)]
    level = [c.schedule for c in higher if c.schedule not in lower + short]
    said = [f"{_end(lower)} below the best constant rate"] if lower else []
    said += [f"the seeds do NOT tell {_all(level)} from the best constant rate"] if level else []
    said += [f"{_end(short)} above the best constant rate, NOT settled by then"] if short else []
    return [f"Begun at {higher[0].rate:g}, {'; '.join(said)}."] if higher else []


def _end(names: list[str]) -> str:
    return f"{_all(names)} {'end' if len(names) > 1 else 'ends'}"


def _all(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _worse(a: Curve, b: Curve) -> bool:
    """Whether a ends above b, beyond what seeds explain; a run that left the numbers is above all."""
    if not all(map(math.isfinite, (*a.last, *b.last))):
        return max(a.last) > max(b.last)
    # Losses of runs that nearly diverged differ by factors, and an interval of them would hold anything.
    return _lecture.apart(np.log(a.last).tolist(), np.log(b.last).tolist())


def _rates(curves: list[Curve]) -> str:
    return ", ".join(f"{c.rate:g}" for c in curves)


def table(curves: list[Curve]) -> str:
    rows = []
    for c in curves:
        finite = all(map(math.isfinite, c.last))
        loss = _lecture.plus_minus(c.last, 3) if finite else "not finite"
        rows.append((f"{c.rate:g}", c.schedule, loss, _lecture.plus_minus(c.f1, 1)))
    return _lecture.table(("peak rate", "schedule", "loss of the last epoch", "dev F1 at the end"), rows)


def draw(constant: list[Curve], scheduled: list[Curve], file: Path | None) -> None:
    with _lecture.figure(file, 1, 2, (9.5, 3.8), sharey=True) as axes:
        if axes is None:
            return
        left, right = axes[0]
        chosen = best(constant)
        epochs = range(1, len(chosen.losses[0]) + 1)
        top = 2 * max(chosen.losses[0][0], *(run[0] for run in constant[0].losses))
        for c in constant:
            colour = _lecture.BLUE if c is chosen else _lecture.LIGHT if c.rate < chosen.rate else _lecture.RED
            means = np.nan_to_num(np.mean(c.losses, axis=0), nan=math.inf)
            left.plot(epochs, np.minimum(means, 10 * top), color=colour)
            if means[-1] < top:
                place = {"xytext": (4, -3), "textcoords": "offset points"}
                left.annotate(f"{c.rate:g}", (epochs[-1], means[-1]), color=colour, **place)
        beyond = [c for c in constant if not float(np.mean(c.last)) < top]
        left.text(0.98, 0.96, f"beyond: {_rates(beyond)}", color=_lecture.RED, ha="right", transform=left.transAxes)
        left.set_title("constant: too low, best, too high", loc="left")
        peaks = list(dict.fromkeys(c.rate for c in scheduled))
        colours = dict(zip(SCHEDULES, (_lecture.GREY, _lecture.RED, _lecture.LIGHT, _lecture.BLUE), strict=True))
        for c in [c for c in constant if c.rate in peaks] + scheduled:
            style = "-" if c.rate == peaks[0] else ":"
            means = np.nan_to_num(np.mean(c.losses, axis=0), nan=math.inf)
            label = f"{c.schedule}, peak {c.rate:g}{'' if min(means) < top else ' (beyond)'}"
            right.plot(epochs, np.minimum(means, 10 * top), style, color=colours[c.schedule], label=label)
        right.legend(frameon=False, fontsize=7, loc="lower left")
        right.set_title("schedules, at the best rate and the one above", loc="left")
        left.set_yscale("log")
        left.set_ylim(top=top)
        left.set_ylabel("training loss, nats a word")
        for axis in axes[0]:
            axis.set_xlabel("epoch")


def main() -> None:
    args = _lecture.training_parser(__doc__, seeds=3).parse_intermixed_args()
    config, console = _lecture.config(args, *SMALL, varied=VARIED), _lecture.console()
    constant = measure(config, SCHEDULES[0], RATES, args.seeds, console)
    chosen = best(constant)
    peaks = tuple(sorted({chosen.rate, above(constant, chosen)}))
    scheduled = [c for name in SCHEDULES[1:] for c in measure(config, name, peaks, args.seeds, console)]
    _lecture.report(args, table(constant + scheduled), verdict(constant, scheduled))
    draw(constant, scheduled, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
