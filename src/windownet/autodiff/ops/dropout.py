"""Inverted dropout."""

from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Op


def _dropout(x: jax.Array, key: Any, *, rate: float) -> jax.Array:
    """Set each value to zero with probability `rate`, scale the others by 1 / (1 - rate) (Srivastava et al. 2014).

    x [...], key a jax random key; 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: required 0 <= rate < 1, got {rate}")
    return x * _mask(x, key, rate)


def _dropout_vjp(g: Cotangent, y: jax.Array, x: jax.Array, key: Any, *, rate: float) -> tuple[Cotangent, None]:
    # The key makes the same mask again, so nothing need be kept; XLA merges the two where it pays.
    return g * _mask(x, key, rate), None


dropout = Op("dropout", _dropout, _dropout_vjp)


def _mask(x: jax.Array, key: Any, rate: float) -> jax.Array:
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, jnp.full_like(x, 1 / (1 - rate)), jnp.zeros_like(x))
