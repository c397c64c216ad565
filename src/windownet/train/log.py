"""What a run tells: a progress bar or plain lines on standard error, and `metrics.jsonl`."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from windownet.data.scores import Figures, Scores
from windownet.train.drift import Drift


class RunLog:
    """Writes the metrics of one run and shows how it goes.

    Records of `metrics.jsonl` have a `kind`: "step", one a compiled call, with the mean loss (nats a word) of its
    steps; "epoch", with dev scores (percent); "end", with the scores of the best model.
    """

    def __init__(self, metrics: Path, console: Console) -> None:
        self.console = console
        self._path = metrics
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._dev_f1 = "-"

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked."""
        self.console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, calls: int) -> Iterator[None]:
        """Show a bar over all calls of the run, where there is a terminal to show it on."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  dev F1 {task.fields[dev_f1]}  {task.fields[speed]} tokens/s"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True) as self._progress:
            self._task = self._progress.add_task("", total=calls, epoch=1, loss="-", dev_f1="-", speed="-")
            try:
                yield
            finally:
                self._progress = None

    def steps(self, *, epoch: int, step: int, loss: float, tokens_per_second: float) -> None:
        """Record one compiled call that ended with `step`."""
        self._write(kind="step", epoch=epoch, step=step, loss=loss, tokens_per_second=round(tokens_per_second))
        if self._progress is not None and self._task is not None:
            speed = f"{tokens_per_second:,.0f}"
            self._progress.update(self._task, advance=1, epoch=epoch, loss=f"{loss:.4f}", speed=speed)

    def epoch(
        self, *, epoch: int, epochs: int, step: int, loss: float, tokens_per_second: float, dev: Scores, best: bool
    ) -> None:
        """Record an epoch with its dev scores."""
        self._write(
            kind="epoch",
            epoch=epoch,
            step=step,
            loss=loss,
            tokens_per_second=round(tokens_per_second),
            dev=dev.to_json(),
            best=best,
        )
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, dev_f1=f"{dev.f1:.2f}")
        remarks = [remark for remark, holds in (("best", best), ("only O", dev.predicts_only_outside)) if holds]
        self.say(
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {loss:.4f}  dev F1 {dev.f1:6.2f}  "
            f"{tokens_per_second:>9,.0f} tokens/s  {', '.join(remarks)}".rstrip()
        )

    def end(self, **figures: Any) -> None:
        """Record how the run ended."""
        self._write(kind="end", **figures)

    def _write(self, **record: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")


def scores_table(title: str, scores: Scores) -> Table:
    """Precision, recall and F1, percent, by type and over all."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("type")
    for name in ("precision", "recall", "F1", "gold", "predicted", "correct"):
        table.add_column(name, justify="right")

    def add(name: str, figures: Figures) -> None:
        percents = (f"{x:.2f}" for x in (figures.precision, figures.recall, figures.f1))
        table.add_row(Text(name), *percents, *map(str, (figures.gold, figures.predicted, figures.correct)))

    for name, figures in scores.by_type.items():
        add(name, figures)
    table.add_section()
    add("all", scores)
    return table


def drift_table(drift: Drift, neighbours: int = 4) -> Table:
    """The words that moved most as a table for a terminal."""
    table = Table(title="words that moved most", title_justify="left")
    table.add_column("word")
    for name in ("in training", "distance", "cosine"):
        table.add_column(name, justify="right")
    table.add_column("nearest before")
    table.add_column("nearest after")
    for moved in drift.most:
        near = (escape(", ".join(words[:neighbours])) for words in (moved.before, moved.after))
        table.add_row(escape(moved.word), f"{moved.count:,}", f"{moved.distance:.3f}", f"{moved.cosine:.3f}", *near)
    return table
