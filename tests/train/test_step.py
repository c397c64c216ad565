"""The compiled step: K steps a call are K single steps; nothing is compiled twice; the state is donated."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from windownet.data.batches import Batch
from windownet.model import reference
from windownet.model.network import WindowNetwork
from windownet.train.step import Step, TrainState

NETWORK = WindowNetwork(9, 5, 3, 3, 4, 2, (6,), "tanh", 0.3, 0.3)


def stack(steps: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(9)[:6] for _ in range(steps)]).astype(np.int32)
    words = rng.integers(0, 6, (steps, 8, 3)).astype(np.int32)
    capitals = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
    tags = rng.integers(0, 3, (steps, 8)).astype(np.int32)
    return Batch(rows, words, capitals, tags, np.ones((steps, 8), bool))


def part(batches: Batch, start: int, stop: int) -> Batch:
    return Batch(*(array[start:stop] for array in batches))


def same(a: Any, b: Any) -> bool:
    def bits(x: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return all((bits(x) == bits(y)).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_call_of_k_steps_is_k_calls_of_one() -> None:
    batches = stack(4)
    many, one = Step(NETWORK, optax.adam(1e-2)), Step(NETWORK, optax.adam(1e-2))
    state, losses = many(many.init(3), batches)
    single = one.init(3)
    singly = []
    for n in range(4):
        single, loss = one(single, part(batches, n, n + 1))
        singly.append(float(loss[0]))
    assert int(state.step) == 4
    assert np.allclose(losses, singly, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(single.params), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_steps_equal_the_reference_under_jax_grad() -> None:
    batches, optimizer = stack(5), optax.adam(1e-2)
    step = Step(NETWORK, optimizer)
    state = step.init(1)
    params, inner, key = state.params, optimizer.init(state.params), state.key
    params = jax.tree.map(lambda x: x.copy(), params)
    key = key.copy()
    state, losses = step(state, batches)
    for n in range(5):
        batch = Batch(*(array[n] for array in batches))
        loss, gradient = jax.value_and_grad(
            lambda p, b=batch, k=n: reference.loss(NETWORK, p, b, jax.random.fold_in(key, k))
        )(params)
        assert float(loss) == pytest.approx(float(losses[n]), rel=1e-5)
        updates, inner = optimizer.update(gradient, inner, params)
        params = optax.apply_updates(params, updates)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_compiles_once_and_counts_when_it_does_not() -> None:
    step = Step(NETWORK, optax.sgd(0.1))
    state = step.init(0)
    for seed in range(3):
        state, _ = step(state, stack(2, seed))
    assert step.traces == 1
    step(state, stack(3))
    assert step.traces == 2


def test_the_state_is_donated() -> None:
    step = Step(NETWORK, optax.adam(0.1))
    state = step.init(0)
    step(state, stack(2))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.optimizer))


def test_two_runs_have_the_same_bits_and_another_seed_others() -> None:
    def run(seed: int) -> TrainState:
        step = Step(NETWORK, optax.adam(0.1))
        return step(step.init(seed), stack(3))[0]

    assert same(run(0), run(0))
    assert not same(run(0).params, run(1).params)
