"""A step in parts is the step of all its windows at once, in less memory."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.data.batches import Batch
from windownet.model.network import WindowNetwork
from windownet.optim import missed
from windownet.optim.rowwise import Mode, Rowwise, rowwise
from windownet.train import accumulate, statistics
from windownet.train.step import Step, Training, TrainState

PARTS, WINDOWS, STEPS = 3, 12, 6
NETWORK = WindowNetwork(9, 5, 3, 3, 4, 2, (6,), "tanh", l2=0.05)


def stack() -> Batch:
    """Six steps of twelve windows or less: their last parts are shorter, or hold nothing."""
    rng = np.random.default_rng(0)
    rows = np.stack([np.append(rng.permutation(9)[:5], [9, 9]) for _ in range(STEPS)]).astype(np.int32)
    words = rng.integers(0, 5, (STEPS, WINDOWS, 3)).astype(np.int32)
    capitals = rng.integers(0, 5, (STEPS, WINDOWS, 3)).astype(np.int32)
    tags = rng.integers(0, 3, (STEPS, WINDOWS)).astype(np.int32)
    mask = np.arange(WINDOWS) < np.array([12, 9, 4, 0, 1, 11])[:, None]
    return Batch(rows, words, capitals, tags, mask)


def adam(mode: Mode, rate: float = 0.02) -> Rowwise:
    return rowwise(optax.adam(rate), mode, tables=["words"], missed=missed.adam(rate) if mode == "exact" else None)


def replayed() -> Rowwise:
    clipped = optax.chain(optax.clip_by_global_norm(0.3), optax.adam(optax.linear_schedule(0.02, 0.0, STEPS)))
    return rowwise(clipped, "exact", tables=["words"])


@pytest.mark.parametrize(
    ("make", "frozen"),
    [
        (lambda: adam("exact"), False),
        (lambda: adam("exact"), True),
        (lambda: adam("lazy"), False),
        (replayed, False),
    ],
    ids=["exact", "frozen", "lazy", "replay"],
)
def test_parts_make_the_step_of_all_windows(make: Callable[[], Rowwise], frozen: bool) -> None:
    def run(parts: int) -> tuple[TrainState, Any]:
        # A row that several parts touch is anchored once, as one that only one of them does.
        training = Training(NETWORK, make(), anchor=0.3, decay=0.8, parts=parts)
        state = training.init(jax.random.key(1))
        params = jax.tree.map(lambda x: x.astype(jnp.float64), state.params)
        average = state.average._replace(params=jax.tree.map(lambda x: x.astype(jnp.float64), state.average.params))
        start = state.start.astype(jnp.float64)
        state = state._replace(params=params, optimizer=make().init(params), start=start, average=average)
        step = Step(training)
        state, losses = step(state, stack(), frozen=frozen)
        return step.settle(state, frozen=frozen), losses

    with jax.enable_x64(True):
        (whole, losses), (parted, same) = run(1), run(PARTS)
        assert jax.tree.structure(whole) == jax.tree.structure(parted)
        assert np.allclose(losses, same, rtol=1e-12)
        for (path, a), b in zip(
            jax.tree.leaves_with_path(whole._replace(key=None)), jax.tree.leaves(parted._replace(key=None)), strict=True
        ):
            assert np.allclose(a, b, rtol=1e-9, atol=1e-12), jax.tree_util.keystr(path)
        assert int(parted.step) == int(parted.optimizer.step) == STEPS


def test_every_part_is_dropped_out_by_its_own_key() -> None:
    network = WindowNetwork(9, 5, 3, 3, 4, 2, (6,), "tanh", input_dropout=0.3, hidden_dropout=0.3)
    part = Batch(*(array[:1, :4] if array.shape[1] == WINDOWS else array[:1] for array in stack()))
    twice = Batch(part.rows, *(np.concatenate([array, array], axis=1) for array in part[1:]))
    step = Step(Training(network, adam("lazy"), parts=2))
    state = step.init(0)
    params, key = jax.tree.map(jnp.copy, (state.params, state.key))
    _, (loss,) = step(state, twice)
    single = Batch(*(array[0] for array in part))
    key = jax.random.fold_in(key, 0)
    losses = [float(network.loss(params, single, jax.random.fold_in(key, n))) for n in range(2)]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_statistics_are_of_the_whole_gradient_and_of_a_part_s_units() -> None:
    network, found = dataclasses.replace(NETWORK, nonlinearity="relu"), []
    for parts in (1, PARTS):
        step = Step(Training(network, adam("exact", 0.1), decay=0.95, parts=parts))
        state = step.init(0)
        # Far enough apart that units are flat on some windows and not on others.
        state = state._replace(params={**state.params, "words": 30 * state.params["words"]})
        state, _, told = step.watched(state, stack())
        found.append(told)
    whole, parted = found
    for name in whole.keys() - {"units/dead", "units/saturated"}:
        assert float(whole[name]) == pytest.approx(float(parted[name]), rel=1e-4), name
    last = Batch(*(array[-1] for array in stack()))
    units = statistics.units(network, state.params, accumulate.first(last, PARTS))
    assert {name: float(parted[name]) for name in units} == pytest.approx({n: float(x) for n, x in units.items()})
    assert units["units/saturated"] != whole["units/saturated"]
    # They are of the parameters that train, not of their average.
    averaged = statistics.units(network, state.result, accumulate.first(last, PARTS))
    assert units["units/saturated"] != averaged["units/saturated"]


def test_a_step_in_parts_takes_less_memory() -> None:
    network = WindowNetwork(4000, 5, 9, 5, 50, 5, (300,), "hard_tanh")
    windows, rows = 1024, 1029
    shapes = {"rows": (1, rows), "words": (1, windows, 5), "capitals": (1, windows, 5), "tags": (1, windows)}
    arrays = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}
    batches = Batch(**arrays, mask=jax.ShapeDtypeStruct((1, windows), jnp.bool_))

    def temporary(parts: int) -> int:
        training = Training(network, adam("exact"), parts=parts)
        state = jax.eval_shape(training.init, jax.random.key(0))
        steps = jax.jit(lambda s, b: training.steps(s, b, False), donate_argnums=0)
        return int(steps.lower(state, batches).compile().memory_analysis().temp_size_in_bytes)

    whole, parted = temporary(1), temporary(8)
    assert parted < 0.4 * whole
