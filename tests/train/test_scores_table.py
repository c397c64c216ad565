"""Scores as they are shown, however narrow the terminal is."""

import re

import pytest
from rich.console import Console

from windownet.data.scores import score
from windownet.train.scores_table import scores_table

GOLD = [["B-PER", "O", "B-creative-work", "B-MISC"]] * 12_345
FOUND = [["B-PER", "B-PER", "B-creative-work", "O"]] * 12_345
PERCENTS = {"PER": ("50.00", "100.00", "66.67"), "creative-work": ("100.00",) * 3, "MISC": ("0.00",) * 3}
PERCENTS["all"] = ("66.67", "66.67", "66.67")


@pytest.mark.parametrize("width", [10, 24, 33, 38, 39, 47, 60, 75, 76, 77, 78, 120])
def test_no_figure_is_cut(width):
    console = Console(width=width)
    with console.capture() as captured:
        console.print(scores_table("dev, model of epoch 3", score(GOLD, FOUND)))
    shown = captured.get()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    # A type's end may stand in the line below, without figures.
    figures = re.findall(r"\b\d+(?:\.\d\d)?\b", shown.partition("3")[2])
    expected = [figure for type in ("MISC", "PER", "creative-work", "all") for figure in PERCENTS[type]]
    assert [figure for figure in figures if "." in figure] == expected
    counts = [figure for figure in figures if "." not in figure]
    assert counts == [] if width < 76 else len(counts) == 12 and counts[-3:] == ["37035", "37035", "24690"]
    assert "creative-work" in shown or width < 80
