"""Checkpoints: files that stand whole or not at all, checked when they are read; the last two are kept.

A checkpoint is a safetensors file of the state's arrays by their paths, with a checksum and the stacks done in its
metadata. It is written beside its place, forced to the disk and moved there.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windownet.errors import InputError

_KEPT = 2
_DTYPES = {"float32": "F32", "int32": "I32"}


def save(folder: Path, state: Any, stacks: int) -> None:
    """Write the state after so many stacks, then delete all but the last two checkpoints.

    Raises:
      OSError: the disk is full or not writable; the checkpoints before this one stand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = {name: np.ascontiguousarray(leaf) for name, leaf in _named(jax.device_get(state)).items()}
    digest, header, begin = hashlib.sha256(), {}, 0
    for name, leaf in named.items():
        digest.update(leaf.data)
        span = (begin, begin + leaf.nbytes)
        header[name] = {"dtype": _DTYPES[leaf.dtype.name], "shape": leaf.shape, "data_offsets": span}
        begin = span[1]
    header["__metadata__"] = {"sha256": digest.hexdigest(), "stacks": str(stacks)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    fresh = folder / ".new"
    with fresh.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for leaf in named.values():
            file.write(leaf.data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(_path(folder, stacks))
    _sync(folder)
    # Of more stacks than these are only damaged ones, which a resumed run passed over.
    kept = [path for path in _found(folder) if path <= _path(folder, stacks)][:_KEPT]
    for old in set(_found(folder)) - set(kept):
        old.unlink()


def load(folder: Path, like: Any, warn: Callable[[str], None]) -> tuple[Any, int] | None:
    """The last whole state and the stacks that it has done; None where there is no checkpoint.

    Args:
      folder: where `save` wrote.
      like: a state, or what `jax.eval_shape` tells of one.
      warn: told of each checkpoint that is passed over.

    Raises:
      InputError: there are checkpoints and none of them is whole.
    """
    found = _found(folder)
    for path in found:
        try:
            return _read(path, like)
        except (OSError, ValueError, KeyError) as error:
            warn(f"{path}: required a whole checkpoint, got a damaged one ({error}); going on from the one before")
    if found:
        raise InputError(f"{folder}: required a whole checkpoint, got only damaged ones; begin anew without --resume")
    return None


def _read(path: Path, like: Any) -> tuple[Any, int]:
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = header.pop("__metadata__")
    if hashlib.sha256(memoryview(data)[end:]).hexdigest() != metadata["sha256"]:
        raise ValueError("its checksum differs")
    leaves = {}
    for name, leaf in _named(like).items():
        first, last = header[name]["data_offsets"]
        array = np.frombuffer(memoryview(data)[end + first : end + last], leaf.dtype)
        leaves[name] = array.reshape(leaf.shape)
    tree = jax.tree.structure(like)
    return jax.tree.unflatten(tree, [jax.numpy.array(leaf) for leaf in leaves.values()]), int(metadata["stacks"])


def _named(state: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in _leaves(state)}


def _leaves(state: Any) -> list[tuple[Any, Any]]:
    return list(jax.tree.leaves_with_path(state))


def _path(folder: Path, stacks: int) -> Path:
    return folder / f"{stacks:09}.safetensors"


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), reverse=True)


def _sync(folder: Path) -> None:
    # The move is on the disk when the folder is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
