"""Scalars that are Python's numbers, or arrays of a compiled program in which they change."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Scalar: TypeAlias = float | jax.Array


def is_zero(scalar: Scalar) -> bool:
    """Whether it is 0 in all of the program; an array is never known to be."""
    return isinstance(scalar, int | float) and scalar == 0


def add_to(total: jax.Array, term: jax.Array) -> jax.Array:
    """A long sum that goes on, [2]: as one float has it, and what the roundings of that left (Knuth's two-sum)."""
    so_far, rest = total
    new = so_far + term
    added = new - so_far
    return jnp.stack([new, rest + ((so_far - (new - added)) + (term - added))])


def since(now: jax.Array, then: jax.Array) -> jax.Array:
    """What was added between two states of such a sum, [..., 2] -> [...]."""
    return (now[..., 0] - then[..., 0]) + (now[..., 1] - then[..., 1])


def like(scalar: Scalar, x: Any) -> Scalar:
    """It as something that leaves the dtype of `x` as it is in arithmetic."""
    return scalar if isinstance(scalar, int | float) else jnp.asarray(scalar, x.dtype)
