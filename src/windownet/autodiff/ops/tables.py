"""Look-ups in tables of vectors, and the sums that go back into their rows."""

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.graph import Cotangent, Op
from windownet.autodiff.rows import RowSparse, sum_by_row, take

# Below this many rows one matrix product is faster than a scatter, which XLA runs row after row on a CPU, or a sort.
_ROWS_FOR_ONE_HOT = 32


def _take_rows(table: jax.Array, rows: jax.Array, *, unique: bool = False) -> jax.Array:
    """The named rows of a table: table [V, D], rows int [U] -> [U, D].

    A row number below 0, or of V or more, is padding: it reads zeros and its cotangent goes nowhere. `unique` promises
    that no other is named twice, which saves merging them.
    """
    _require_table("take_rows", table, rows)
    if jnp.ndim(rows) != 1:
        raise TypeError(f"take_rows: required rows int [U], got {list(jnp.shape(rows))}; embed takes ids of any shape")
    return take(table, rows)


def _take_rows_vjp(
    g: Cotangent, y: jax.Array, table: jax.Array, rows: jax.Array, *, unique: bool = False
) -> tuple[RowSparse, None]:
    return RowSparse(rows, g, table.shape[0], unique), None


take_rows = Op("take_rows", _take_rows, _take_rows_vjp)


def _embed(table: jax.Array, ids: jax.Array) -> jax.Array:
    """The vector of every id: table [U, D], ids int [...] in 0..U-1 -> [..., D].

    An id that occurs n times gets the sum of its n cotangents; one beyond the ends counts as the last, or the first.
    """
    _require_table("embed", table, ids)
    return jnp.asarray(table).at[_within(ids, table.shape[0])].get(mode="clip", wrap_negative_indices=False)


def _embed_vjp(g: Cotangent, y: jax.Array, table: jax.Array, ids: jax.Array) -> tuple[Cotangent, None]:
    height, upstream = table.shape[0], g.reshape(ids.size, table.shape[1])
    clipped = jnp.clip(_within(ids, height).reshape(-1), 0, height - 1)
    if height <= _ROWS_FOR_ONE_HOT:
        return jax.nn.one_hot(clipped, height, dtype=g.dtype, axis=0) @ upstream, None
    return sum_by_row(clipped, upstream, height), None


embed = Op("embed", _embed, _embed_vjp)


def _within(ids: jax.Array, height: int) -> jax.Array:
    # As int32, which jax makes of indices by dropping bits: of wide ids the row beyond the ends must be known before.
    ids = ids if isinstance(ids, jax.Array | np.ndarray | np.generic) else jnp.asarray(ids)
    narrow = ids.dtype.itemsize < 4 or ids.dtype == np.int32
    return jnp.asarray(ids if narrow else ids.clip(0, max(height - 1, 0)), jnp.int32)


def _require_table(name: str, table: jax.Array, ids: jax.Array) -> None:
    if table.ndim != 2 or not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise TypeError(
            f"{name}: required a table [V, D] and integer ids, got {list(table.shape)} and {jnp.result_type(ids)}"
        )
