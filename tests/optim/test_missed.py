"""The closed form of missed updates at the edges of what it takes: how far it looks ahead, and with which numbers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.autodiff import RowSparse
from windownet.optim import missed
from windownet.optim.missed import Missed
from windownet.optim.rowwise import rowwise


def after(inner: Any, closed: Missed | None, steps: int) -> tuple[np.ndarray, Any]:
    """Five rows after `steps` steps, of which the k-th touches row k % 7, and what they note; dense without a form."""
    optimizer = rowwise(inner, "exact" if closed else "dense", tables=["t"], missed=closed, proven=True)
    params = {"t": jnp.ones((5, 2))}

    def one(carry: Any, k: jax.Array) -> Any:
        rows = (k % 7)[None]
        params, state = optimizer.touch(*carry, {"t": rows})
        gradient = {"t": RowSparse(rows, jnp.cos(k + jnp.arange(2.0))[None], 5)}
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def run_of(carry: Any) -> Any:
        return optimizer.flush(*jax.lax.scan(one, carry, jnp.arange(steps))[0])

    run = jax.jit(run_of, compiler_options={"xla_backend_optimization_level": 0})
    params, state = run((params, optimizer.init(params)))
    return np.asarray(params["t"]), state.now


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.91), (0.99, 0.999), (0.0, 0.5)])
def test_any_two_decays_of_adam(b1: float, b2: float) -> None:
    inner = optax.adam(1e-2, b1, b2)
    rows, noted = after(inner, missed.adam(1e-2, b1, b2), 60)
    assert np.isfinite(noted).all()
    np.testing.assert_allclose(rows, after(inner, None, 60)[0], rtol=1e-5)


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.9, 0.99), (0.9, 0.95), (0.99, 0.999), (0.95, 0.97)])
@pytest.mark.parametrize("small", [0.01, 1.0, 100.0])
def test_how_far_the_closed_form_may_be_short(b1: float, b2: float, small: float) -> None:
    eps, before, count = 1e-8, 20_000, 400
    closed, g = missed.adam(1.0, b1, b2, eps=eps), eps * small
    with jax.enable_x64(True):
        fields = {"mu": jnp.full((1, 1), g * (1 - b1**before)), "nu": jnp.full((1, 1), g**2 * (1 - b2**before))}
        then = closed.renew(jnp.int32(before), closed.begin())
        now = closed.renew(jnp.int32(before + count), then)
        moved, _ = closed.catch_up(jnp.zeros((1, 1)), fields, jnp.full(1, count), then[None], now)
    j = np.arange(1, count + 1)
    dense = -np.sum(g * b1**j / (np.sqrt(g**2 * b2**j) + eps))
    r, growth = b1 / math.sqrt(b2), 1 / math.sqrt(b2)
    variance = r * (growth - 1) ** 2 / ((1 - r) * (1 - r * growth**2))
    mean = (1 - r) * growth / (1 - r * growth) / small
    # float32 notes the sums.
    assert -1e-6 <= 1 - float(moved[0, 0]) / dense <= variance * (mean / (1 + mean)) ** 2 + 1e-6


@pytest.mark.parametrize("rate", [1e-2, -1e-2])
def test_epsilon_slows_rows_whatever_the_sign_of_the_rate(rate: float) -> None:
    # So large that without it the rows are elsewhere.
    inner, closed = optax.adam(rate, eps=1.0), missed.adam(rate, eps=1.0)
    dense = after(inner, None, 60)[0]
    assert np.abs(after(inner, closed, 60)[0] - dense).max() < 5e-4
    assert np.abs(after(inner, missed.adam(rate), 60)[0] - dense).max() > 1e-2


def test_a_rate_that_is_no_number_counts_where_a_step_reaches_it() -> None:
    def rate(k: Any) -> Any:
        return 1e-2 * jnp.sqrt(1 - k / 40)

    inner, closed = optax.adamw(rate, weight_decay=0.1), missed.adam(rate, weight_decay=0.1)
    np.testing.assert_allclose(after(inner, closed, 39)[0], after(inner, None, 39)[0], rtol=1e-5)
    for form in (closed, None):
        assert np.isnan(after(inner, form, 44)[0]).all()


def test_without_a_ratio_a_rate_that_is_no_number_counts_too() -> None:
    def rate(k: Any) -> Any:
        return jnp.where(k < 10, 0.1, jnp.nan)

    for steps, reached in ((10, False), (11, True)):
        for closed in (missed.decay(rate), None):
            assert np.isnan(after(optax.sgd(rate), closed, steps)[0]).all() == reached


@pytest.mark.parametrize(
    "make",
    [
        lambda: missed.adam(1e-3, 0.9, 0.901),
        lambda: missed.momentum(1e-3, 0.999),
        lambda: missed.momentum(lambda k: 1e-3, 0.997, weight_decay=0.1),
    ],
)
def test_sums_of_too_many_terms_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"10,000 terms, got [0-9,]+, each 0\.99[0-9]* of the one before.*leave"):
        make()
