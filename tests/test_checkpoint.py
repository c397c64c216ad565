"""Checkpoint files: whole or not at all, checked, the last K kept."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from windownet import checkpoint
from windownet.errors import InputError


def state(start: float = 0.0) -> dict[str, Any]:
    params = {"words": jnp.arange(12.0).reshape(4, 3) + start, "hidden": [{"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}]}
    extra = (jax.random.key(7), jnp.zeros((0, 3)), jnp.array([True, False]), None, jnp.array(5, jnp.int32))
    return {"params": params, "optimizer": optax.adam(1e-3).init(params), "extra": extra}


def same(a: Any, b: Any) -> bool:
    def bits(x: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(bits(x), bits(y)) for x, y in pairs)


def nobody(text: str) -> None:
    raise AssertionError(text)


def test_any_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    odd = state()
    odd["params"]["words"] = odd["params"]["words"].at[0].set(jnp.array([jnp.nan, -0.0, 1e-45]))
    path = checkpoint.save(odd, 3, {"loss": [0.1, 1e-300]}, tmp_path / "a", keep=2)
    found = checkpoint.load(tmp_path / "a", nobody)
    assert found is not None
    assert (found.path, found.step, found.about) == (path, 3, {"loss": [0.1, 1e-300]})
    back = found.into(jax.eval_shape(state))
    assert np.array_equal(
        np.asarray(back["params"]["words"]).view(np.uint32), np.asarray(odd["params"]["words"]).view(np.uint32)
    )
    assert same({**back, "params": None}, {**odd, "params": None})
    assert jax.random.uniform(back["extra"][0]) == jax.random.uniform(odd["extra"][0])
    # Any program can read it, and the same state has the same bytes.
    assert safetensors.numpy.load_file(path)["params.hidden.0.w"].shape == (2, 2)
    again = checkpoint.save(odd, 3, {"loss": [0.1, 1e-300]}, tmp_path / "b", keep=2)
    assert again.read_bytes() == path.read_bytes()
    # The memory of what was read is the state's own: a step may take it over.
    moved = jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)(back["params"])
    assert np.asarray(moved["hidden"][0]["w"]).tolist() == [[2, 2], [2, 2]]
    assert same(found.into(odd)["optimizer"], odd["optimizer"])


def test_the_last_ones_are_kept_and_a_run_that_went_back_forgets_what_was_ahead(tmp_path: Path) -> None:
    for step in (8, 16, 24, 32):
        checkpoint.save(state(step), step, {}, tmp_path, keep=3)
    assert [path.stem for path in checkpoint.found(tmp_path)] == ["0000000032", "0000000024", "0000000016"]
    checkpoint.save(state(20), 20, {}, tmp_path, keep=3)
    assert [path.stem for path in checkpoint.found(tmp_path)] == ["0000000020", "0000000016"]


def test_any_step_that_a_run_may_have_comes_behind_those_before_it(tmp_path: Path) -> None:
    steps = (999_999_999, 1_000_000_000, 2**31 - 1)
    for step in steps:
        checkpoint.save({}, step, {}, tmp_path, keep=3)
    assert [int(path.stem) for path in checkpoint.found(tmp_path)] == list(reversed(steps))
    found = checkpoint.load(tmp_path, nobody)
    assert found is not None
    assert found.step == steps[-1]


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none", nobody) is None


def test_an_array_of_another_name_is_damage(tmp_path: Path) -> None:
    path = checkpoint.save({"a": jnp.arange(3.0), "b": jnp.arange(3.0) + 1}, 1, {}, tmp_path, keep=1)
    path.write_bytes(path.read_bytes().replace(b'"a":', b'"A":'))
    told: list[str] = []
    with pytest.raises(InputError, match="required a whole checkpoint, got 1 damaged"):
        checkpoint.load(tmp_path, told.append)
    assert told[0].endswith("got a damaged one (its checksum differs)")


@pytest.mark.parametrize("part", ["length", "header", "metadata", "array", "end", "cut", "empty"])
def test_damage_is_noticed_and_the_one_before_is_used(tmp_path: Path, part: str) -> None:
    checkpoint.save(state(1), 1, {"n": 1}, tmp_path, keep=2)
    path = checkpoint.save(state(2), 2, {"n": 2}, tmp_path, keep=2)
    whole = path.read_bytes()
    places = {
        "length": 0,
        "header": whole.index(b"params.words") + 3,
        "metadata": whole.index(b'\\"n\\"') + 6,
        "array": whole.index(np.asarray(state(2)["params"]["words"]).tobytes()) + 9,
        "end": len(whole) - 1,
    }
    if part in places:
        spot = places[part]
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
    else:
        path.write_bytes(whole[: len(whole) // 2] if part == "cut" else b"")
    told: list[str] = []
    found = checkpoint.load(tmp_path, told.append)
    assert found is not None
    assert (found.step, found.about) == (1, {"n": 1})
    (line,) = told
    assert line.startswith(f"{path}: required a whole checkpoint, got a damaged one (")
    assert line.endswith("); going on from the one before")
    assert "\n" not in line
    found.path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"required a whole checkpoint, got 2 damaged; begin the run anew"):
        checkpoint.load(tmp_path, told.append)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["params"].update(words=jnp.zeros((5, 3))),
            r"params.words float32\[5, 3\], got float32\[4, 3\]",
        ),
        (lambda s: s["params"].update(words=jnp.zeros((4, 3), jnp.int32)), r"required params.words int32\[4, 3\]"),
        (lambda s: s["params"].update(more=jnp.zeros(1)), "got one that it does not have: params.more"),
        (lambda s: s["params"].pop("words"), "got one that the run has no use for: params.words"),
    ],
)
def test_a_state_of_another_run_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    checkpoint.save({"params": state()["params"]}, 1, {}, tmp_path, keep=1)
    other = {"params": state()["params"]}
    change(other)
    found = checkpoint.load(tmp_path, nobody)
    assert found is not None
    with pytest.raises(InputError, match=message):
        found.into(other)


def test_two_arrays_of_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one array for each path, got two for a\.b; rename"):
        checkpoint.save({"a.b": jnp.zeros(1), "a": {"b": jnp.ones(1)}}, 1, {}, tmp_path, keep=1)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes; the system's own errors, half-written files included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_one_whole(tmp_path: Path) -> None:
    checkpoint.save(state(1), 1, {}, tmp_path, keep=1)
    with full_disk(200), pytest.raises(OSError):
        checkpoint.save(state(2), 2, {}, tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001.safetensors"]
    found = checkpoint.load(tmp_path, nobody)
    assert found is not None
    assert same(found.into(state()), state(1))


@pytest.mark.parametrize("fails", range(3))
def test_what_is_not_on_the_disk_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    # In this order: what the checkpoint counts on, its own bytes, its place in the folder.
    synced: list[str] = []

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        if len(synced) == fails + 1:
            raise OSError(errno.EIO, "Input/output error")

    beside = tmp_path / "metrics.jsonl"
    beside.write_text("{}")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.save(state(), 1, {}, folder, keep=1, beside=[beside])
    assert synced == [str(path) for path in (beside, folder / ".new", folder)][: fails + 1]
    assert [path.name for path in folder.iterdir()] == (["0000000001.safetensors"] if fails == 2 else [])
