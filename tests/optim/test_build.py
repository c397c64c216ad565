"""Every optimizer and schedule of the config is optax's of that name with the config's numbers."""

from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet import config
from windownet.autodiff import RowSparse
from windownet.optim import build, schedules

EXPECTED = {
    "sgd": lambda c, rate: optax.sgd(rate),
    "momentum": lambda c, rate: optax.sgd(rate, momentum=c.momentum),
    "adagrad": lambda c, rate: optax.adagrad(rate, eps=c.eps),
    "rmsprop": lambda c, rate: optax.rmsprop(rate, decay=c.decay, eps=c.eps),
    "adam": lambda c, rate: optax.adam(rate, c.b1, c.b2, c.eps),
    "adamw": lambda c, rate: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay),
}
NAMES = get_args(config.OptimizerConfig.model_fields["name"].annotation)


def make(**sections: dict[str, Any]) -> config.Config:
    return config.parse(sections, "test")


def run(optimizer: optax.GradientTransformation, steps: int = 10) -> np.ndarray:
    params = jnp.array([1.0, -2.0, 3.0])
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(2 * params - 1, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", ["constant", "warmup_cosine"])
def test_ten_steps_equal_optax(name: str, schedule: str) -> None:
    # Every number differs from its default, so that one that is not handed on shows.
    numbers = {"learning_rate": 0.03, "momentum": 0.7, "decay": 0.8, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
    c = make(optimizer={"name": name, "weight_decay": 0.1, **numbers}, schedule={"name": schedule, "warmup": 0.3})
    rate = optax.constant_schedule(0.03)
    if schedule == "warmup_cosine":
        rate = optax.warmup_cosine_decay_schedule(0.0, 0.03, 3, 10, 0.0)
    expected = run(EXPECTED[name](c.optimizer, rate))
    assert (run(build.build(c, 10)) == expected).all()
    assert (expected != run(optax.sgd(0.011))).all()


def test_warmup_and_cosine() -> None:
    c = make(optimizer={"learning_rate": 2.0}, schedule={"name": "warmup_cosine", "warmup": 0.25, "final": 0.1})
    rate = schedules.build(c.schedule, c.optimizer, 100)
    assert [round(float(rate(step)), 4) for step in (0, 25, 100)] == [0.0, 2.0, 0.2]
    assert float(rate(12)) == pytest.approx(2.0 * 12 / 25)
    middle = 0.2 + (2.0 - 0.2) * 0.5
    assert float(rate(25 + 75 // 2)) == pytest.approx(middle, rel=0.03)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.9])
def test_the_shortest_runs_have_a_rate(steps: int, warmup: float) -> None:
    c = make(schedule={"name": "warmup_cosine", "warmup": warmup})
    rate = schedules.build(c.schedule, c.optimizer, steps)
    assert all(np.isfinite(float(rate(step))) for step in range(steps))
    assert max(float(rate(step)) for step in range(steps + 1)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_touched_rows_end_as_the_dense_optimizer_would_have_them(name: str) -> None:
    numbers = {"learning_rate": 0.03, "momentum": 0.7, "decay": 0.8, "b1": 0.8, "b2": 0.95, "eps": 1e-12}
    c = make(
        optimizer={"name": name, "weight_decay": 0.3, "rates": {"words": 0.5, "w*": 9.0, "b": 2.0}, **numbers},
        schedule={"name": "warmup_cosine", "warmup": 0.3},
    )
    ends = {}
    for rows in ("exact", "replay", "dense"):
        optimizer = build.build_rowwise(
            c.model_copy(update={"optimizer": c.optimizer.model_copy(update={"rows": rows})}), 40
        )
        params = {"words": jnp.arange(12.0).reshape(6, 2), "b": jnp.ones(3)}
        state = optimizer.init(params)
        rng = np.random.default_rng(0)
        for _ in range(40):
            touched = jnp.asarray(rng.choice(6, 2, replace=False, p=[0.5, 0.3, 0.1, 0.05, 0.04, 0.01]), jnp.int32)
            params, state = optimizer.touch(params, state, {"words": touched})
            values = jnp.asarray(rng.normal(size=(2, 2)), jnp.float32) + params["words"][touched]
            gradient = {"words": RowSparse(touched, values, 6, unique=True), "b": params["b"]}
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        ends[rows], _ = optimizer.flush(params, state)
    for rows in ("exact", "replay"):
        for leaf in ("words", "b"):
            assert np.allclose(ends[rows][leaf], ends["dense"][leaf], rtol=2e-5, atol=2e-6), (rows, leaf)


def test_rates_scale_what_they_name_and_the_first_match_counts() -> None:
    c = make(optimizer={"name": "sgd", "learning_rate": 1.0, "rates": {"hidden.*.b": 3.0, "hidden.*": 0.5}})
    optimizer = build.build(c, 10)
    params = {"hidden": [{"w": jnp.ones(2), "b": jnp.ones(2)}], "words": jnp.ones(2)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert updates["hidden"][0]["w"].tolist() == [-0.5, -0.5]
    assert updates["hidden"][0]["b"].tolist() == [-3.0, -3.0]
    assert updates["words"].tolist() == [-1.0, -1.0]
