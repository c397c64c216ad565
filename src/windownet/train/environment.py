"""What a run ran on and with: its machine, seed, state of the source, fingerprints of the data."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import windownet
from windownet import machine
from windownet.data.sentences import Sentence
from windownet.errors import InputError
from windownet.train.prepare import Prepared

# What each fingerprint is of, and where a config names it. The parts first, and the vocabulary, which is made of two of
# them, behind both: the first that differs is what was changed.
_WHAT = {
    "train": "the train data (data.train)",
    "dev": "the dev data (data.dev)",
    "test": "the test data (data.test)",
    "vectors": "the vectors (words.vectors)",
    "vocabulary": "the vocabulary (data.train, words.vectors)",
    "tags": "the tags (data.train)",
}


def describe(prepared: Prepared) -> dict[str, Any]:
    """All of it, as JSON has it.

    `data` has a SHA-256 of each part, of the vocabulary, the tags and the pretrained vectors as training reads them, so
    files may move, but not change. `git` is the commit that windownet's source is checked out from, with "-dirty"
    behind it where tracked files were changed; None where it is no checkout.
    """
    return {
        **machine.describe(),
        "seed": prepared.config.train.seed,
        "git": _commit(Path(windownet.__file__)),
        "data": fingerprints(prepared),
    }


def noted(path: Path) -> dict[str, str | None]:
    """The fingerprints of a run's data in its `environment.json`; none where there is no such file.

    Raises:
      InputError: the file does not have them.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    if not text:
        # The process ended when it had made the file, and not yet written it.
        return {}
    try:
        data = json.loads(text)["data"]
        return {name: data[name] for name in _WHAT}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: required the fingerprints of the run's data, got a file without them; restore it"
        ) from None


def require_same_data(source: Path, required: Mapping[str, str | None], came: Mapping[str, str | None]) -> None:
    """Refuse data that are no longer those of a run.

    Args:
      source: the file that has the run's fingerprints.
      required: the fingerprints, by what they are of.
      came: what `fingerprints` says today.

    Raises:
      InputError: one differs; names the first.
    """
    for name, what in _WHAT.items():
        if name in required and came[name] != required[name]:
            raise InputError(
                f"{source}: required {what} that the run began with, got other ones (SHA-256 "
                f"{came[name]} for {required[name]}); restore them, or begin a new run"
            )


def fingerprints(prepared: Prepared) -> dict[str, str | None]:
    """SHA-256 of all that a run is trained and scored on, by its name; None for vectors where there are none."""
    words = prepared.words
    return {
        # Not as the network takes it, which a changed file of vectors would change too.
        "train": _digest(_texts(prepared.splits.train)),
        "dev": _digest(_texts(prepared.splits.dev)),
        "test": _digest(_texts(prepared.splits.test)),
        "vocabulary": _digest(word.encode() + b"\n" for word in prepared.vocabulary.words),
        "tags": _digest(tag.encode() + b"\n" for tag in prepared.tags),
        "vectors": None
        if words.pretrained is None or words.found is None
        else _digest(np.ascontiguousarray(array).data for array in (words.pretrained, words.found)),
    }


def _texts(sentences: Iterable[Sentence]) -> Iterable[bytes]:
    for sentence in sentences:
        yield "\n".join((*sentence.words, "", *sentence.tags, "", "")).encode()


def _digest(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _commit(file: Path) -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        # An installed package may lie, ignored, in somebody else's checkout.
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
