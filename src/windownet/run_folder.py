"""The folder of a run: who may write it, and the names of what is in it.

Of a tagger: `config.toml`, `environment.json`, `metrics.jsonl`, `model/` (the best epoch), `last/`, `checkpoints/`
until the run has finished, `events/` if there is a log for TensorBoard. Of word vectors: `config.toml`,
`metrics.jsonl`, `text/` and `checkpoints/` until they are written, then `vectors.txt` and `vectors.safetensors`.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from windownet import metrics
from windownet.errors import InputError
from windownet.metrics import METRICS, Record
from windownet.resume import CONFIG, require_run

BEST = "model"
LAST = "last"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"
EVENTS = "events"
LOCK = ".lock"
TEXT = "text"
VECTORS = ("vectors.txt", "vectors.safetensors")
OF_TAGGER = (CONFIG, ENVIRONMENT, METRICS, BEST, LAST, CHECKPOINTS, EVENTS)
OF_VECTORS = (CONFIG, METRICS, TEXT, CHECKPOINTS, *VECTORS)
_FRESH = f".{CONFIG}.new"
# Of a model's folder, which a run has inside.
_WEIGHTS = "model.safetensors"


def check(asked: Path, replace: bool, names: Collection[str] = OF_TAGGER) -> Path:
    """The folder that a run is to write.

    Args:
      asked: the folder asked for.
      replace: whether a run that is there may be replaced.
      names: what may be in a run's folder.

    Raises:
      InputError: it is taken and may not, or must not, be replaced.
    """
    asked = itself(asked)
    if _is_free(asked):
        return asked
    if not replace:
        raise InputError(
            f"--run-dir {asked}: required a folder that does not exist yet; name another one, or give --replace"
        )
    # What is replaced is deleted whole, so nothing in it may be anything but a run's. A config alone may be a person's.
    names_there = {entry.name for entry in asked.iterdir()} if asked.is_dir() else set()
    left_over = {f".{name}.{state}" for name in names for state in ("new", "old")}
    foreign = sorted(names_there - {*names, LOCK} - left_over)
    missing = [name for name in (CONFIG, METRICS) if name not in names_there]
    if missing or foreign:
        found = f"{', '.join(foreign[:3])} in it" if foreign else f"one without {missing[0]}"
        raise InputError(f"--replace {asked}: required a run folder and nothing else in it, got {found}")
    return asked


def _is_free(folder: Path) -> bool:
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    # What `create` leaves when it is killed in its midst is no run, and nothing else would ever take it away.
    names = {entry.name for entry in folder.iterdir()}
    return names <= {METRICS, _FRESH} and (METRICS not in names or not (folder / METRICS).stat().st_size)


def itself(folder: Path) -> Path:
    """The folder that a link, or dots, lead to; any other as it is named.

    What a new run replaces is put beside it under a name made of its own, see `replaced`.
    """
    return folder.resolve() if folder.is_symlink() or folder.name in ("", "..") else folder


def create(folder: str | Path, config_toml: str, replace: bool = False) -> None:
    """Make the folder with the resolved config in it, and metrics without a record: by these a run is known.

    Args:
      folder: the run's folder; an empty one is taken as it is.
      config_toml: the config.
      replace: whether a run that is there may be put aside, see `replaced`.

    Raises:
      InputError: it cannot be made or written, another process writes it, or another run has come to be in it.
    """
    folder = Path(folder)
    with _writing(folder):
        if not _is_free(folder):
            if not replace:
                raise InputError(
                    f"{folder}: required a folder without a run, got one that another process has filled by now; "
                    "name another with --run-dir"
                )
            with locked(folder):
                _put_aside(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / METRICS).touch()
            # Half a config would be taken for a whole one.
            fresh = folder / _FRESH
            fresh.write_text(config_toml, encoding="utf-8")
            fresh.replace(folder / CONFIG)
        except OSError:
            withdraw(folder)
            raise


def create_next(config: Path, config_toml: str) -> Path:
    """Make the first of runs/NAME, runs/NAME-2, ... that nobody else has made, as `create` does.

    Args:
      config: the config's file, for its name.
      config_toml: the config.

    Raises:
      InputError: it cannot be made or written.
    """
    folder, number = Path("runs", config.stem), 1
    while not _made(folder):
        number += 1
        folder = Path("runs", f"{config.stem}-{number}")
    create(folder, config_toml)
    return folder


def _made(folder: Path) -> bool:
    with _writing(folder):
        folder.parent.mkdir(exist_ok=True)
        try:
            # Of two processes that begin together, one alone makes it.
            folder.mkdir()
        except FileExistsError:
            return False
    return True


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: required a folder that can be written, got '{error.strerror}'; name another with --run-dir"
        ) from None


def withdraw(folder: Path) -> None:
    """Delete a run that never began, and put the one that it was to replace back in its place."""
    # Where something is mounted the folder stays, empty.
    shutil.rmtree(folder, ignore_errors=True)
    if (old := replaced(folder)).exists():
        old.rename(folder)


def _put_aside(folder: Path) -> None:
    # A run that never had a model must not push out the last one that has.
    if replaced(folder).exists() and not (folder / BEST).exists():
        shutil.rmtree(folder)
    else:
        discard_replaced(folder)
        folder.rename(replaced(folder))


def replaced(folder: Path) -> Path:
    """Where the run that a new one replaces is kept until the new one has a model."""
    return folder.absolute().with_name(f".{folder.absolute().name}.replaced")


def discard_replaced(folder: Path) -> None:
    """Delete the run that was put aside, if there is one."""
    if (old := replaced(folder)).exists():
        shutil.rmtree(old)


def end_of(folder: Path) -> Record | None:
    """The record of how the tagger's run in a folder ended; None where it has not.

    Raises:
      InputError: there is no run in it, or one of word vectors, or its metrics are damaged.
    """
    require_run(folder, "train")
    if not (folder / METRICS).is_file():
        raise InputError(f"--resume {folder}: required a run folder, {_no_run(folder)}")
    return metrics.last(folder / METRICS, "end")


def _no_run(folder: Path) -> str:
    if (folder / _WEIGHTS).exists():
        return f"found a model ({_WEIGHTS} in it), which is whole as it is; name the folder of the run that made it"
    return f"found no {METRICS} in it; restore it, or begin a new run"


def epoch_of(model: Path) -> int | None:
    """The epoch whose model lies in a run's `model/`, the best so far, or `last/`; None of any other folder.

    Raises:
      InputError: the run's metrics are damaged.
    """
    records = metrics.read(model.parent / METRICS) if model.name in (BEST, LAST) else []
    epochs = [record for record in records if record.kind == "epoch"]
    if not epochs:
        return None
    found = max(epochs, key=lambda record: record.number("dev.f1")) if model.name == BEST else epochs[-1]
    return int(found.number("epoch", whole=True))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes a run folder; ends with the process, however that ends.

    Raises:
      InputError: another process is, or the folder cannot be written.
      OSError: the disk is full.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(
            f"{folder}: required a run folder that can be written, got '{error.strerror}' for {path}; make it "
            "writable, or copy it to where it is"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{folder}: required a run folder that no other process writes, got one whose lock, {path}, process "
                f"{holder} holds; wait for it or end it"
            ) from None
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)
