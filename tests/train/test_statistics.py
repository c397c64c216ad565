"""Norms, dead units and saturation against numpy, and that watching a step does not change it."""

import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.autodiff import RowSparse, ops, vjp
from windownet.data.batches import Batch
from windownet.model.network import WindowNetwork
from windownet.optim import missed
from windownet.optim.rowwise import rowwise
from windownet.schema.choices import Nonlinearity
from windownet.train import statistics
from windownet.train.step import Step, Training


def network(nonlinearity: str = "relu") -> WindowNetwork:
    return WindowNetwork(9, 5, 3, 3, 4, 2, (6, 5), nonlinearity)


def stack(steps: int) -> Batch:
    rng = np.random.default_rng(0)
    rows = np.stack([np.append(rng.permutation(9)[:5], 9) for _ in range(steps)]).astype(np.int32)
    words = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
    capitals = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
    tags = rng.integers(0, 3, (steps, 8)).astype(np.int32)
    return Batch(rows, words, capitals, tags, np.arange(8) < np.full((steps, 1), 6))


def test_norms_are_by_group() -> None:
    rows, values = [2, 0, 7, -1, 2], [[1.0, 3.0], [0.0, 12.0], [99.0, 99.0], [99.0, 99.0], [2.0, 1.0]]
    sparse = RowSparse(jnp.array(rows), jnp.array(values), 7)
    tree = {
        "words": sparse,
        "hidden": [{"w": jnp.full((2, 2), 3.0), "b": jnp.array([8.0, 0.0])}],
        "output": {"w": jnp.ones(4)},
    }
    found = statistics.norms("gradient", tree)
    assert {name: float(norm) for name, norm in found.items()} == {
        # Rows 7 and -1 only fill the slots up; row 2 is there twice.
        "gradient/words": 13.0,
        "gradient/hidden.0": 10.0,
        "gradient/output": 2.0,
    }


@pytest.mark.parametrize(
    ("nonlinearity", "beyond", "is_dead", "is_saturated"),
    [
        ("relu", -1.0, True, True),
        ("hard_tanh", 1.5, True, True),
        # What is flat, but not quite, still learns.
        ("leaky_relu", -1.0, False, True),
        ("sigmoid", 5.0, False, True),
        ("sigmoid", 3.0, False, False),
        ("prelu", -1.0, False, False),
    ],
)
def test_dead_units_and_saturated_values_are_counted(
    nonlinearity: str, beyond: float, is_dead: bool, is_saturated: bool
) -> None:
    net = network(nonlinearity)
    params = net.init(jax.random.key(0))
    batch = Batch(*(array[0] for array in stack(1)))
    # Two units of the first layer are pushed beyond where the nonlinearity bends; the others stay where it does.
    for n, layer in enumerate(params["hidden"]):
        layer["w"] = layer["w"] * 1e-3
        bias = np.full(layer["b"].shape, 0.5, np.float32)
        if n == 0:
            bias[:2] = beyond
        layer["b"] = jnp.asarray(bias)
    found = statistics.units(net, params, batch)
    assert math.isclose(found["units/dead"], is_dead * 2 / 11, abs_tol=1e-6)
    assert math.isclose(found["units/saturated"], is_saturated * 2 / 11, abs_tol=1e-6)


@pytest.mark.parametrize("nonlinearity", get_args(Nonlinearity))
def test_the_steepest_slope_is_the_nonlinearity_s(nonlinearity: str) -> None:
    x = jnp.linspace(-4, 4, 8001)
    op = ops.OPS[nonlinearity]
    slopes = vjp(lambda z: op(z, jnp.full(8001, 0.25)) if nonlinearity == "prelu" else op(z), x)[1](jnp.ones_like(x))[0]
    # Softplus has it at infinity alone.
    within = 0.02 if nonlinearity == "softplus" else 1e-5
    assert math.isclose(statistics.STEEPEST.get(nonlinearity, 1.0), slopes.max(), rel_tol=within)


def test_a_window_that_fills_the_batch_up_counts_for_nothing() -> None:
    net = network("relu")
    params = net.init(jax.random.key(0))
    batch = Batch(*(array[0] for array in stack(1)))
    capitals = batch.capitals.copy()
    capitals[6:] = 4 - capitals[6:]
    other = batch._replace(capitals=capitals)
    assert statistics.units(net, params, batch) == statistics.units(net, params, other)


def test_no_hidden_layer_no_units() -> None:
    net = WindowNetwork(9, 5, 3, 3, 4, 2, (), "relu")
    assert statistics.units(net, net.init(jax.random.key(0)), Batch(*(array[0] for array in stack(1)))) == {}


@pytest.mark.parametrize("frozen", [False, True])
def test_watching_a_step_does_not_change_it(frozen: bool) -> None:
    def step() -> Step:
        optimizer = rowwise(optax.adam(1e-2), "exact", tables=["words"], missed=missed.adam(1e-2))
        return Step(Training(network("tanh"), optimizer))

    plain, watched = step(), step()
    batches = stack(4)
    state, losses = plain(plain.init(0), batches, frozen=frozen)
    other, same, told = watched.watched(watched.init(0), batches, frozen=frozen)

    def equal(a: Any, b: Any) -> bool:
        return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=1e-6, atol=1e-7))

    assert equal(losses, same)
    assert all(map(equal, jax.tree.leaves(state.params), jax.tree.leaves(other.params)))
    groups = {"words", "capitals", "hidden.0", "hidden.1", "output"}
    assert set(told) == {f"{kind}/{group}" for kind in ("gradient", "update") for group in groups} | {
        "units/dead",
        "units/saturated",
    }
    assert (told["gradient/words"] == 0) == frozen
    assert all(told[f"{kind}/output"] > 0 for kind in ("gradient", "update"))
    assert watched.traces == 1
