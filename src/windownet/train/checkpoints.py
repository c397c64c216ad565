"""The checkpoints of a run: what they note beside the state of its steps, and whether it may go on from one."""

import shlex
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from windownet import checkpoint, config as config_module, machine, metrics, resume, run_folder
from windownet.checkpoint import Checkpoint
from windownet.errors import InputError
from windownet.metrics import METRICS
from windownet.resume import CONFIG
from windownet.schema.config import Config
from windownet.tagger import artifact
from windownet.train.environment import noted, require_same_data
from windownet.train.log import RunLog

# Fields that no bit of a run depends on. Where files lie is free because what is in them is compared.
FREE = ("data.root", "words.vectors", "train.checkpoint_every", "train.keep_checkpoints", "log.tensorboard")


@dataclass
class Progress:
    """Where a run stands, on the host's side.

    Attributes:
      epoch: the epoch that is being trained, from 1; all before it are finished.
      calls: compiled calls done in it.
      losses: of its steps so far, nats a word.
      best_epoch: the one of `model/`; 0 before there is one.
      best_f1: its dev F1, percent.
      f1: dev F1 of each epoch, percent.
      compilations: programs compiled so far, each counted once however often the run was resumed.
      seconds: wall time so far.
      timed_tokens: training words of all calls but those that compiled.
      timed_seconds: wall time of these calls.
    """

    epoch: int = 1
    calls: int = 0
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_f1: float = -1.0
    f1: list[float] = field(default_factory=list)
    compilations: int = 0
    seconds: float = 0.0
    timed_tokens: float = 0.0
    timed_seconds: float = 0.0


class Checkpoints:
    """Writes them when they are due, and finds the one to go on from.

    Attributes:
      step: steps done at the last one; 0 before there is one.
    """

    def __init__(self, folder: Path, config: Config, log: RunLog) -> None:
        self.step = 0
        self._run = folder
        self._folder = folder / run_folder.CHECKPOINTS
        self._config = config
        self._log = log
        self._saved = time.monotonic()

    @property
    def kept(self) -> str:
        """What a message about the run's end says of them; empty where there is none."""
        return (
            f"; go on after step {self.step:,} with `windownet train --resume {shlex.quote(str(self._run))}`"
            if self.step
            else ""
        )

    def are_due(self) -> bool:
        """Whether the next one is."""
        return time.monotonic() - self._saved >= self._config.train.checkpoint_every

    def save(self, state: Any, step: int, progress: Progress, environment: dict[str, Any]) -> None:
        """Write one.

        Raises:
          OSError: it could not be written; those before it stand.
        """
        start, told = time.monotonic(), self._run / METRICS
        about = {
            "progress": asdict(progress),
            "config": self._config.model_dump(mode="json"),
            "environment": environment,
            "metrics_bytes": told.stat().st_size,
        }
        keep = self._config.train.keep_checkpoints
        path = checkpoint.save(state, step, about, self._folder, keep=keep, beside=[told])
        self.step = step
        self._saved = time.monotonic()
        self._log.debug(f"{path}: {path.stat().st_size / 1e6:,.1f} MB in {self._saved - start:.3f} s")

    def load(self, environment: dict[str, Any]) -> Checkpoint | None:
        """The last whole one, if there is any; the run may go on from it.

        Raises:
          InputError: it may not, or none is whole, or the best model that it counts on is not.
        """
        if (found := checkpoint.load(self._folder, self._log.warn)) is None:
            require_own_folder(self._run, self._config, begun=True)
            path = self._run / run_folder.ENVIRONMENT
            require_same_data(path, noted(path), environment["data"])
            self._log.say(f"{self._run}: {self._none_yet()}; beginning with the first step")
            return None
        then = found.about
        resume.require_same_config(found.path, then["config"], self._config.model_dump(mode="json"), FREE)
        for warning in machine.require_same(found.path, then["environment"], environment):
            self._log.warn(warning)
        require_same_data(found.path, then["environment"]["data"], environment["data"])
        for name in (run_folder.BEST, run_folder.LAST):
            artifact.put_back(self._run / name)
        if found.about["progress"]["best_epoch"]:
            # A run is not gone on with for hours only to find at its end that its best model is lost.
            if not (best := self._run / run_folder.BEST).exists():
                raise InputError(
                    f"{best}: required the model of epoch {found.about['progress']['best_epoch']}, the run's best so "
                    "far, found nothing there; restore it, or begin a new run"
                )
            artifact.load(best)
        self.step = found.step
        self._log.say(f"going on after step {found.step:,}, in epoch {found.about['progress']['epoch']}; {found.path}")
        return found

    def _none_yet(self) -> str:
        every = self._config.train.checkpoint_every
        if (epoch := metrics.last(self._run / METRICS, "epoch")) is None:
            return "there is no checkpoint yet"
        return (
            f"there is no checkpoint (train.checkpoint_every = {every:g} s), though epochs were finished; all "
            f"{epoch.number('epoch', whole=True):,} are trained again, to the same bits"
        )

    def delete(self) -> None:
        """Delete all: a run that has finished needs none."""
        shutil.rmtree(self._folder, ignore_errors=True)


def require_own_folder(folder: Path, config: Config, begun: bool = False) -> None:
    """Whether a run of `config` may train from the first step in a folder, or again where it had `begun`.

    Raises:
      InputError: the folder is of another config, or a run in it has finished or, if not allowed, begun.
    """
    path, told = folder / CONFIG, folder / METRICS
    if not path.is_file():
        raise InputError(f"{folder}: required a folder that run_folder.create made, found no {path.name} in it")
    required, came = (each.model_dump(mode="json") for each in (config, config_module.load(path)))
    if (key := resume.first_difference(required, came, FREE)) is not None:
        required, came = resume.flatten(required), resume.flatten(came)
        raise InputError(
            f"{path}: required the config that the run was prepared from, with {key} = {required[key]!r}, got "
            f"{came[key]!r}; make another folder"
        )
    if begun and metrics.last(told, "end") is not None:
        raise InputError(f"{folder}: required a run that was cut off, got one that has finished; there is nothing left")
    if not begun and told.exists() and told.stat().st_size:
        raise InputError(
            f"{folder}: required a run folder in which nothing has trained, got one with records in {told.name}; "
            "resume it, or make another folder"
        )
