"""What a run tells: a progress bar or plain lines on standard error, and `metrics.jsonl`."""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from windownet import checkpoint
from windownet.data.scores import Scores
from windownet.train.levels import LEVELS, Level


class Logger(Protocol):
    """What else is told of a run: `loop.train` takes any number of them.

    All three are called from the thread that trains, between two calls of the compiled program; what they raise ends
    the run, and comes out of `loop.train` as it is.
    """

    def begin(self, folder: Path, step: int) -> None:
        """A run begins in `folder`, or goes on with `step` steps done: what was told of later steps is void."""

    def record(self, record: Mapping[str, Any]) -> None:
        """A record of `metrics.jsonl`, see `RunLog`."""

    def end(self) -> None:
        """Nothing more will come; called however the run ends, once `begin` has returned."""


class RunLog:
    """Writes the metrics of one run and shows how it goes.

    Records of `metrics.jsonl` have a `kind`: "step", one a compiled call, with the mean loss (nats a word) of its
    steps and, if asked for, `statistics` (see `windownet.train.statistics`); "epoch", with dev scores (percent); "end",
    with the scores of the best model. All have the `time`, Unix seconds.

    Args:
      metrics: the file.
      console: where to show how it goes.
      level: what to show; at "warning" and "error" there is neither progress nor a line an epoch.
      loggers: who else is told.
      writers: the same, of those that write into the run's own folder.

    Attributes:
      foreign: an OSError that one of `loggers` raised, which says nothing about the run's folder.
    """

    def __init__(
        self,
        metrics: Path,
        console: Console,
        level: Level = "info",
        loggers: Sequence[Logger] = (),
        writers: Sequence[Logger] = (),
    ) -> None:
        self.console = console
        self.foreign: OSError | None = None
        self._path = metrics
        self._level = LEVELS.index(level)
        self._loggers, self._writers = loggers, writers
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """One plain line."""
        if self._shows("info"):
            self.console.print(escape(text), highlight=False, soft_wrap=True)

    def debug(self, text: str) -> None:
        """One plain line that few want to read."""
        if self._shows("debug"):
            self.console.print(escape(text), highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked."""
        if self._shows("warning"):
            self.console.print(f"[bold yellow]warning:[/] {escape(text)}", highlight=False, soft_wrap=True)

    def _shows(self, level: Level) -> bool:
        return LEVELS.index(level) >= self._level

    @contextmanager
    def telling(self, step: int, metrics_bytes: int) -> Iterator[None]:
        """Tell of a run from `step` on, behind the first `metrics_bytes` of what the file has.

        Raises:
          InputError: it has less.
        """
        checkpoint.cut_back(self._path, metrics_bytes)
        with ExitStack() as begun:
            for logger in (*self._writers, *self._loggers):
                self._call(logger, logger.begin, self._path.parent, step)
                begun.callback(self._call, logger, logger.end)
            yield

    @contextmanager
    def progress(self, calls: int, done: int) -> Iterator[None]:
        """Show a bar over all calls of the run, `done` of them already, where there is a terminal to show it on."""
        if not (self.console.is_terminal and self._shows("info")):
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
            self._task = self._progress.add_task(
                "", total=calls, completed=done, epoch=1, loss="-", dev_f1="-", speed="-"
            )
            try:
                yield
            finally:
                self._progress = None

    def steps(
        self, *, epoch: int, step: int, loss: float, tokens_per_second: float, statistics: Mapping[str, float]
    ) -> None:
        """Record one compiled call that ended with `step`."""
        speed = round(tokens_per_second)
        more = {"statistics": statistics} if statistics else {}
        self._write(kind="step", epoch=epoch, step=step, loss=loss, tokens_per_second=speed, **more)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=1, epoch=epoch, loss=f"{loss:.4f}", speed=f"{speed:,}")

    def epoch(
        self,
        *,
        epoch: int,
        epochs: int,
        step: int,
        loss: float,
        tokens_per_second: float | None,
        dev: Scores,
        best: bool,
    ) -> None:
        """Record an epoch with its dev scores; its speed is None where all its calls compiled."""
        speed = None if tokens_per_second is None else round(tokens_per_second)
        self._write(
            kind="epoch",
            epoch=epoch,
            step=step,
            loss=loss,
            tokens_per_second=speed,
            dev=dev.to_json(),
            best=best,
        )
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, dev_f1=f"{dev.f1:.2f}")
        remarks = [remark for remark, holds in (("best", best), ("only O", dev.predicts_only_outside)) if holds]
        self.say(
            f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {loss:.4f}  dev F1 {dev.f1:6.2f}  "
            f"{'-' if speed is None else f'{speed:,}':>9} tokens/s  {', '.join(remarks)}".rstrip()
        )

    def end(self, **figures: Any) -> None:
        """Record how the run ended."""
        self._write(kind="end", **figures)

    def _write(self, **record: Any) -> None:
        record["time"] = round(time.time(), 3)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for logger in (*self._writers, *self._loggers):
            # What one of them does to its record must not reach the next.
            self._call(logger, logger.record, copy.deepcopy(record))

    def _call(self, logger: Logger, method: Callable[..., None], *args: Any) -> None:
        try:
            method(*args)
        except OSError as error:
            if logger not in self._writers:
                self.foreign = error
            raise
