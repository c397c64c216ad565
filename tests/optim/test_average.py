"""The moving average that costs what touched rows cost, against optax's of everything."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.optim import average

V, DECAY, STEPS = 9, 0.8, 30


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.99999])
def test_of_one_value_is_that_value_however_near_to_one_the_decay(decay: float) -> None:
    params = {"words": jnp.full((2, 1), 3.0), "b": jnp.full(1, 3.0)}
    ours = average.begin(params, "words")
    for k in map(jnp.int32, range(1, 4)):
        ours = average.add(ours, params["words"], params, table="words", rows=jnp.arange(1), step=k, decay=decay)
        whole = average.catch_up(ours, params["words"], table="words", step=k, decay=decay)
        for leaf in jax.tree.leaves(average.read(whole, k, decay)):
            np.testing.assert_allclose(leaf, 3.0, rtol=1e-6)


def test_equals_optax_of_all_rows_where_steps_touch_some() -> None:
    rng = np.random.default_rng(0)
    params = {"words": jnp.asarray(rng.normal(size=(V, 2)), jnp.float32), "b": jnp.ones(3)}
    ours = average.begin(params, "words")
    theirs = optax.ema(DECAY)
    state = theirs.init(params)

    @jax.jit
    def step(ours: average.Average, before: jax.Array, params: dict, rows: jax.Array, k: jax.Array) -> average.Average:
        return average.add(ours, before, params, table="words", rows=rows, step=k, decay=DECAY)

    for k in range(1, STEPS + 1):
        # Row 8 is never touched, others seldom; one slot is empty.
        rows = np.append(rng.choice(8, 2, replace=False, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01]), V)
        words = np.array(params["words"])
        words[rows[:2]] += rng.normal(size=(2, 2))
        before, params = params["words"], {"words": jnp.asarray(words), "b": params["b"] * 0.9}
        ours = step(ours, before, params, jnp.asarray(rows, jnp.int32), jnp.asarray(k, jnp.int32))
        expected, state = theirs.update(params, state)
        if k in (1, 7, STEPS):
            now = jnp.asarray(k, jnp.int32)
            whole = average.catch_up(ours, params["words"], table="words", step=now, decay=DECAY)
            read = average.read(whole, now, DECAY)
            for name in params:
                np.testing.assert_allclose(read[name], expected[name], rtol=1e-5, atol=1e-6)
            # Going on from what was caught up is going on.
            ours = whole if k == 7 else ours
    assert (np.asarray(ours.last) < STEPS).any()
    assert np.abs(np.asarray(read["words"]) - np.asarray(params["words"])).max() > 0.1
