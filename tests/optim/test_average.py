"""The moving average that costs what touched rows cost, against optax's of everything."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.optim import average

V, STEPS = 9, 30


def falling(step: int) -> float:
    return 0.9 * 0.95**step


def with_a_zero(step: int) -> float:
    return 0.0 if step == 12 else 0.7


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.99999])
def test_of_one_value_is_that_value_however_near_to_one_the_decay(decay: float) -> None:
    params = {"words": jnp.full((2, 1), 3.0), "b": jnp.full(1, 3.0)}
    ours = average.begin({name: leaf - 1 for name, leaf in params.items()}, "words")
    for _ in range(3):
        ours = average.add(ours, params["words"], params, table="words", rows=jnp.arange(1), decay=decay)
        whole = average.catch_up(ours, params["words"], table="words")
        assert all((leaf == 3.0).all() for leaf in jax.tree.leaves(whole.params))


@pytest.mark.parametrize("decay", [lambda step: 0.8, falling, with_a_zero])
def test_equals_that_of_all_rows_where_steps_touch_some(decay: Any) -> None:
    rng = np.random.default_rng(0)
    params = {"words": jnp.asarray(rng.normal(size=(V, 2)), jnp.float32), "b": jnp.ones(3)}
    first, ours = params, average.begin(params, "words")
    sums, left = jax.tree.map(np.zeros_like, params), 1.0

    @jax.jit
    def step(ours: average.Average, before: jax.Array, params: dict, rows: jax.Array, k: jax.Array) -> average.Average:
        return average.add(ours, before, params, table="words", rows=rows, decay=k)

    for k in range(STEPS):
        # Row 8 is never touched, others seldom; one slot is empty.
        rows = np.append(rng.choice(8, 2, replace=False, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01]), V)
        words = np.array(params["words"])
        words[rows[:2]] += rng.normal(size=(2, 2))
        before, params = params["words"], {"words": jnp.asarray(words), "b": params["b"] * 0.9}
        ours = step(ours, before, params, jnp.asarray(rows, jnp.int32), jnp.asarray(decay(k), jnp.float32))
        kept = decay(k)
        sums = {name: kept * e + (1 - kept) * np.asarray(params[name], np.float64) for name, e in sums.items()}
        left *= kept
        if k in (0, 6, STEPS - 1):
            whole = average.catch_up(ours, params["words"], table="words")
            for name in params:
                np.testing.assert_allclose(whole.params[name], sums[name] / (1 - left), rtol=1e-5, atol=1e-6)
            # Going on from what was caught up is going on.
            behind, ours = ours, whole if k == 6 else ours
    assert not (np.asarray(behind.last) == np.asarray(behind.log)).all()
    found = np.asarray(whole.params["words"])
    assert np.abs(found - np.asarray(params["words"])).max() > 0.1
    assert found[8].tobytes() == np.asarray(first["words"])[8].tobytes()


def test_of_one_decay_equals_optax() -> None:
    theirs, params = optax.ema(0.8), {"words": jnp.ones((2, 1)), "b": jnp.ones(3)}
    ours, state = average.begin(params, "words"), theirs.init(params)
    for k in range(5):
        before, params = params["words"], jax.tree.map(lambda p, k=k: p * (0.5 + k), params)
        ours = average.add(ours, before, params, table="words", rows=jnp.arange(2), decay=0.8)
        expected, state = theirs.update(params, state)
    for name in params:
        np.testing.assert_allclose(ours.params[name], expected[name], rtol=1e-6)


def test_two_million_steps_lose_no_digits() -> None:
    # What is left of the beginning after n steps is decay^n.
    decay, params = 0.99999, {"words": jnp.zeros((1, 1))}

    @jax.jit
    def run(ours: average.Average) -> average.Average:
        def one(_: Any, ours: average.Average) -> average.Average:
            return average.add(ours, params["words"], params, table="words", rows=jnp.arange(1), decay=decay)

        return jax.lax.fori_loop(0, 2_000_000, one, ours)

    log = np.asarray(run(average.begin(params, "words")).log, np.float64).sum()
    assert log == pytest.approx(2_000_000 * np.log1p(np.float64(np.float32(decay)) - 1), rel=1e-5)
