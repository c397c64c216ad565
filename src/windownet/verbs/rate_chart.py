"""The learning rate of a run as a picture: in the terminal, and as a file."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from windownet.train.rate_curve import Curve
from windownet.verbs import picture

_WIDTH, _HEIGHT = 72, 8
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_PLAIN = " ...:::##"


def show(curve: Curve, console: Console) -> None:
    """Print a chart and a table of the rates that tell most."""
    steps = len(curve.rates)
    console.print(f"{curve.name}: {steps:,} steps, {curve.steps_an_epoch:,} an epoch", highlight=False)
    if curve.name == "plateau":
        console.print("its rate falls where dev scores no longer rise; this is its warm-up and peak", highlight=False)
    signs = _EIGHTHS if console.encoding.lower().startswith("utf") else _PLAIN
    for label, line in _chart(curve.rates, signs):
        console.print(f"{label:>9} {line}".rstrip(), highlight=False, markup=False, soft_wrap=True)
    table = Table()
    for head in ("step", "epoch", "rate", *curve.others):
        table.add_column(head.replace(".", ".\n"), justify="right")
    table.add_column("")
    for step, what in curve.marks.items():
        numbers = (f"{number[step]:.4g}" for number in (curve.rates, *curve.others.values()))
        table.add_row(f"{step:,}", str(step // curve.steps_an_epoch + 1), *numbers, what)
    console.print(table)


def draw(curve: Curve, file: Path) -> None:
    """Write a picture of the curve, and of the others below it.

    Raises:
      InputError: matplotlib is not there, or the file cannot be written.
    """
    figure = picture.blank("--png", height=3 + 1.5 * len(curve.others))
    drawn = {"learning rate": curve.rates, **curve.others}
    panels = figure.subplots(len(drawn), sharex=True, squeeze=False)[:, 0]
    for axes, (name, numbers) in zip(panels, drawn.items(), strict=True):
        axes.plot(np.arange(len(numbers)), numbers)
        axes.set(ylabel=name.replace(".", ".\n"), ylim=(0, None))
    panels[0].set_title(curve.name)
    panels[-1].set_xlabel("step")
    picture.save(figure, "--png", file)


def _chart(rates: np.ndarray, signs: str) -> list[tuple[str, str]]:
    # Each column is the highest of its steps, so that no peak falls between two.
    columns = [part.max() for part in np.array_split(rates, min(_WIDTH, len(rates)))]
    top = max(columns)
    eighths = [round(8 * _HEIGHT * column / top) if top else 0 for column in columns]
    lines = []
    for row in reversed(range(_HEIGHT)):
        line = "".join(signs[min(max(eighth - 8 * row, 0), 8)] for eighth in eighths)
        lines.append((f"{top:.3g}" if row == _HEIGHT - 1 else "0" if row == 0 else "", line))
    return lines
