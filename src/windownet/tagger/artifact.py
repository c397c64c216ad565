"""The model folder: weights, config, vocabulary and tags, readable by any program; no pickle.

`model.safetensors` holds the parameters, their checksum and those of the three text files beside it.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from windownet import checkpoint, config as config_module
from windownet.data.features import CAPITALIZATION
from windownet.data.vocabulary import Normalization, Vocabulary
from windownet.errors import InputError
from windownet.model.network import Params, WindowNetwork
from windownet.schema.config import Config

_WEIGHTS = "model.safetensors"
# As `windownet pretrain` names them.
_WORD_VECTORS = "vectors.safetensors"
_CONFIG, _VOCABULARY, _TAGS = _TEXTS = ("config.toml", "vocab.txt", "tags.json")


@dataclass(frozen=True)
class Artifact:
    """All that is needed to tag.

    Attributes:
      config: the config of the run that made it.
      vocabulary: words by row.
      tags: L tags by number, in the network's scheme.
      params: the network's parameters, float arrays.
      folder: the model folder that it was read from; None for one that was not.
    """

    config: Config
    vocabulary: Vocabulary
    tags: tuple[str, ...]
    params: Params
    folder: Path | None = field(default=None, compare=False)

    @property
    def network(self) -> WindowNetwork:
        """The network that the parameters are for."""
        return network(self.config, len(self.vocabulary), len(self.tags))


def network(config: Config, vocabulary: int, tags: int) -> WindowNetwork:
    """The network that a config describes, for a vocabulary of V rows and L tags."""
    return WindowNetwork(
        vocabulary=vocabulary,
        capitalizations=len(CAPITALIZATION),
        tags=tags,
        window=config.model.window,
        word_width=config.model.word_width,
        capitalization_width=config.model.capitalization_width,
        hidden=config.model.hidden,
        nonlinearity=config.model.nonlinearity,
        input_dropout=config.regularization.input_dropout,
        hidden_dropout=config.regularization.hidden_dropout,
        label_smoothing=config.regularization.label_smoothing,
        margin=config.loss.name == "margin",
        l2=config.regularization.l2,
    )


def save(artifact: Artifact, folder: Path) -> None:
    """Write a model folder, replacing one that is there only when the new one is whole.

    Raises:
      OSError: the disk is full or not writable; what was in `folder` before is untouched.
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), _old(folder)
    texts = {
        _CONFIG: artifact.config.to_toml(),
        _VOCABULARY: "".join(f"{word}\n" for word in artifact.vocabulary.words),
        _TAGS: json.dumps(list(artifact.tags), ensure_ascii=False, indent=0) + "\n",
    }
    try:
        put_back(folder)
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name, text in texts.items():
            (fresh / name).write_bytes(text.encode())
        arrays = {name: np.asarray(array) for name, array in _flatten(artifact.params).items()}
        checksums = {name: _checksum(text.encode()) for name, text in texts.items()}
        checksums[_WEIGHTS] = _checksum_of_arrays(arrays)
        (fresh / _WEIGHTS).write_bytes(b"".join(checkpoint.serialize(arrays, checksums)))
        # Else a machine that goes down after the rename might have the new name and not what is in it.
        for path in (*(fresh / name for name in (_WEIGHTS, *_TEXTS)), fresh):
            checkpoint.sync(path)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        checkpoint.sync(folder.parent)
    except BaseException:
        put_back(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Undo a `save` that an interrupt, or the end of the process, cut off between its two renames."""
    if (old := _old(folder)).exists() and not folder.exists():
        old.rename(folder)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def load(folder: Path) -> Artifact:
    """Read a model folder; the run folder that holds it in `model/` is taken as well.

    Raises:
      InputError: a file is missing, truncated or changed; names the file.
    """
    if (folder / "model").is_dir() and not (folder / _WEIGHTS).exists():
        folder = folder / "model"
    try:
        none = not any((folder / name).exists() for name in (_WEIGHTS, _VOCABULARY, _TAGS))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}; check who may read it") from None
    if none:
        if (vectors := folder / _WORD_VECTORS).exists():
            raise InputError(
                f"{folder}: required a run or model of a tagger, found one of word vectors; "
                f"`windownet neighbours {vectors} WORD` takes that, and so does words.vectors={vectors}"
            )
        came = "no model in it" if folder.is_dir() else "a file" if folder.exists() else "nothing there"
        raise InputError(f"{folder}: required a run or model folder, found {came}; `windownet train` makes one")
    data = {name: _read(folder / name) for name in (_WEIGHTS, *_TEXTS)}
    try:
        tensors, checksums = checkpoint.deserialize(data[_WEIGHTS])
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(
            f"{folder / _WEIGHTS}: required a whole safetensors file of windownet, got {len(data[_WEIGHTS])} bytes "
            f"({error}); copy or train the model again"
        ) from None
    found = {name: _checksum(data[name]) for name in _TEXTS} | {_WEIGHTS: _checksum_of_arrays(tensors)}
    for name, checksum in found.items():
        if checksums.get(name) != checksum:
            raise InputError(
                f"{folder / name}: required the file as it was saved with the model, got one that is truncated or "
                "changed (its checksum differs); copy or train the model again"
            )
    config = config_module.load(folder / _CONFIG)
    vocabulary = Vocabulary(
        data[_VOCABULARY].decode().split("\n")[:-1],
        Normalization(config.features.case, config.features.digits),
    )
    tags = tuple(json.loads(data[_TAGS]))
    params = _unflatten(tensors, len(config.model.hidden))
    return Artifact(config, vocabulary, tags, params, folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: required in a model folder, found none; copy or train the model again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; copy or train the model again") from None


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checksum_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _flatten(params: Params) -> dict[str, Any]:
    flat = {"words": params["words"], "capitals": params["capitals"]}
    for n, layer in enumerate(params["hidden"]):
        flat |= {f"hidden.{n}.{name}": array for name, array in layer.items()}
    return flat | {f"output.{name}": array for name, array in params["output"].items()}


def _unflatten(flat: Mapping[str, np.ndarray], layers: int) -> Params:
    def under(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in flat.items() if name.startswith(prefix)}

    return {
        "words": flat["words"],
        "capitals": flat["capitals"],
        "hidden": [under(f"hidden.{n}.") for n in range(layers)],
        "output": under("output."),
    }
