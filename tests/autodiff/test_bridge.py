"""Ops under `jax.grad`: our rule, wherever jax carries it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet.autodiff import as_custom_vjp, ops

X = jnp.linspace(-1.0, 2.0, 6).reshape(2, 3)
MASK = jnp.asarray([[True, False, True], [True, True, False]])


def dropped(x: Any, rate: Any) -> Any:
    return as_custom_vjp(ops.dropout)(x, MASK, rate=rate).sum()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x, rate: jax.vmap(f, in_axes=(None, 0))(x, rate[None])[0],
        lambda f: lambda x, rate: jax.lax.scan(lambda c, r: (c + f(x, r), None), 0.0, rate[None])[0],
    ],
    ids=["plain", "jit", "checkpoint", "vmap", "scan"],
)
def test_a_keyword_may_be_an_array_of_a_program_that_is_differentiated(wrap: Callable[[Any], Any]) -> None:
    rate = jnp.asarray(0.5)
    found = jax.grad(wrap(dropped))(X, rate)
    np.testing.assert_allclose(found, jax.grad(lambda x: dropped(x, 0.5))(X), rtol=1e-6)
    np.testing.assert_allclose(found, np.where(MASK, 2, 0))
    assert jax.grad(wrap(dropped), argnums=1)(X, rate) == 0


def test_an_input_by_name_is_refused_where_it_is_given() -> None:
    with pytest.raises(TypeError, match="op 'matmul': required inputs by position, got y by name"):
        as_custom_vjp(ops.matmul)(jnp.ones((2, 2)), y=jnp.ones((2, 2)))


def test_the_gradient_is_that_of_our_rule() -> None:
    wrong = type(ops.square)("square", jnp.square, lambda g, y, x: (7 * g,))
    assert jax.grad(as_custom_vjp(wrong))(3.0) == 7
    assert jax.jit(jax.grad(as_custom_vjp(ops.square)))(3.0) == 6
