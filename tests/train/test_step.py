"""The compiled step: K steps a call are K single steps; nothing is compiled twice; the state is donated."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from windownet.data.batches import Batch
from windownet.machine import compiler_options
from windownet.model import reference
from windownet.model.network import WindowNetwork
from windownet.optim import missed
from windownet.optim.rowwise import Mode, Rowwise, rowwise
from windownet.train.step import Step, Training, TrainState
from windownet.train.word_table import WordTable

NETWORK = WindowNetwork(9, 5, 3, 3, 4, 2, (6,), "tanh", 0.3, 0.3)


def rows_of(inner: optax.GradientTransformation, closed: missed.Missed | None = None) -> Rowwise:
    return rowwise(inner, "exact", tables=["words"], missed=closed)


def adam(rate: float) -> Rowwise:
    return rows_of(optax.adam(rate), missed.adam(rate))


def make(optimizer: Rowwise, anchor: float = 0.0) -> Step:
    return Step(Training(NETWORK, optimizer, anchor))


def stack(steps: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    rows = np.stack([np.append(rng.permutation(9)[:5], 9) for _ in range(steps)]).astype(np.int32)
    words = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
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
    many, one = make(adam(1e-2)), make(adam(1e-2))
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


def test_steps_are_compiled_with_the_machine_s_options(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(jax, "jit", lambda function, **options: used.append(options) or function)
    make(adam(1e-2))
    assert [options["compiler_options"] for options in used if "compiler_options" in options] == [
        compiler_options()
    ] * 2


@pytest.mark.parametrize("mode", ["exact", "replay", "dense"])
def test_steps_equal_the_dense_reference_under_jax_grad(mode: str) -> None:
    batches, optimizer = stack(5), optax.adam(1e-2)
    if mode == "exact":
        step = make(adam(1e-2))
    else:
        step = make(rowwise(optimizer, "exact" if mode == "replay" else "dense", tables=["words"]))
    state = step.init(1)
    params, inner, key = state.params, optimizer.init(state.params), state.key
    params = jax.tree.map(lambda x: x.copy(), params)
    key = key.copy()
    state, losses = step(state, batches)
    state = step.settle(state)
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
    step = make(rows_of(optax.sgd(0.1)))
    state = step.init(0)
    for seed in range(3):
        state, _ = step(state, stack(2, seed))
    assert step.traces == 1
    step(state, stack(3))
    assert step.traces == 2


def test_the_state_is_donated() -> None:
    step = make(adam(0.1))
    state = step.init(0)
    step(state, stack(2))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.optimizer))


def test_two_runs_have_the_same_bits_and_another_seed_others() -> None:
    def run(seed: int) -> TrainState:
        step = make(adam(0.1))
        return step(step.init(seed), stack(3))[0]

    assert same(run(0), run(0))
    assert not same(run(0).params, run(1).params)


@pytest.mark.parametrize("frozen", [False, True])
def test_every_step_is_dropped_out_by_its_own_key(frozen: bool) -> None:
    batch = stack(1)
    step = make(rows_of(optax.sgd(0.0)))
    state = step.init(0)
    params, key = jax.device_get(state.params), state.key.copy()
    _, losses = step(state, Batch(*(np.concatenate([array] * 3) for array in batch)), frozen=frozen)
    single = Batch(*(array[0] for array in batch))
    expected = [float(NETWORK.loss(params, single, jax.random.fold_in(key, n))) for n in range(3)]
    assert np.ptp(expected) > 1e-3
    assert np.allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "lazy", "dense"])
def test_a_frozen_table_keeps_its_bits_and_the_rest_trains_as_if_it_were_a_constant(mode: Mode) -> None:
    decaying = optax.adamw(0.1, weight_decay=0.2)
    closed = missed.adam(0.1, weight_decay=0.2) if mode == "exact" else None
    step = make(rowwise(decaying, mode, tables=["words"], missed=closed))
    state = step.init(0)
    before = jax.device_get(state.params)
    state, _ = step(state, stack(3), frozen=True)
    state = step.settle(state, frozen=True)
    state = step.settle(state)
    assert (np.asarray(state.params["words"]) == before["words"]).all()
    assert not (np.asarray(state.params["capitals"]) == before["capitals"]).any()
    moments = state.optimizer.inner[0]
    assert not np.asarray(moments.mu["words"]).any()

    thawed, _ = step(state, stack(2))
    assert step.traces == 2
    touched = np.unique(stack(2).rows[stack(2).rows < 9])
    assert (np.asarray(thawed.params["words"]) != before["words"])[touched].any(axis=1).all()


def test_the_anchor_is_the_gradient_of_half_its_squared_distance() -> None:
    batches = stack(1)
    plain, anchored = make(rows_of(optax.sgd(1.0))), make(rows_of(optax.sgd(1.0)), 0.3)

    def after(step: Step, moved: float) -> tuple[np.ndarray, float]:
        state = step.init(0)
        words = state.params["words"] + moved
        state, losses = step(state._replace(params={**state.params, "words": words}), batches)
        return np.asarray(state.params["words"]), float(losses[0])

    for moved in (0.0, 0.5):
        (without, loss), (with_anchor, penalized) = after(plain, moved), after(anchored, moved)
        touched = batches.rows[0][batches.rows[0] < 9]
        pulled = without - with_anchor
        assert np.allclose(pulled[touched], 0.3 * moved, atol=1e-6)
        assert not np.delete(pulled, touched, axis=0).any()
        assert penalized - loss == pytest.approx(0.15 * touched.size * 4 * moved**2, abs=1e-5)


def test_pretrained_rows_begin_as_the_file_has_them_and_others_as_drawn() -> None:
    table, found = np.full((9, 4), 7, np.float32), np.arange(9) % 2 == 0
    words = np.asarray(make(adam(0.1)).init(0, WordTable(table, found, 0, (), ())).params["words"])
    drawn = np.asarray(make(adam(0.1)).init(0).params["words"])
    assert (words[found] == 7).all()
    assert (words[~found] == drawn[~found]).all()


def test_the_average_of_a_row_follows_what_it_missed() -> None:
    # Adam's mean goes on moving a row long after its only touch: most of where it ends is made of missed updates.
    batches = stack(30)
    rare = [np.append(np.random.default_rng(n).permutation(8)[:5], 9) for n in range(30)]
    rare[0][0] = 8
    batches = batches._replace(rows=np.stack(rare).astype(np.int32))
    averaged = Step(Training(NETWORK, adam(1e-2), decay=0.9))
    state = averaged.settle(averaged(averaged.init(0), batches)[0])
    found = np.asarray(state.result["words"])[8]

    plain = make(adam(1e-2))
    state = plain.init(0)
    start, seen = np.asarray(state.params["words"])[8], []
    for n in range(30):
        state, _ = plain(state, part(batches, n, n + 1))
        state = plain.settle(state)
        seen.append(np.asarray(state.params["words"])[8])
    weights = 0.9 ** np.arange(29, -1, -1)
    expected = (weights[:, None] * seen).sum(axis=0) / weights.sum()
    assert np.abs(expected - start).min() > 0.03
    assert np.allclose(found, expected, rtol=0, atol=0.15 * np.abs(expected - start).max())
