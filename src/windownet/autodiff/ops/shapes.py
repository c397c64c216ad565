"""Ops that move values without changing them; their rules move the cotangents back."""

from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Op


def _reshape(x: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    """The same values in row-major order under another shape; one axis may be -1."""
    return jnp.reshape(x, shape)


def _reshape_vjp(g: Cotangent, y: jax.Array, x: jax.Array, *, shape: tuple[int, ...]) -> tuple[Cotangent]:
    return (g.reshape(x.shape),)


reshape = Op("reshape", _reshape, _reshape_vjp)


def _transpose(x: jax.Array, *, axes: tuple[int, ...] | None = None) -> jax.Array:
    """Permute the axes; reverse them by default."""
    return jnp.transpose(x, axes)


def _transpose_vjp(
    g: Cotangent, y: jax.Array, x: jax.Array, *, axes: tuple[int, ...] | None = None
) -> tuple[Cotangent]:
    if axes is None:
        return (jnp.transpose(g),)
    back = sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim)
    return (jnp.transpose(g, back),)


transpose = Op("transpose", _transpose, _transpose_vjp)


def _concatenate(*arrays: jax.Array, axis: int = 0) -> jax.Array:
    """Join arrays along an existing axis."""
    return jnp.concatenate(arrays, axis)


def _concatenate_vjp(g: Cotangent, y: jax.Array, *arrays: jax.Array, axis: int = 0) -> tuple[Cotangent, ...]:
    cotangents, start = [], 0
    for array in arrays:
        stop = start + array.shape[axis]
        cotangents.append(jax.lax.slice_in_dim(g, start, stop, axis=axis))
        start = stop
    return tuple(cotangents)


concatenate = Op("concatenate", _concatenate, _concatenate_vjp)


def _slice(x: jax.Array, *, start: int, stop: int, axis: int = 0) -> jax.Array:
    """x[start:stop] along `axis`, with 0 <= start <= stop <= the axis' length."""
    if not 0 <= start <= stop <= x.shape[axis]:
        raise ValueError(f"slice: required 0 <= start <= stop <= {x.shape[axis]}, got {start} and {stop}")
    return jax.lax.slice_in_dim(x, start, stop, axis=axis)


def _slice_vjp(g: Cotangent, y: jax.Array, x: jax.Array, *, start: int, stop: int, axis: int = 0) -> tuple[Cotangent]:
    around = [(0, 0)] * x.ndim
    around[axis] = (start, x.shape[axis] - stop)
    return (jnp.pad(g, around),)


slice = Op("slice", _slice, _slice_vjp)


def _where(condition: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """x where the condition holds, y elsewhere; three arrays of one shape, x and y of one dtype."""
    shapes = [jnp.shape(a) for a in (condition, x, y)]
    if len(set(shapes)) != 1 or jnp.result_type(x) != jnp.result_type(y):
        raise TypeError(
            "where: required condition, x and y of one shape and x and y of one dtype, "
            f"got {', '.join(f'{jnp.result_type(a)}{list(jnp.shape(a))}' for a in (condition, x, y))}"
        )
    return jnp.where(condition, x, y)


def _where_vjp(
    g: Cotangent, out: jax.Array, condition: Any, x: jax.Array, y: jax.Array
) -> tuple[None, Cotangent, Cotangent]:
    zero = jnp.zeros_like(g)
    return None, jnp.where(condition, g, zero), jnp.where(condition, zero, g)


where = Op("where", _where, _where_vjp)
