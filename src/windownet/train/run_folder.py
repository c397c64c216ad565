"""The folder of a run: `config.toml`, `metrics.jsonl`, `model/` (the best epoch) and `last/`."""

import itertools
import shutil
from pathlib import Path

from windownet.errors import InputError

METRICS = "metrics.jsonl"
CONFIG = "config.toml"
BEST = "model"
LAST = "last"


def choose(config: Path, asked: Path | None, replace: bool) -> Path:
    """Which folder a run is to write: the one asked for, or the first free one of runs/NAME, runs/NAME-2, ...

    Raises:
      InputError: the one asked for is taken and may not, or must not, be replaced.
    """
    if asked is None:
        names = itertools.chain([config.stem], (f"{config.stem}-{n}" for n in itertools.count(2)))
        return next(folder for name in names if not (folder := Path("runs", name)).exists())
    if not asked.exists():
        return asked
    if not replace:
        raise InputError(
            f"--run-dir {asked}: required a folder that does not exist yet; name another one, or give --replace"
        )
    if not asked.is_dir() or not ((asked / CONFIG).is_file() or not any(asked.iterdir())):
        raise InputError(f"--replace {asked}: required a run folder (with {CONFIG} in it), got something else")
    return asked


def create(folder: Path, config_toml: str) -> None:
    """Make the folder, in place of an old run that `choose` allowed, with the resolved config in it.

    Raises:
      InputError: it cannot be made or written.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / CONFIG).write_text(config_toml, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder}: required a folder that can be written, got '{error.strerror}'; name another with --run-dir"
        ) from None
