"""Scalars that are Python's numbers, or arrays of a compiled program in which they change."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Scalar: TypeAlias = float | jax.Array


def is_zero(scalar: Scalar) -> bool:
    """Whether it is 0 in all of the program; an array is never known to be."""
    return isinstance(scalar, int | float) and scalar == 0


def like(scalar: Scalar, x: Any) -> Scalar:
    """It as something that leaves the dtype of `x` as it is in arithmetic."""
    return scalar if isinstance(scalar, int | float) else jnp.asarray(scalar, x.dtype)
