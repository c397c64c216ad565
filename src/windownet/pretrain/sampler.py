"""Drawing words by how frequent they are, on the device."""

import jax
import jax.numpy as jnp
import numpy as np

# Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality", section 2.2.
POWER = 0.75


def bounds(counts: np.ndarray) -> np.ndarray:
    """Where the words' shares of count^0.75 end on a scale of 2^32, for `draw`.

    Args:
      counts: integers [V], how often each word occurs, all above 0.

    Returns:
      uint32 [V]; whole numbers, for float32 could not tell apart the shares of rare words near the scale's end.
    """
    shares = np.cumsum(counts.astype(np.float64) ** POWER)
    ends = np.round(shares / shares[-1] * 2.0**32)
    found: np.ndarray = np.minimum(ends, 2.0**32 - 1).astype(np.uint32)
    return found


def draw(bits: jax.Array, ends: jax.Array) -> jax.Array:
    """Draw words, int32 [...], each with the probability of its share.

    Args:
      bits: random uint32 [...], one for each word.
      ends: what `bounds` returns, uint32 [V].
    """
    found = jnp.searchsorted(ends, bits, side="right").astype(jnp.int32)
    # The scale's very last number lies beyond the last end.
    return jnp.minimum(found, ends.shape[0] - 1)
