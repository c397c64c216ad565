"""Inverted dropout."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

from windownet.autodiff.graph import Cotangent, Op
from windownet.autodiff.scalars import Scalar, like


def draw_mask(key: jax.Array, shape: tuple[int, ...], rate: Scalar) -> jax.Array:
    """Draw what a dropout keeps: bool, True with probability 1 - rate to the nearest 1/65,536.

    Every 32 random bits decide two values: `jax.random.bernoulli` takes three times as long on a CPU, as long as the
    network's own products.
    """
    size = math.prod(shape)
    words, threshold = _words(key, (size + 1) // 2), _threshold(rate)
    halves = words & jnp.uint32(0xFFFF), words >> jnp.uint32(16)
    kept: jax.Array = jnp.concatenate([half >= threshold for half in halves])[:size]
    return kept.reshape(shape)


def _words(key: jax.Array, count: int) -> jax.Array:
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.bits(key, (count,), jnp.uint32)
    # `jax.random.bits` makes two words of each that it gives.
    words: jax.Array = threefry_2x32(jax.random.key_data(key), jnp.arange(count, dtype=jnp.uint32))
    return words


def _threshold(rate: Scalar) -> jax.Array:
    if isinstance(rate, int | float):
        return jnp.asarray(min(round(rate * 65_536), 65_535), jnp.uint32)
    nearest: jax.Array = jnp.minimum(jnp.round(rate * 65_536), 65_535)
    return nearest.astype(jnp.uint32)


def _dropout(x: jax.Array, mask: jax.Array, *, rate: Scalar) -> jax.Array:
    """x / (1 - rate) where the mask is True, 0 elsewhere (Srivastava et al. 2014): x [...], mask bool [...].

    The mask is an input, drawn by `draw_mask`, so that the rule applies the one that the forward applied. The
    rate has no cotangent.
    """
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise ValueError(f"dropout: required 0 <= rate < 1, got {rate}")
    if mask.shape != x.shape or mask.dtype != jnp.bool_:
        raise TypeError(f"dropout: required a mask bool{list(x.shape)} like x, got {mask.dtype}{list(mask.shape)}")
    return jnp.where(mask, x / (1 - like(rate, x)), jnp.zeros_like(x))


def _dropout_vjp(g: Cotangent, y: jax.Array, x: jax.Array, mask: jax.Array, *, rate: Scalar) -> tuple[Cotangent, None]:
    return jnp.where(mask, g / (1 - like(rate, g)), jnp.zeros_like(g)), None


dropout = Op("dropout", _dropout, _dropout_vjp)
