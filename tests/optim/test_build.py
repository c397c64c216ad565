"""Every optimizer of the config is optax's of that name with the config's numbers."""

from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet import config
from windownet.optim import build

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
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_ten_steps_equal_optax(name: str, schedule: str) -> None:
    # Every number differs from its default, so that one that is not handed on shows.
    numbers = {"learning_rate": 0.03, "momentum": 0.7, "decay": 0.8, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
    warmup = 0.3 if schedule == "cosine" else 0.0
    c = make(optimizer={"name": name, "weight_decay": 0.1, **numbers}, schedule={"name": schedule, "warmup": warmup})
    rate = optax.constant_schedule(0.03)
    if schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(0.0, 0.03, 3, 10, 0.0)
    expected = run(EXPECTED[name](c.optimizer, rate))
    assert (run(build.build(c, 10)) == expected).all()
    assert (expected != run(optax.sgd(0.011))).all()
