"""What a step is given, and the rows that it draws besides."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Block(NamedTuple):
    """T words that follow each other in the text, with C more on each side; a stack has a leading axis K.

    Attributes:
      rows: int32 [U], the words that occur, each once; filled up with V, the row that does not exist.
      slots: int32 [T + 2C], positions in `rows`.
      lines: int32 [T + 2C], numbers of the lines that the words stand in; negative where there is no word.
    """

    rows: Any
    slots: Any
    lines: Any


def joined(rows: jax.Array, drawn: jax.Array, scratch: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows that a block touches and words drawn for it as one list without a repetition, without sorting.

    Args:
      rows: int32 [U], each once, filled up with V.
      drawn: int32 [M] below V, with repetitions.
      scratch: int32 [V] of anything.

    Returns:
      int32 [U + M]: `rows`, then the drawn words that are not among them, each in the place of one of its draws, and V
      in the others' places; int32 [M]: where each drawn word stands in this list; the scratch, changed.
    """
    size, count = rows.shape[0], drawn.shape[0]
    # A number read back may be an old one, so it only counts if the list agrees that it stands for this word.
    scratch = scratch.at[rows].set(jnp.arange(size, dtype=jnp.int32), mode="drop")
    known = scratch[drawn]
    is_known = rows.at[known].get(mode="clip") == drawn
    # Of the draws of one word the last speaks for all; the maximum makes that so on every device.
    scratch = scratch.at[drawn].set(-1)
    scratch = scratch.at[drawn].max(size + jnp.arange(count, dtype=jnp.int32))
    speaker = scratch[drawn]
    new = ~is_known & (speaker == size + jnp.arange(count, dtype=jnp.int32))
    height = scratch.shape[0]
    return jnp.concatenate([rows, jnp.where(new, drawn, height)]), jnp.where(is_known, known, speaker), scratch
