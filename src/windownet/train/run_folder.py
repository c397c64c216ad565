"""The folder of a run: `config.toml`, `metrics.jsonl`, `model/` (the best epoch) and `last/`."""

import itertools
import shutil
from collections.abc import Collection
from pathlib import Path

from windownet.errors import InputError

METRICS = "metrics.jsonl"
CONFIG = "config.toml"
BEST = "model"
LAST = "last"


def choose(
    config: Path, asked: Path | None, replace: bool, names: Collection[str] = (CONFIG, METRICS, BEST, LAST)
) -> Path:
    """Which folder a run is to write: the one asked for, or the first free one of runs/NAME, runs/NAME-2, ...

    Args:
      config: the config's file, for its name.
      asked: the folder asked for, if any.
      replace: whether a run that is there may be replaced.
      names: what may be in a run's folder.

    Raises:
      InputError: the one asked for is taken and may not, or must not, be replaced.
    """
    if asked is None:
        free = itertools.chain([config.stem], (f"{config.stem}-{n}" for n in itertools.count(2)))
        return next(folder for name in free if not (folder := Path("runs", name)).exists())
    if not asked.exists() or (asked.is_dir() and not any(asked.iterdir())):
        return asked
    if not replace:
        raise InputError(
            f"--run-dir {asked}: required a folder that does not exist yet; name another one, or give --replace"
        )
    # What is replaced is deleted whole, so nothing in it may be anything but a run's.
    names_there = {entry.name for entry in asked.iterdir()} if asked.is_dir() else set()
    foreign = sorted(name for name in names_there - set(names) if not name.startswith("."))
    if CONFIG not in names_there or foreign:
        found = f"{', '.join(foreign[:3])} in it" if foreign else f"one without {CONFIG}"
        raise InputError(f"--replace {asked}: required a run folder and nothing else in it, got {found}")
    return asked


def create(folder: Path, config_toml: str) -> None:
    """Make the folder with the resolved config in it; a run that is there is put aside, see `replaced`.

    Raises:
      InputError: it cannot be made or written.
    """
    try:
        if folder.exists():
            discard_replaced(folder)
            folder.rename(replaced(folder))
        folder.mkdir(parents=True)
        (folder / CONFIG).write_text(config_toml, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder}: required a folder that can be written, got '{error.strerror}'; name another with --run-dir"
        ) from None


def replaced(folder: Path) -> Path:
    """Where the run that a new one replaces is kept until the new one has a model."""
    return folder.absolute().with_name(f".{folder.absolute().name}.replaced")


def discard_replaced(folder: Path) -> None:
    """Delete the run that was put aside, if there is one."""
    if (old := replaced(folder)).exists():
        shutil.rmtree(old)
