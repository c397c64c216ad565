"""What a run of `pretrain` tells: bars or plain lines on standard error, and `metrics.jsonl`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from windownet import metrics

_LINES = 10


class PretrainLog:
    """Writes the metrics of one run and shows how it goes.

    Records of `metrics.jsonl` have a `kind`: "text", what the text holds; "step", one a compiled call, with the mean
    loss of a pair or window in its first block, before that was learned; "resume"; "end", with this loss of the last
    call's first block after the last step.
    """

    def __init__(self, path: Path, console: Console) -> None:
        self.console = console
        self._path = path
        self._advance: Callable[..., None] | None = None
        self._share = 0.0
        self._said = 0

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked."""
        self.console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    @contextmanager
    def training(self, share: float) -> Iterator[None]:
        """Show a bar over the run, `share` of it already done, where there is a terminal to show it on."""
        self._share, self._said = share, int(share * _LINES)
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
            bar.update(task, completed=share)
            self._advance = lambda share, **fields: bar.update(task, completed=share, **fields)
            try:
                yield
            finally:
                self._advance = None

    def step(self, *, step: int, loss: float | None, share: float, words_per_second: float) -> None:
        """Record one compiled call that ended with block `step`, `share` of the run done.

        The loss is None where its block had no pair or window.
        """
        self.record("step", step=step, loss=loss, share=round(share, 4), words_per_second=round(words_per_second))
        if self._advance is not None:
            self._advance(share, loss=_shown(loss), speed=f"{words_per_second:,.0f}")
        # The loss is that of the model before the call, so what was done by then is told with it.
        elif self._said < (tenths := int(self._share * _LINES)) < _LINES:
            self._said = tenths
            self._line(self._share, loss, words_per_second)
        self._share = share

    def end(self, *, loss: float | None, words_per_second: float | None, **figures: Any) -> None:
        """Record how the run ended; the loss is None where there was none to learn, the speed where all compiled."""
        speed = None if words_per_second is None else round(words_per_second)
        self.record("end", loss=loss, words_per_second=speed, **figures)
        self._line(1.0, loss, words_per_second)
        first = self._first_loss()
        if loss is not None and first is not None and loss > first:
            self.warn(
                f"the last loss, {_shown(loss)}, is above the first, {_shown(first)}, so nothing good was learned; "
                "lower pretrain.learning_rate"
            )

    def _first_loss(self) -> float | None:
        # A run that was resumed has told it in another process.
        steps = (record for record in metrics.read(self._path) if record.kind == "step")
        losses = (record.number("loss", required=False) for record in steps)
        return next((loss for loss in losses if loss is not None), None)

    def _line(self, share: float, loss: float | None, speed: float | None) -> None:
        self.say(f"{share:4.0%}  loss {_shown(loss)}  {'-' if speed is None else f'{speed:,.0f}':>9} words/s")

    def record(self, kind: str, **figures: Any) -> None:
        """Write one record."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **figures, "time": round(time.time(), 3)}) + "\n")


def _shown(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}" if loss < 1e6 else f"{loss:.4g}"
