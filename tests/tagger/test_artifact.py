import dataclasses
import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from windownet.data.vocabulary import Normalization, Vocabulary
from windownet.errors import InputError
from windownet.schema.config import Config
from windownet.tagger import artifact
from windownet.tagger.artifact import Artifact

FILES = ("model.safetensors", "config.toml", "vocab.txt", "tags.json")
# What splits lines elsewhere, in Python or in Unicode, is part of a word here.
ODD_WORDS = ("a\u2028b", "c\u0085d", "e\x0bf", "g\x1ch", "i\rj", "\ufeffk", "\u00e9", "e\u0301", "\U0001f600", "\u00a0")


def make(seed=0, **model):
    config = Config(
        model={"word_width": 4, "capitalization_width": 2, "hidden": (5, 3), "nonlinearity": "prelu", **model},
        features={"case": "keep", "digits": "number"},
    )
    words = ("<padding>", "<rare>", "the", *ODD_WORDS)
    tags = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-\u00e9\u2028x")
    shapes = jax.eval_shape(artifact.network(config, len(words), len(tags)).init, jax.random.key(0))
    draw = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    return Artifact(config, Vocabulary(words, Normalization("keep", "number")), tags, params)


def assert_equal(got, wanted):
    assert got.config == wanted.config
    assert got.vocabulary.words == wanted.vocabulary.words
    assert got.vocabulary.normalization == wanted.vocabulary.normalization
    assert got.tags == wanted.tags
    assert jax.tree.structure(got.params) == jax.tree.structure(wanted.params)
    for one, other in zip(jax.tree.leaves(got.params), jax.tree.leaves(wanted.params), strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def refusal(folder):
    with pytest.raises(InputError) as caught:
        artifact.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("model", [{}, {"hidden": (), "window": 1}, {"nonlinearity": "tanh"}])
def test_a_model_comes_back_bit_for_bit(tmp_path, model):
    made = make(**model)
    artifact.save(made, tmp_path / "run" / "model")
    assert_equal(artifact.load(tmp_path / "run" / "model"), made)
    assert_equal(artifact.load(tmp_path / "run"), made)
    assert {path.name for path in (tmp_path / "run" / "model").iterdir()} == set(FILES)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_any_program_can_read_the_files(tmp_path):
    made = make()
    artifact.save(made, tmp_path / "m")
    assert (tmp_path / "m" / "vocab.txt").read_bytes().decode().split("\n") == [*made.vocabulary.words, ""]
    tensors = safetensors.numpy.load_file(tmp_path / "m" / "model.safetensors")
    assert np.array_equal(tensors["words"], made.params["words"])
    assert set(tensors) == {
        "words",
        "capitals",
        "output.w",
        "output.b",
        *(f"hidden.{layer}.{name}" for layer in (0, 1) for name in ("w", "b", "slope")),
    }


def test_a_new_model_takes_the_place_of_the_old(tmp_path):
    artifact.save(make(0), tmp_path / "model")
    (tmp_path / "model" / "stray").touch()
    artifact.save(make(1), tmp_path / "model")
    assert_equal(artifact.load(tmp_path / "model"), make(1))
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(FILES)


@pytest.mark.parametrize(
    ("method", "call"), [("mkdir", 1), *[("write_bytes", n) for n in (1, 2, 3, 4)], ("rename", 1), ("rename", 2)]
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_save_that_breaks_leaves_the_old_model(tmp_path, monkeypatch, method, call, error):
    artifact.save(make(0), tmp_path / "model")
    works, calls = getattr(Path, method), []

    def breaks(self, *args, **options):
        calls.append(self)
        if len(calls) == call:
            if method == "write_bytes":
                works(self, args[0][: len(args[0]) // 2])
            raise error
        return works(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, breaks)
        with pytest.raises(type(error)):
            artifact.save(make(1), tmp_path / "model")
    assert len(calls) >= call
    assert_equal(artifact.load(tmp_path / "model"), make(0))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    artifact.save(make(1), tmp_path / "model")
    assert_equal(artifact.load(tmp_path / "model"), make(1))


def test_a_model_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, rename, sync = [], Path.rename, os.fsync

    def synced(handle):
        found = next(path for path in (tmp_path, *tmp_path.rglob("*")) if path.stat().st_ino == os.fstat(handle).st_ino)
        done.append(str(found.relative_to(tmp_path)))
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", lambda path, to: (done.append("renamed"), rename(path, to))[1])
    artifact.save(make(), tmp_path / "model")
    before, after = done[: (at := done.index("renamed"))], done[at + 1 :]
    assert sorted(before) == sorted([".model.new", *(f".model.new/{name}" for name in FILES)])
    assert before[-1] == ".model.new"
    assert after == ["."]


def test_what_a_killed_process_left_is_cleared_and_the_old_model_put_back(tmp_path, monkeypatch):
    artifact.save(make(0), tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    (tmp_path / ".model.new").mkdir()
    (tmp_path / ".model.new" / "vocab.txt").write_text("half")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            artifact.save(make(1), tmp_path / "model")
    assert_equal(artifact.load(tmp_path / "model"), make(0))
    artifact.save(make(1), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def folder(tmp_path):
    artifact.save(make(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert refusal(folder) == (
        f"{folder / file}: required in a model folder, found none; copy or train the model again"
    )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", [0, 1, 9, 0.5, -1])
def test_a_truncated_file_is_named(folder, file, left):
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: round(left * len(data)) if isinstance(left, float) else left])
    message = refusal(folder)
    assert message.startswith(f"{folder / file}: required ")
    assert message.endswith("copy or train the model again")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.97])
def test_a_changed_file_is_named(folder, file, place):
    data = bytearray((folder / file).read_bytes())
    data[int(place * len(data))] ^= 1
    (folder / file).write_bytes(data)
    # What the header of the weights says of the other files may itself be what has changed.
    places = FILES if file == "model.safetensors" else [file]
    message = refusal(folder)
    assert any(message.startswith(f"{folder / name}: required ") for name in places)
    assert message.endswith("copy or train the model again")


def test_files_of_two_models_do_not_mix(folder, tmp_path):
    other = dataclasses.replace(make(1), tags=("O", "S-X", "B-X", "E-X", "I-X", "S-Y"))
    artifact.save(other, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "tags.json", folder)
    assert refusal(folder).startswith(f"{folder / 'tags.json'}: required the file as it was saved with the model")


def test_weights_of_another_program_are_refused(folder):
    safetensors.numpy.save_file({"words": np.zeros((2, 2))}, folder / "model.safetensors")
    assert refusal(folder).startswith(f"{folder / 'model.safetensors'}: required a whole safetensors file of windownet")


def test_a_model_is_taken_before_one_inside_of_it(folder):
    artifact.save(make(1), folder / "model")
    assert_equal(artifact.load(folder), make())


def test_a_place_without_a_model_is_named(tmp_path):
    expected = "{}: required a run or model folder, found {}; `windownet train` makes one"
    assert refusal(tmp_path / "none") == expected.format(tmp_path / "none", "nothing there")
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file") == expected.format(tmp_path / "file", "a file")
    # A run that was stopped in its first epoch.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("")
    assert refusal(tmp_path / "run") == expected.format(tmp_path / "run", "no model in it")
    (tmp_path / "run" / "vectors.safetensors").touch()
    assert refusal(tmp_path / "run").startswith(
        f"{tmp_path / 'run'}: required a run or model of a tagger, found one of"
    )


def test_a_folder_in_place_of_a_file_is_named(folder):
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").mkdir()
    assert refusal(folder) == f"{folder / 'vocab.txt'}: cannot be read: Is a directory; copy or train the model again"
