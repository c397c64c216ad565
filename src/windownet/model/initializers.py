"""First values of the parameters, from jax's initializers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.schema.network import InitConfig

_WEIGHTS: dict[str, Callable[..., jax.Array]] = {
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "fan_in": jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "zeros": jax.nn.initializers.zeros,
}


@dataclass(frozen=True)
class Initializers:
    """What the parameters of a network begin with.

    Attributes:
      config: the choice.
      tag_counts: how often each of the L tags occurs in the training data, for output biases at their log-odds.
    """

    config: InitConfig = field(default_factory=InitConfig)
    tag_counts: tuple[int, ...] = ()

    def table(self, key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        """A table of vectors, uniform in [-table_bound, table_bound)."""
        return _uniform(key, shape, dtype, self.config.table_bound)

    def weight(self, key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        """A weight matrix [I, O].

        glorot (Glorot & Bengio 2010), he (He et al. 2015) and lecun (LeCun et al. 1998) have variance 2 / (I + O),
        2 / I and 1 / I, uniform or normal, the normal ones cut off at two standard deviations. fan_in is uniform in
        +-1 / sqrt(I): Collobert et al. 2011 (section 3.4) scale by the fan-in, and Torch's layers are drawn so.
        orthogonal has orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).
        """
        if self.config.weights == "uniform":
            return _uniform(key, shape, dtype, self.config.weight_bound)
        return _WEIGHTS[self.config.weights](key, tuple(shape), dtype)

    def output_bias(self, tags: int, dtype: Any) -> jax.Array:
        """The biases [L] of the tags' scores.

        log_odds makes the softmax of the biases the tags' shares of the training data, each counted once more so that a
        tag that never occurs has a finite one; the first steps need not learn that most words are O.

        Raises:
          ValueError: log_odds without a count for each of L tags.
        """
        if self.config.output_bias == "zeros":
            return jnp.zeros(tags, dtype)
        if len(self.tag_counts) != tags:
            raise ValueError(f"init.output_bias = 'log_odds' needs the counts of {tags} tags, got {self.tag_counts}")
        counts = np.asarray(self.tag_counts, np.float64) + 1
        return jnp.asarray(np.log(counts / counts.sum()), dtype)


def _uniform(key: jax.Array, shape: Sequence[int], dtype: Any, bound: float) -> jax.Array:
    return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)
