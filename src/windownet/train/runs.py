"""The runs of a folder, as their own files tell of them; reads no weights, so it needs no jax."""

import fcntl
import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windownet.errors import InputError
from windownet.train import run_folder


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


def find(folder: Path) -> list[Run]:
    """The runs of taggers in the folders of `folder`, or the one that it is itself; the best first.

    Raises:
      InputError: there is no such folder, or a run's file cannot be read.
    """
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing there"
        raise InputError(f"{folder}: required a folder with run folders in it, found {came}; name another")
    places = [folder] if (folder / run_folder.CONFIG).is_file() else sorted(folder.iterdir())
    runs = [run for place in places if not place.name.startswith(".") and (run := _read(place)) is not None]
    return sorted(runs, key=lambda run: -1.0 if run.dev_f1 is None else run.dev_f1, reverse=True)


def _read(folder: Path) -> Run | None:
    try:
        config = tomllib.loads((folder / run_folder.CONFIG).read_text(encoding="utf-8"))
        lines = (folder / run_folder.METRICS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder / run_folder.CONFIG}: required a run's config, got {error}; delete the run"
        ) from None
    if "epochs" not in config.get("train", {}):
        return None
    records = [_record(folder, number, line) for number, line in enumerate(lines, 1) if line.endswith("}")]
    epochs = [record for record in records if record.get("kind") == "epoch"]
    best = max(epochs, key=lambda record: float(record["dev"]["f1"])) if epochs else None
    end = records[-1] if records and records[-1].get("kind") == "end" else {}
    return Run(
        folder=folder,
        state="finished" if end else _state(folder),
        dev_f1=None if best is None else best["dev"]["f1"],
        test_f1=end.get("test", {}).get("f1"),
        best_epoch=None if best is None else best["epoch"],
        epoch=epochs[-1]["epoch"] if epochs else 0,
        epochs=config["train"]["epochs"],
        seconds=end.get("seconds"),
        tokens_per_second=end.get("tokens_per_second"),
    )


def _record(folder: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise InputError(
            f"{folder / run_folder.METRICS}:{number}: required a JSON object, got {line[:40]!r}; delete the line"
        ) from None


def _state(folder: Path) -> str:
    try:
        with (folder / run_folder.LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "running"
    except FileNotFoundError:
        return "cut off"
    return "resumable" if any((folder / run_folder.CHECKPOINTS).glob("*.safetensors")) else "cut off"
