"""Checkpoints: a run's whole state in files that stand whole or not at all, and are checked when they are read.

A checkpoint is a safetensors file of a pytree's arrays by their paths, `words` or `hidden.0.w`. Its metadata has the
steps done, what else the run noted (`about`, JSON) and a SHA-256 of all of it. It is written beside its place, forced
to the disk and moved there; the last K are kept.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from windownet.errors import InputError

_FRESH = ".new"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
      path: its file.
      step: steps done.
      about: what the run noted with it.
      arrays: the state's arrays by their paths.
    """

    path: Path
    step: int
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def into(self, like: Any) -> Any:
        """The state, on the device.

        Args:
          like: a state of the same structure, or what `jax.eval_shape` tells of one; its random keys are of jax's
            default kind.

        Raises:
          InputError: the checkpoint holds a state of another structure, shape or dtype.
        """
        wanted = _named(jax.eval_shape(_plain, like))
        if odd := sorted(wanted.keys() ^ self.arrays.keys()):
            came = "it does not have" if odd[0] in wanted else "the run has no use for"
            raise InputError(f"{self.path}: required the arrays of this run's state, got one that {came}: {odd[0]}")
        for name, leaf in wanted.items():
            if (array := self.arrays[name]).shape != leaf.shape or array.dtype != leaf.dtype:
                raise InputError(
                    f"{self.path}: required {name} {leaf.dtype.name}{list(leaf.shape)}, got "
                    f"{array.dtype.name}{list(array.shape)}; it is of another run"
                )
        # Copied: the step takes over the memory of the state that it is given.
        leaves = [jax.numpy.array(self.arrays[name]) for name in wanted]
        targets, tree = jax.tree.flatten(like)
        pairs = zip(targets, leaves, strict=True)
        return jax.tree.unflatten(tree, [jax.random.wrap_key_data(x) if _is_key(to) else x for to, x in pairs])


def save(
    tree: Any, step: int, about: Mapping[str, Any], folder: Path, *, keep: int, beside: Iterable[Path] = ()
) -> Path:
    """Write a checkpoint, then delete all but the last `keep`.

    Args:
      tree: the state, a pytree of arrays and random keys; it is fetched from the device here, so the caller may go on
        and give its buffers away.
      step: steps done; a checkpoint of more steps than these is deleted, for the run has gone back before it.
      about: what else to note, as JSON has it.
      folder: where to; made if it is not there.
      keep: how many stay.
      beside: files that the checkpoint counts on; forced to the disk before it.

    Returns:
      The file.

    Raises:
      OSError: the disk is full or not writable; the checkpoints before this one stand.
      TypeError: an array of a dtype that numpy does not have.
      ValueError: two arrays have one path, as those of {"a.b": x, "a": {"b": y}}.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named(jax.device_get(_plain(tree))).items()}
    if foreign := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
        raise TypeError(f"checkpoint: {foreign[0]} must have a dtype of numpy, got {arrays[foreign[0]].dtype}")
    noted = {"step": str(step), "about": json.dumps(about)}
    pieces = serialize(arrays, {**noted, "sha256": _checksum(noted, arrays)})
    folder.mkdir(parents=True, exist_ok=True)
    # Ten digits hold any step that an int32 counts, and names sort as their steps do.
    fresh, path = folder / _FRESH, folder / f"{step:010}.safetensors"
    for file in beside:
        sync(file)
    try:
        with fresh.open("wb") as out:
            out.writelines(pieces)
        sync(fresh)
        fresh.replace(path)
        sync(folder)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    ahead = [other for other in found(folder) if other.name > path.name]
    for other in [*ahead, *(other for other in found(folder)[keep + len(ahead) :])]:
        other.unlink()
    return path


def load(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The last checkpoint that is whole; None where there is none at all.

    Args:
      folder: where `save` wrote.
      warn: told of each one that is passed over.

    Raises:
      InputError: there are checkpoints and none of them is whole.
    """
    paths = found(folder)
    for number, path in enumerate(paths):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, struct.error, safetensors.SafetensorError) as error:
            before = "; going on from the one before" if number + 1 < len(paths) else ""
            warn(f"{path}: required a whole checkpoint, got a damaged one ({error}){before}")
    if paths:
        raise InputError(f"{folder}: required a whole checkpoint, got {len(paths)} damaged; begin the run anew")
    return None


def found(folder: Path) -> list[Path]:
    """The files of all checkpoints, the last one first."""
    return sorted(folder.glob("*.safetensors"), reverse=True)


def serialize(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """A safetensors file in pieces: the same bytes for the same content, and no copy of any array.

    The library's own writer shuffles the metadata, and holds the file in memory besides the arrays.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    pieces, begin = [], 0
    for name, array in sorted(arrays.items()):
        data = _bytes_of(array)
        kind = "BOOL" if array.dtype.kind == "b" else f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, begin + data.nbytes]}
        begin += data.nbytes
        pieces.append(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return [struct.pack("<Q", len(head)), head, *pieces]


def deserialize(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    Raises:
      SafetensorError: it is none.
      KeyError: it has no metadata.
    """
    arrays = safetensors.numpy.load(data)
    return arrays, json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]


def cut_back(file: Path, size: int) -> None:
    """Cut a file that a run adds to back to what it had at a checkpoint; made if it is not there.

    Args:
      file: such as the run's metrics.
      size: its bytes at that time; 0 for a run that begins.

    Raises:
      InputError: it has less.
    """
    # To open it would make one, and a run that is refused is left as it was.
    if (came := file.stat().st_size if file.exists() else 0) < size:
        raise InputError(
            f"{file}: required the {size:,} bytes that the run wrote before its checkpoint, got {came:,}; restore it, "
            "or begin a new run"
        )
    with file.open("ab") as out:
        out.truncate(size)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> Checkpoint:
    arrays, noted = deserialize(path.read_bytes())
    checksum = noted.pop("sha256")
    if _checksum(noted, arrays) != checksum:
        raise ValueError("its checksum differs")
    return Checkpoint(path, int(noted["step"]), json.loads(noted["about"]), arrays)


def _checksum(noted: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(noted, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _named(tree: Any) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            raise ValueError(f"checkpoint: required one array for each path, got two for {name}; rename one of them")
        named[name] = leaf
    return named


def _plain(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _is_key(leaf: Any) -> bool:
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))
