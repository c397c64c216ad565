"""A cotangent that names the rows it touches: what a look-up hands back to its table.

A dense cotangent of a table [V, D] is zeros but for U rows, and whoever uses it walks all V. `RowSparse` keeps the U
rows alone. It has the table's shape and dtype, adds to others of its kind and to dense arrays, and is a pytree.

Its leaves are its row numbers and its values. A function that is mapped over a tree of gradients (`optax.scale`,
`optax.tree.norm`, a sum) would reckon with row numbers as with any numbers and write to other rows, so the leaf that
it meets is one that jax refuses to reckon with, of the dtype that random keys have. `windownet.optim.rowwise` runs a
transformation on the values alone: what is to act on gradients or updates of a table belongs inside it. Two `RowSparse`
are summed by `+`, as `jax.tree.map(add, one, other, is_leaf=is_row_sparse)` does.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False, init=False, repr=False)
class RowSparse:
    """An array [V, D] that is zero but for some rows.

    Attributes:
      rows: int [U], kept as int32; row numbers in any order, a repeated one standing for the sum of its values; one
        below 0, or of V or more, marks a slot that is empty.
      values: [U, D], the slots' values; those of empty slots count for nothing.
      height: V, the number of rows of the array.
      unique: whether it is known that no row occurs twice, so that nothing need be merged; no longer known when a
        function of trees, such as one that gathers or concatenates, has made more or fewer slots of them.
    """

    _rows: Any
    values: Any
    height: int
    _unique_slots: int | None

    # An array of numpy on its left leaves the sum to it.
    __array_ufunc__ = None

    def __init__(self, rows: Any, values: Any, height: int, unique: bool = False) -> None:
        # A pytree's leaf may also be a placeholder.
        if isinstance(rows, jax.Array | np.ndarray) and jnp.issubdtype(rows.dtype, jnp.integer):
            rows = as_rows(rows, height)
        slots = _slots(rows) if unique else None
        for name, value in {"_rows": rows, "values": values, "height": height, "_unique_slots": slots}.items():
            object.__setattr__(self, name, value)

    @property
    def unique(self) -> bool:
        """See above."""
        return self._unique_slots is not None and self._unique_slots == _slots(self._rows)

    @property
    def rows(self) -> Any:
        """Row numbers, int32 [U]."""
        # Unlocked when they are asked for: whoever hands a gradient from one compiled function to the next need not.
        return _unlocked(self._rows)

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, Any], tuple[int, int | None]]:
        """Its leaves: row numbers, as an array [U] of keys, and values."""
        rows = jax.tree_util.GetAttrKey("rows"), _locked(self._rows)
        values = jax.tree_util.GetAttrKey("values"), self.values
        return (rows, values), (self.height, self._unique_slots)

    @classmethod
    def tree_unflatten(cls, static: tuple[int, int | None], children: Any) -> "RowSparse":
        """What `tree_flatten_with_keys` took apart."""
        (rows, values), (height, unique_slots) = children, static
        made = cls(rows, values, height)
        object.__setattr__(made, "_unique_slots", unique_slots)
        return made

    def __repr__(self) -> str:
        return f"RowSparse(rows={self.rows}, values={self.values}, height={self.height}, unique={self.unique})"

    @classmethod
    def nothing(cls, table: jax.Array) -> "RowSparse":
        """Zeros like a table [V, D]: the gradient of one that a step does not look up."""
        return cls(jnp.zeros(0, jnp.int32), jnp.zeros((0, table.shape[1]), table.dtype), len(table), unique=True)

    @property
    def shape(self) -> tuple[int, int]:
        """[V, D], the shape of the array that it stands for."""
        return (self.height, self.values.shape[1])

    @property
    def dtype(self) -> Any:
        """Dtype of the values."""
        return self.values.dtype

    def filled(self) -> jax.Array:
        """Which slots are not empty, bool [U]."""
        return is_row(self.rows, self.height)

    def to_dense(self) -> jax.Array:
        """The array [V, D] itself."""
        # Written, not added: what says of itself that no row occurs twice, and is wrong, is to be seen by a proof.
        merged = self.merged()
        return put(jnp.zeros(self.shape, self.dtype), merged.rows, merged.values)

    def add_to(self, table: jax.Array) -> jax.Array:
        """A dense array [V, D] plus this one, by merged rows only: no two updates meet in one row.

        It keeps its dtype; a row is rounded to it after the sum.

        Raises:
          TypeError: the array is of another shape, or of integers.
        """
        if jnp.shape(table) != self.shape or not jnp.issubdtype(table.dtype, jnp.inexact):
            raise TypeError(
                f"RowSparse: required an array {list(self.shape)} of floats to add to, got {table.dtype.name}"
                f"{list(jnp.shape(table))}"
            )
        merged = self.merged()
        if table.dtype == self.dtype:
            return table.at[merged.rows].add(
                merged.values, mode="drop", unique_indices=True, wrap_negative_indices=False
            )
        with jax.numpy_dtype_promotion("standard"):
            wide = jnp.promote_types(table.dtype, self.dtype)
        return put(table, merged.rows, take(table, merged.rows).astype(wide) + merged.values.astype(wide))

    def merged(self) -> "RowSparse":
        """The same array with each row named once, empty slots last.

        Slots are sorted by row, and those of a row summed in an order that does not change: the result is the same to
        the bit on every run, and no row is written twice.

        Raises:
          TypeError: its rows are no integers, or its values not one for each.
        """
        self._require_slots()
        slots = self.rows.shape[0]
        if slots == 0 or self.unique:
            return self
        rows = jnp.where(self.rows < 0, jnp.asarray(self.height, self.rows.dtype), self.rows)
        order = jnp.argsort(rows, stable=True)
        rows = rows[order]
        starts = jnp.concatenate([jnp.ones(1, bool), rows[1:] != rows[:-1]])
        segment = jnp.cumsum(starts.astype(jnp.int32)) - 1
        values = _sums_of_runs(rows, segment, self.values[order])
        empty = jnp.full(slots, self.height, self.rows.dtype)
        return RowSparse(empty.at[segment].set(rows, indices_are_sorted=True), values, self.height, unique=True)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, RowSparse):
            if self.shape != other.shape or self.dtype != other.dtype:
                raise TypeError(
                    f"RowSparse: required two of one shape and dtype, got {self.dtype}{list(self.shape)} and "
                    f"{other.dtype}{list(other.shape)}"
                )
            rows = jnp.concatenate([self.rows, other.rows])
            return RowSparse(rows, jnp.concatenate([self.values, other.values]), self.height)
        return self.add_to(jnp.asarray(other))

    def __radd__(self, other: Any) -> Any:
        # What `sum` begins with.
        return self if isinstance(other, int | float | np.number) and other == 0 else self + other

    def _require_slots(self) -> None:
        shapes = jnp.shape(self.rows), jnp.shape(self.values)
        integer = jnp.issubdtype(jnp.result_type(self.rows), jnp.integer)
        if not integer or [len(shape) for shape in shapes] != [1, 2] or shapes[0][0] != shapes[1][0]:
            raise TypeError(
                f"RowSparse: required rows int [U] and values [U, D], got {jnp.result_type(self.rows)}"
                f"{list(shapes[0])} and {list(shapes[1])}"
            )


def _slots(rows: Any) -> int:
    return int(rows.shape[0])


def is_row(rows: jax.Array, height: int) -> jax.Array:
    """Which numbers, int [U], are of one of V rows, bool [U]; the others are padding."""
    return (rows >= 0) & (rows < height)


def as_rows(rows: Any, height: int) -> jax.Array:
    """Row numbers of any integer dtype, int [...], as int32; one that does not fit is still that of no row.

    So are those of numpy's int64, without x64 too. Given to a compiled function, which takes 32 of their 64 bits, they
    may be numbers of other rows before they come here: convert them outside.
    """
    # `jnp.asarray` would drop the bits that tell the number of no row from that of another.
    rows = rows if isinstance(rows, jax.Array | np.ndarray | np.generic) else jnp.asarray(rows)
    if rows.dtype.itemsize < 4 or rows.dtype == np.int32:
        return jnp.asarray(rows, jnp.int32)
    return jnp.where(is_row(rows, height), rows, -1).astype(jnp.int32)


def take(table: Any, rows: Any) -> jax.Array:
    """The named rows of an array [V, ...]: rows int [U] -> [U, ...]; zeros for a row below 0, or of V or more."""
    table, rows = jnp.asarray(table), as_rows(rows, len(table))
    if not len(table):
        # jax would read nothing of nothing only.
        return jnp.zeros((*rows.shape, *table.shape[1:]), table.dtype)
    found: jax.Array = table.at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return found


def put(table: Any, rows: Any, values: Any) -> jax.Array:
    """An array [V, ...] with other values [U, ...], or one for all, in its named rows, which `take` would read."""
    table, rows = jnp.asarray(table), as_rows(rows, len(table))
    values = jnp.broadcast_to(values, (*jnp.shape(rows), *table.shape[1:])).astype(table.dtype)
    changed: jax.Array = table.at[rows].set(values, mode="drop", wrap_negative_indices=False)
    return changed


@functools.partial(jax.jit, static_argnames="height")
def sum_by_row(rows: jax.Array, values: jax.Array, height: int) -> jax.Array:
    """Sums [V, D] of values [n, D] by their rows, int [n] in 0..V-1, `height` being V.

    The same to the bit on every run, however often a row is repeated. On a GPU a scatter would be neither that nor
    fast: it writes by atomics, one after the other where rows are equal, and XLA of jaxlib 0.10.2 to 0.11 makes loops
    of compare-and-swap of them (github.com/openxla/xla/issues/46225).
    """

    def scattered(rows: jax.Array, values: jax.Array) -> jax.Array:
        zeros = jnp.zeros((height, values.shape[1]), values.dtype)
        return zeros.at[rows].add(values, mode="drop", wrap_negative_indices=False)

    def merged(rows: jax.Array, values: jax.Array) -> jax.Array:
        return RowSparse(rows, values, height).to_dense()

    # A CPU scatters row after row, which takes a tenth of the time of a sort.
    found: jax.Array = jax.lax.platform_dependent(rows, values, cpu=scattered, default=merged)
    return found


@jax.jit
def _sums_of_runs(rows: jax.Array, run: jax.Array, values: jax.Array) -> jax.Array:
    """Sums [n, D] of the values [n, D] of each run of equal rows, int [n] and sorted; `run`, int [n], numbers the runs.

    The sum of run r is in slot r; those beyond the last run are zeros.
    """
    slots = rows.shape[0]

    def serially(rows: jax.Array, run: jax.Array, values: jax.Array) -> jax.Array:
        sums: jax.Array = jax.ops.segment_sum(values, run, slots, indices_are_sorted=True)
        return sums

    def by_doubling(rows: jax.Array, run: jax.Array, values: jax.Array) -> jax.Array:
        # After step s each slot holds the sum of the last s of its run up to itself (Hillis, Steele 1986): no atomics.
        step = 1
        while step < slots:
            same = (rows[step:] == rows[:-step])[:, None]
            before = jnp.where(same, values[:-step], 0)
            values = values + jax.lax.pad(before, jnp.zeros((), values.dtype), ((step, 0, 0), (0, 0, 0)))
            step *= 2
        last = jnp.append(rows[1:] != rows[:-1], True)
        return jnp.zeros_like(values).at[jnp.where(last, run, slots)].set(values, mode="drop", unique_indices=True)

    found: jax.Array = jax.lax.platform_dependent(rows, run, values, cpu=serially, default=by_doubling)
    return found


def _locked(rows: Any) -> Any:
    if not isinstance(rows, jax.Array | np.ndarray) or rows.dtype != jnp.int32:
        return rows
    # A key of this kind has two words. Zeros, of which `zeros_like` makes keys, must be of no row: ~0 is -1.
    words = jax.lax.bitcast_convert_type(~jnp.asarray(rows), jnp.uint32)
    return jax.random.wrap_key_data(jnp.stack([words, words], -1), impl="threefry2x32")


def _unlocked(rows: Any) -> Any:
    if not isinstance(rows, jax.Array) or not jnp.issubdtype(rows.dtype, jax.dtypes.prng_key):
        return rows
    return ~jax.lax.bitcast_convert_type(jax.random.key_data(rows)[..., 0], jnp.int32)


def is_row_sparse(x: Any) -> bool:
    """Whether it is a `RowSparse`; for `is_leaf` of jax's trees."""
    return isinstance(x, RowSparse)


def widened(rows: Any) -> Any:
    """Integers as int32 where their dtype is narrower, and might not hold the number of rows or classes."""
    narrow = jnp.issubdtype(rows.dtype, jnp.integer) and rows.dtype.itemsize < 4
    return rows.astype(jnp.int32) if narrow else rows
