"""Checkpoints stand whole or are passed over."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from windownet.errors import InputError
from windownet.pretrain import checkpoint


class State(NamedTuple):
    params: dict
    step: jax.Array


def state(n):
    return State({"words": jnp.arange(6.0).reshape(2, 3) + n, "bias": jnp.zeros(())}, jnp.asarray(n))


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return True


def test_the_last_two_are_kept_and_read_back(tmp_path):
    assert checkpoint.load(tmp_path / "none", state(0), pytest.fail) is None
    for n in (3, 12, 100):
        checkpoint.save(tmp_path, state(n), n)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["000000012.safetensors", "000000100.safetensors"]
    found, stacks = checkpoint.load(tmp_path, jax.eval_shape(lambda: state(0)), pytest.fail)
    assert stacks == 100 and equal(found, state(100))
    # Any other reader of the format finds the arrays too.
    np.testing.assert_array_equal(
        load_file(tmp_path / "000000012.safetensors")["params.words"], state(12).params["words"]
    )


def flipped(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    "damage",
    [flipped, lambda data: data[:-4], lambda data: data[:40], lambda data: b"", lambda data: b"\xff" * len(data)],
)
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(tmp_path, damage):
    for n in (1, 2):
        checkpoint.save(tmp_path, state(n), n)
    first, last = sorted(tmp_path.iterdir())
    last.write_bytes(damage(last.read_bytes()))
    said = []
    found, stacks = checkpoint.load(tmp_path, state(0), said.append)
    assert stacks == 1 and equal(found, state(1))
    assert len(said) == 1 and str(last) in said[0] and "going on from the one before" in said[0]
    checkpoint.save(tmp_path, state(1), 1)
    assert list(tmp_path.iterdir()) == [first]
    first.write_bytes(b"")
    with pytest.raises(InputError, match="got only damaged ones; begin anew without --resume"):
        checkpoint.load(tmp_path, state(0), said.append)


def test_a_write_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, state(1), 1)

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, state(2), 2)
    found, stacks = checkpoint.load(tmp_path, state(0), pytest.fail)
    assert stacks == 1 and equal(found, state(1))
