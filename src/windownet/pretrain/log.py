"""What a run of `pretrain` tells: bars or plain lines on standard error, and `metrics.jsonl`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_LINES = 10


class PretrainLog:
    """Writes the metrics of one run and shows how it goes.

    Records of `metrics.jsonl` have a `kind`: "text", what the text holds; "step", one a compiled call, with the mean
    loss of a pair or window in its first block; "resume"; "end".
    """

    def __init__(self, metrics: Path, console: Console) -> None:
        self.console = console
        self._path = metrics
        self._advance: Callable[..., None] | None = None
        self._said = 0

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked."""
        self.console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    @contextmanager
    def reading(self) -> Iterator[Callable[[int, int], None] | None]:
        """Show a bar over the bytes of the text; yields what to tell of bytes read and bytes in all."""
        if not self.console.is_terminal:
            yield None
            return
        columns = ("reading", BarColumn(), DownloadColumn(), TimeRemainingColumn(compact=True))
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Show a bar over the run, where there is a terminal to show it on."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            "training",
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} words/s"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task("", total=1.0, loss="-", speed="-")
            self._advance = lambda share, **fields: bar.update(task, completed=share, **fields)
            try:
                yield
            finally:
                self._advance = None

    def step(self, *, step: int, loss: float, share: float, words_per_second: float) -> None:
        """Record one compiled call that ended with block `step`, `share` of the run done."""
        self.record("step", step=step, loss=loss, share=round(share, 4), words_per_second=round(words_per_second))
        if self._advance is not None:
            self._advance(share, loss=f"{loss:.4f}", speed=f"{words_per_second:,.0f}")
        elif int(share * _LINES) > self._said:
            self._said = int(share * _LINES)
            self.say(f"{share:4.0%}  loss {loss:.4f}  {words_per_second:>9,.0f} words/s")

    def record(self, kind: str, **figures: Any) -> None:
        """Write one record."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **figures, "time": round(time.time(), 3)}) + "\n")
