"""The checkpoints of a run: what they note beside the state of its steps, and whether it may go on from one."""

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from windownet import checkpoint, config as config_module
from windownet.checkpoint import Checkpoint
from windownet.errors import InputError
from windownet.schema import Config
from windownet.tagger import artifact
from windownet.train import run_folder
from windownet.train.environment import JAX_SETTINGS, LIBRARIES, require_same_data
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
        return f"; go on after step {self.step:,} with `windownet train --resume {self._run}`" if self.step else ""

    def are_due(self) -> bool:
        """Whether the next one is."""
        return time.monotonic() - self._saved >= self._config.train.checkpoint_every

    def save(self, state: Any, step: int, progress: Progress, environment: dict[str, Any]) -> None:
        """Write one.

        Raises:
          OSError: it could not be written; those before it stand.
        """
        start, metrics = time.monotonic(), self._run / run_folder.METRICS
        about = {
            "progress": asdict(progress),
            "config": self._config.model_dump(mode="json"),
            "environment": environment,
            "metrics_bytes": metrics.stat().st_size,
        }
        keep = self._config.train.keep_checkpoints
        path = checkpoint.save(state, step, about, self._folder, keep=keep, beside=[metrics])
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
            self._log.say(f"{self._run}: there is no checkpoint yet; beginning with the first step")
            return None
        for warning in check(found, self._config, environment):
            self._log.warn(warning)
        for name in (run_folder.BEST, run_folder.LAST):
            artifact.put_back(self._run / name)
        if found.about["progress"]["best_epoch"]:
            # A run is not gone on with for hours only to find at its end that its best model is lost.
            artifact.load(self._run / run_folder.BEST)
        self.step = found.step
        self._log.say(f"going on after step {found.step:,}, in epoch {found.about['progress']['epoch']}; {found.path}")
        return found

    def delete(self) -> None:
        """Delete all: a run that has finished needs none."""
        shutil.rmtree(self._folder, ignore_errors=True)


def check(checkpoint: Checkpoint, config: Config, environment: dict[str, Any]) -> list[str]:
    """Whether a run of `config` in `environment` that goes on from a checkpoint has the bits of one that never stopped.

    Returns:
      Warnings.

    Raises:
      InputError: it has not; names the first difference.
    """
    then = checkpoint.about
    required, came = (flatten(tree) for tree in (then["config"], config.model_dump(mode="json")))
    if (key := _first_difference(required, came)) is not None:
        raise _differs(checkpoint.path, key, required.get(key), came.get(key), "leave the config as it was")
    required, came = flatten(then["environment"]), flatten(environment)
    for name in ("windownet", *LIBRARIES):
        key = f"versions.{name}"
        if required[key] != came[key]:
            raise _differs(checkpoint.path, name, required[key], came[key], "install that version")
    for name in ("platform", "kind", "xla_flags", *JAX_SETTINGS):
        key = f"device.{name}"
        if required.get(key) != came[key]:
            what_to_do = "go on with the same device and settings"
            raise _differs(checkpoint.path, key, required.get(key), came[key], what_to_do)
    require_same_data(checkpoint.path, then["environment"]["data"], environment["data"])
    return [
        f"the run began on another machine ({key}: {required[key]}, now {came[key]}); the last bits may differ from "
        "those of a run that stayed on one"
        for key in ("device.processor", "device.cores")
        if required[key] != came[key]
    ][:1]


def require_own_folder(folder: Path, config: Config, begun: bool = False) -> None:
    """Whether a run of `config` may train from the first step in a folder, or again where it had `begun`.

    Raises:
      InputError: the folder is of another config, or a run in it has finished or, if not allowed, begun.
    """
    path, metrics = folder / run_folder.CONFIG, folder / run_folder.METRICS
    if not path.is_file():
        raise InputError(f"{folder}: required a folder that run_folder.create made, found no {path.name} in it")
    required, came = (flatten(each.model_dump(mode="json")) for each in (config, config_module.load(path)))
    if (key := _first_difference(required, came)) is not None:
        raise InputError(
            f"{path}: required the config that the run was prepared from, with {key} = {required[key]!r}, got "
            f"{came[key]!r}; make another folder"
        )
    if begun and run_folder.last_record(metrics, "end") is not None:
        raise InputError(f"{folder}: required a run that was cut off, got one that has finished; there is nothing left")
    if not begun and metrics.exists() and metrics.stat().st_size:
        raise InputError(
            f"{folder}: required a run folder in which nothing has trained, got one with records in {metrics.name}; "
            "resume it, or make another folder"
        )


def _first_difference(required: dict[str, Any], came: dict[str, Any]) -> str | None:
    for key in [*required, *came]:
        # As text, which has the order: of patterns the first that matches decides.
        if key not in FREE and json.dumps(required.get(key)) != json.dumps(came.get(key)):
            return key
    return None


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """Fields of sections by their names, `section.key`."""
    return {
        f"{section}.{key}": value
        for section, fields in tree.items()
        if isinstance(fields, dict)
        for key, value in fields.items()
    }


def _differs(path: Path, key: str, required: object, came: object, what_to_do: str) -> InputError:
    return InputError(
        f"{path}: required {key} = {required!r}, as the run began with, got {came!r}; {what_to_do}, or begin a new run"
    )
