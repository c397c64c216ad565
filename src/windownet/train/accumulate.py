"""The gradient of more windows than memory holds at once: a step's windows in parts, one part after the other.

The parts share the step's rows of the word table: these are gathered, caught up and updated once, whichever parts touch
them, and a penalty on them counts once.

Axes: A parts, B windows in a part; the others as everywhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff import RowSparse
from windownet.autodiff.rows import is_row_sparse
from windownet.data.batches import Batch


def mean(
    loss_and_gradient: Callable[[Batch, jax.Array], tuple[jax.Array, Any]], batch: Batch, key: jax.Array, parts: int
) -> tuple[jax.Array, Any]:
    """Loss and gradient of the mean over all windows of a step, computed part by part.

    Args:
      loss_and_gradient: of B windows that have the step's U rows: their mean and what does not depend on windows, a
        scalar, and the gradient, a pytree of arrays and `RowSparse` of these U rows. Also takes a key.
      batch: A·B windows; the last parts may be filled up with nothing, in part or whole.
      key: part n draws from it folded with n; one part draws from the key itself.
      parts: A.

    Returns:
      Both as `loss_and_gradient` would give them for all A·B windows at once, up to rounding.
    """
    if parts == 1:
        return loss_and_gradient(batch, key)
    windows = tuple(array.reshape(parts, -1, *array.shape[1:]) for array in batch[1:])
    count = jnp.sum(batch.mask)

    def one(part: tuple[Any, ...], number: jax.Array) -> tuple[jax.Array, Any]:
        return loss_and_gradient(Batch(batch.rows, *part), jax.random.fold_in(key, number))

    def add(total: Any, numbered: tuple[tuple[Any, ...], jax.Array]) -> tuple[Any, None]:
        part = Batch(batch.rows, *numbered[0])
        # Where no window counts, what does not depend on windows still does.
        share = jnp.where(count > 0, jnp.sum(part.mask) / jnp.maximum(count, 1), 1 / parts)
        return jax.tree.map(lambda t, x: _plus(t, x, share), total, one(*numbered), is_leaf=is_row_sparse), None

    like = jax.eval_shape(one, tuple(array[0] for array in windows), 0)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    (loss, gradient), _ = jax.lax.scan(add, nothing, (windows, jnp.arange(parts)))
    return loss, gradient


def first(batch: Batch, parts: int) -> Batch:
    """The first B of a step's A·B windows, which are never filled up before the others are."""
    return batch if parts == 1 else Batch(batch.rows, *(array[: len(array) // parts] for array in batch[1:]))


def _plus(total: Any, added: Any, share: jax.Array) -> Any:
    if isinstance(added, RowSparse):
        return RowSparse(added.rows, _plus(total.values, added.values, share), added.height, added.unique)
    return total + share.astype(added.dtype) * added
