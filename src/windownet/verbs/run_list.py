"""The runs of a folder, as their own files tell of them; reads no weights, so it needs no jax."""

import fcntl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windownet import config as config_module, metrics, run_folder
from windownet.errors import InputError
from windownet.metrics import METRICS, is_number
from windownet.resume import CONFIG


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
      folder: its folder.
      state: "finished"; "running", while a process writes it; "resumable", where it was cut off behind a checkpoint;
        "cut off" without one.
      dev_f1: highest dev F1 of an epoch so far, percent; None before there is one.
      test_f1: test F1 of the best epoch's model, percent; None before the end or without a test part.
      best_epoch: the epoch of `dev_f1`.
      epoch: epochs done.
      epochs: epochs asked for.
      seconds: wall time, of a run that has finished.
      tokens_per_second: training words a second, of a run that has finished.
    """

    folder: Path
    state: str
    dev_f1: float | None
    test_f1: float | None
    best_epoch: int | None
    epoch: int
    epochs: int
    seconds: float | None
    tokens_per_second: float | None

    def to_json(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
        return {**asdict(self), "folder": str(self.folder)}


def find(folder: Path, warn: Callable[[str], None]) -> list[Run]:
    """The runs of taggers in the folders of `folder`, or the one that it is itself; the best first.

    Args:
      folder: where to look.
      warn: told of each run that is passed over, because a file of it cannot be read.

    Raises:
      InputError: there is no such folder, or a file of the run that it is cannot be read.
    """
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing there"
        raise InputError(f"{folder}: required a folder with run folders in it, found {came}; name another")
    if (folder / CONFIG).is_file():
        run = _read(folder)
        return [] if run is None else [run]
    runs = []
    for place in sorted(folder.iterdir()):
        try:
            if not place.name.startswith(".") and (run := _read(place)) is not None:
                runs.append(run)
        except InputError as error:
            warn(str(error))
    return sorted(runs, key=lambda run: -1.0 if run.dev_f1 is None else run.dev_f1, reverse=True)


def _read(folder: Path) -> Run | None:
    config, told = folder / CONFIG, folder / METRICS
    try:
        found = [path for path in (config, told) if path.exists()]
        if len(found) < 2:
            # A model alone is no run, nor is a config that somebody keeps in a folder.
            if found and any((folder / name).exists() for name in (run_folder.BEST, run_folder.CHECKPOINTS)):
                lost = told if found == [config] else config
                raise InputError(f"{lost}: required in a run folder, found none; restore it, or delete the run")
            return None
        train = config_module.read(config).get("train", {})
        state = _state(folder)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not isinstance(train, dict):
        raise InputError(f"{config}: required a section [train], got {train!r}; mend it, or delete the run")
    if "epochs" not in train:
        return None
    if not is_number(asked := train["epochs"], whole=True):
        raise InputError(
            f"{config}: required a whole number for train.epochs, got {asked!r}; mend it, or delete the run"
        )
    records = metrics.read(told)
    f1 = {r.number("epoch", whole=True): r.number("dev.f1") for r in records if r.kind == "epoch"}
    best = max(f1, key=f1.__getitem__, default=None)
    end = records[-1] if records and records[-1].kind == "end" else None

    def at_end(key: str) -> float | None:
        return None if end is None else end.number(key, required=False)

    return Run(
        folder=folder,
        state=state if end is None else "finished",
        dev_f1=None if best is None else f1[best],
        test_f1=at_end("test.f1"),
        best_epoch=best,
        epoch=list(f1)[-1] if f1 else 0,
        epochs=asked,
        seconds=at_end("seconds"),
        tokens_per_second=at_end("tokens_per_second"),
    )


def _state(folder: Path) -> str:
    try:
        with (folder / run_folder.LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    except FileNotFoundError:
        return "cut off"
    return "resumable" if any((folder / run_folder.CHECKPOINTS).glob("*.safetensors")) else "cut off"
