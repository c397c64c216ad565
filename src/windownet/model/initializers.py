"""First values of the parameters, from jax's initializers."""

from collections.abc import Sequence
from typing import Any

import jax

_TABLE_BOUND = 0.1


def table(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
    """A table of vectors, uniform in [-0.1, 0.1)."""
    return jax.random.uniform(key, tuple(shape), dtype, -_TABLE_BOUND, _TABLE_BOUND)


def weight(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
    """A weight matrix [I, O], uniform in +-sqrt(6 / (I + O)) (Glorot & Bengio 2010)."""
    return jax.nn.initializers.glorot_uniform()(key, tuple(shape), dtype)
