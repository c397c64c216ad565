"""Look-ups in tables of vectors, and the sums that go back into their rows."""

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Op
from windownet.autodiff.rows import RowSparse

# Below this many rows one matrix product is faster than a scatter, which XLA runs row after row on a CPU and which
# collides on hot rows on a GPU (benchmarks/train_step.py shows the step with either).
_ROWS_FOR_ONE_HOT = 32


def _take_rows(table: jax.Array, rows: jax.Array, *, unique: bool = False) -> jax.Array:
    """The named rows of a table: table [V, D], rows int [U] -> [U, D].

    A row number of V or more is padding: it reads zeros and its cotangent goes nowhere. `unique` promises that no row
    below V is named twice, which saves merging them.
    """
    _require_table("take_rows", table, rows)
    return jnp.asarray(table).at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _take_rows_vjp(
    g: Cotangent, y: jax.Array, table: jax.Array, rows: jax.Array, *, unique: bool = False
) -> tuple[RowSparse, None]:
    return RowSparse(rows, g, table.shape[0], unique), None


take_rows = Op("take_rows", _take_rows, _take_rows_vjp)


def _embed(table: jax.Array, ids: jax.Array) -> jax.Array:
    """The vector of every id: table [U, D], ids int [...] in 0..U-1 -> [..., D].

    An id that occurs n times gets the sum of its n cotangents.
    """
    _require_table("embed", table, ids)
    return jnp.asarray(table).at[ids].get(mode="clip", wrap_negative_indices=False)


def _embed_vjp(g: Cotangent, y: jax.Array, table: jax.Array, ids: jax.Array) -> tuple[Cotangent, None]:
    flat, upstream = ids.reshape(-1), g.reshape(ids.size, table.shape[1])
    if table.shape[0] <= _ROWS_FOR_ONE_HOT:
        return jax.nn.one_hot(flat, table.shape[0], dtype=g.dtype, axis=0) @ upstream, None
    return jnp.zeros_like(table).at[flat].add(upstream, mode="clip", wrap_negative_indices=False), None


embed = Op("embed", _embed, _embed_vjp)


def _require_table(name: str, table: jax.Array, ids: jax.Array) -> None:
    if table.ndim != 2 or not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise TypeError(
            f"{name}: required a table [V, D] and integer ids, got {list(table.shape)} and {jnp.result_type(ids)}"
        )
