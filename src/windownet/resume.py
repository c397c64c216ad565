"""`--resume RUN`: which folders, settings and configs a run can go on with."""

import json
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from windownet import config as config_module
from windownet.errors import InputError

CONFIG = "config.toml"


def require_run(folder: Path, verb: Literal["train", "pretrain"]) -> None:
    """Raise `InputError` unless `folder` holds the config of a run that `verb` made."""
    if not (folder / CONFIG).is_file():
        came = "a file" if folder.is_file() else f"no {CONFIG} in it" if folder.is_dir() else "nothing there"
        raise InputError(f"{folder}: required a run folder, found {came}; `windownet {verb} CONFIG` makes one")
    if (its_own := config_module.verb_of(folder / CONFIG)) != verb:
        kinds = "a tagger's", "one of word vectors"
        required, came = kinds if verb == "train" else kinds[::-1]
        raise InputError(
            f"--resume {folder}: required a run folder, {required}, got {came}; "
            f"`windownet {its_own} --resume {shlex.quote(str(folder))}` goes on with it"
        )


def require_free(settings: Sequence[str], free: Collection[str]) -> None:
    """Raise `InputError` unless each of the settings, `section.key=value`, is of a field that is `free` to change."""
    for setting in settings:
        if setting.partition("=")[0] not in free or "=" not in setting:
            raise InputError(
                f"argument {setting!r}: required with --resume nothing but what no result depends on, "
                f"{', '.join(free)}; the run's own {CONFIG} is taken"
            )


def require_same_config(source: Path, then: dict[str, Any], now: dict[str, Any], free: Collection[str]) -> None:
    """Refuse a config that is no longer that of a run.

    Args:
      source: the file that has the run's.
      then: the run's, as JSON has it.
      now: the one to go on with.
      free: fields that may differ, `section.key`.

    Raises:
      InputError: another field does; names the first.
    """
    if (key := first_difference(then, now, free)) is not None:
        required, came = (tree.get(key) for tree in map(flatten, (then, now)))
        if key not in flatten(then):
            raise InputError(
                f"{source}: required a run that this version of windownet began, got one without {key}; go on with the "
                "version that began it, or begin a new run"
            )
        raise InputError(
            f"{source}: required {key} = {required!r}, as the run began with, got {came!r}; leave the config as it "
            "was, or begin a new run"
        )


def first_difference(required: dict[str, Any], came: dict[str, Any], free: Collection[str]) -> str | None:
    """The first field, `section.key`, in which two configs as JSON has them differ, of those that are not `free`."""
    required, came = flatten(required), flatten(came)
    for key in [*required, *came]:
        # As text, which has the order: of patterns the first that matches decides.
        if key not in free and json.dumps(required.get(key)) != json.dumps(came.get(key)):
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
