"""Which optimizers' missed updates can be replayed, and what becomes of those that cannot."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from optax import contrib

from windownet.autodiff import RowSparse
from windownet.optim.rowwise import Rowwise, rowwise

RATE = optax.exponential_decay(0.1, 5, 0.5)
PARAMS = {"table": jnp.ones((3, 2)), "bias": jnp.ones(2), "scale": jnp.ones(())}


def train(optimizer: Rowwise, steps: int, params: Any, state: Any) -> Any:
    """Steps that touch one row in turn or none."""
    for step in range(steps):
        rows = jnp.array([step % 5], jnp.int32)
        params, state = optimizer.touch(params, state, {"table": rows})
        gradient = {**jax.tree.map(jnp.ones_like, params), "table": RowSparse(rows, jnp.ones((1, 2)), 3)}
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return optimizer.flush(params, state)


def counted_by(then: Any, first: int = 0) -> optax.GradientTransformation:
    """A rate that falls with a number that begins as `first` and is `then` of itself after an update."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        slower = jax.tree.map(lambda u: u / (1 + state.count), updates)
        return slower, optax.ScaleByScheduleState(then(state.count))

    scaled = optax.GradientTransformation(lambda params: optax.ScaleByScheduleState(jnp.int32(first)), update)
    return optax.chain(scaled, optax.sgd(0.1, 0.9))


REPLAYED = {
    "adam with a schedule": optax.adam(RATE),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=RATE, momentum=0.9),
    "injected, a whole number": optax.inject_hyperparams(optax.sgd)(learning_rate=1, momentum=0.5),
    "masked": optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), {"table": True, "bias": True, "scale": False}), optax.adam(0.01)
    ),
    "by groups": optax.multi_transform(
        {"a": optax.adam(RATE), "b": optax.sgd(0.1)}, {"table": "a", "bias": "b", "scale": "b"}
    ),
    "schedule free, but for the table": optax.multi_transform(
        {"a": optax.sgd(RATE, 0.9), "b": contrib.schedule_free(optax.sgd(0.1), 0.1)},
        {"table": "a", "bias": "b", "scale": "b"},
    ),
    "counted by hand": counted_by(lambda k: k + 1),
    "skipping, but for the table": optax.multi_transform(
        {"a": optax.adam(RATE), "b": optax.apply_if_finite(optax.adam(0.1), 3)},
        {"table": "a", "bias": "b", "scale": "b"},
    ),
    "kept for later, but for the table": optax.multi_transform(
        {"a": optax.adam(RATE), "b": optax.MultiSteps(optax.adam(0.1), 3).gradient_transformation()},
        {"table": "a", "bias": "b", "scale": "b"},
    ),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, weight_decay=0.1)),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_replay_takes_counts_and_fixed_numbers(name: str) -> None:
    exact, dense = (
        train(optimizer, 9, PARAMS, optimizer.init(PARAMS))[0]["table"]
        for optimizer in (rowwise(REPLAYED[name], mode, tables=["table"]) for mode in ("exact", "dense"))
    )
    assert jnp.allclose(exact, dense, rtol=1e-5, atol=1e-6), (exact, dense)


@pytest.mark.parametrize("name", [name for name in REPLAYED if name.endswith("but for the table")])
def test_of_a_dense_state_the_counts_of_the_tables_tell_the_step(name: str) -> None:
    inner, gradient = REPLAYED[name], jax.tree.map(jnp.ones_like, PARAMS)
    params, state = PARAMS, inner.init(PARAMS)
    for _ in range(5):
        updates, state = inner.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    assert rowwise(inner, "exact", tables=["table"]).adopt(params, state).step == 5


def test_a_rate_changed_after_a_flush_counts_from_there() -> None:
    tables = []
    for mode in ("exact", "dense"):
        optimizer = rowwise(optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9), mode, tables=["table"])
        params, state = train(optimizer, 3, PARAMS, optimizer.init(PARAMS))
        state.inner.hyperparams["learning_rate"] = jnp.asarray(0.001)
        tables.append(train(optimizer, 5, params, state)[0]["table"])
    assert jnp.allclose(*tables, rtol=1e-5), tables


def test_rates_of_columns_changed_after_a_flush() -> None:
    def rated(rates: Any) -> optax.GradientTransformation:
        scaled = optax.stateless(lambda updates, _: jax.tree.map(lambda x: -rates * x if x.ndim else x, updates))
        return optax.chain(optax.trace(0.9), scaled)

    tables = []
    for mode in ("exact", "dense"):
        optimizer = rowwise(optax.inject_hyperparams(rated)(rates=jnp.array([0.1, 0.1])), mode, tables=["table"])
        params, state = train(optimizer, 3, PARAMS, optimizer.init(PARAMS))
        state.inner.hyperparams["rates"] = jnp.array([1.0, 0.01])
        tables.append(train(optimizer, 5, params, state)[0]["table"])
    assert jnp.allclose(*tables, rtol=1e-5), tables


OTHERS = {
    "muon": contrib.muon(0.1),
    "sm3": optax.sm3(0.1),
    "an array": optax.stateless(lambda updates, _: {**updates, "bias": updates["bias"] * jnp.arange(2.0)}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_other_parameters_go_through_does_not_matter(name: str) -> None:
    params = {**PARAMS, "weights": jnp.ones((4, 5))}
    labels = {"table": "a", "bias": "b", "scale": "a", "weights": "b"}
    inner = optax.multi_transform({"a": optax.adam(RATE), "b": OTHERS[name]}, labels)
    exact, dense = (
        train(optimizer, 9, params, optimizer.init(params))[0]["table"]
        for optimizer in (rowwise(inner, mode, tables=["table"]) for mode in ("exact", "dense"))
    )
    assert jnp.allclose(exact, dense, rtol=1e-5, atol=1e-6), (exact, dense)


def test_a_parameter_may_be_a_python_number() -> None:
    optimizer = rowwise(optax.adam(RATE), "exact", tables=["table"])
    params = {**PARAMS, "scale": 1.0}
    state = optimizer.init(params)
    assert jnp.array_equal(optimizer.flush(params, state)[0]["table"], PARAMS["table"])


def test_a_decay_that_is_an_array_and_a_narrow_table() -> None:
    tables = []
    for mode in ("exact", "dense"):
        optimizer = rowwise(optax.sgd(0.125, momentum=jnp.float32(0.5)), mode, tables=["table"])
        params = {**PARAMS, "table": PARAMS["table"].astype(jnp.bfloat16)}
        state = optimizer.init(params)
        for row in range(3):
            rows = jnp.array([row])
            params, state = optimizer.touch(params, state, {"table": rows})
            gradient = RowSparse(rows, jnp.ones((1, 2), jnp.bfloat16), 3)
            updates, state = optimizer.update({**PARAMS, "table": gradient}, state, params)
            params = optax.apply_updates(params, updates)
        tables.append(optimizer.flush(params, state)[0]["table"])
    assert tables[0].dtype == jnp.bfloat16
    assert jnp.array_equal(*tables), tables


@pytest.mark.parametrize(
    ("inner", "leaf"),
    [
        (contrib.schedule_free(optax.sgd(0.1), 0.1), "weight_sum"),
        (optax.optimistic_gradient_descent(0.1), "0.is_initial_step"),
        (optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)), "0.rng_key"),
        (optax.conditionally_mask(optax.adam(0.1), lambda step: step >= 5), "inner_state.0.count"),
        (optax.conditionally_transform(optax.adam(0.1), lambda step: step >= 5), "inner_state.0.count"),
        (contrib.sam(optax.sgd(0.1, 0.9), optax.sgd(0.05), sync_period=10), "steps_since_sync"),
        (counted_by(lambda k: (k + 1) % 10), "0.count"),
        (counted_by(lambda k: (k + 1) % 40_000), "0.count"),
        (counted_by(lambda k: (k + 1) % 2**20), "0.count"),
        (counted_by(lambda k: jnp.minimum(k + 1, 10)), "0.count"),
        (counted_by(lambda k: k + 1, first=3), "0.count"),
    ],
)
def test_what_no_replay_can_know_is_refused(inner: optax.GradientTransformation, leaf: str) -> None:
    with pytest.raises(TypeError, match=rf"got {leaf}, which changes otherwise; use mode 'lazy' or 'dense'"):
        rowwise(inner, "exact", tables=["table"]).init(PARAMS)
    with pytest.raises(TypeError, match=leaf):
        jax.jit(rowwise(inner, "exact", tables=["table"]).init)(PARAMS)
    rowwise(inner, "lazy", tables=["table"]).init(PARAMS)


@pytest.mark.parametrize(
    "inner",
    [
        optax.MultiSteps(optax.adam(0.1), 2),
        optax.MultiSteps(optax.adam(0.1), 100).gradient_transformation(),
        optax.chain(optax.apply_every(2), optax.sgd(0.1)),
        optax.multi_transform(
            {"a": optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(), "b": optax.sgd(0.1)},
            {"table": "a", "bias": "b", "scale": "b"},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_gradients_that_are_kept_for_later_are_refused(inner: Any, mode: Any) -> None:
    with pytest.raises(TypeError, match=r"lets rows go on at each step, got optax\.MultiSteps or apply_every"):
        rowwise(inner, mode, tables=["table"]).init(PARAMS)
    rowwise(inner, "dense", tables=["table"]).init(PARAMS)
