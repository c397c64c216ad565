"""Optimizers on the touched rows of a table: any elementwise optax transformation, lazily or exactly.

`jax.grad` of a look-up is a dense array and optax walks all of it, though a step touches U of V rows. `rowwise(inner)`
runs `inner` on the touched rows of gradient, parameters and state, and leaves every other row alone:

    optimizer = rowwise(optax.adam(1e-3), "exact", tables=["words"])
    state = optimizer.init(params)

    params, state = optimizer.touch(params, state, {"words": rows})
    loss, gradient = value_and_grad(loss_of, row_sparse=True)(params, batch)    # gradient["words"] is a RowSparse
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)

Axes: V rows of a table, D its width, U slots for the rows that a step touches.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from windownet.autodiff import RowSparse
from windownet.autodiff.rows import widened
from windownet.optim.missed import Missed
from windownet.optim.replayable import counters, require_replayable

Mode = Literal["lazy", "exact", "dense"]


class RowwiseState(NamedTuple):
    """State of `rowwise`.

    Attributes:
      inner: the inner transformation's state, of all rows.
      step: int32 scalar, updates done.
      last: for each table, int32 [V], how many updates each row has had; empty unless the mode is "exact".
      outlook: for each table, float32 [V, 4], what the closed form of missed updates noted at each row's last update;
        empty where missed updates are replayed.
      now: float32 [4], what it noted at the last update of all; empty where missed updates are replayed.
    """

    inner: Any
    step: jax.Array
    last: dict[str, jax.Array]
    outlook: dict[str, jax.Array]
    now: jax.Array


class Rowwise(optax.GradientTransformation):  # type: ignore[misc]
    """An optax transformation, with four functions more for tables whose rows lag behind.

    Attributes:
      touch: `touch(params, state, {table: rows int [U]}) -> (params, state)`: lets the named rows catch up with the
        updates that they missed, so that the forward pass reads what it would under the dense optimizer. A row number
        of V or more is padding. Nothing to do unless the mode is "exact".
      flush: `flush(params, state) -> (params, state)`: the same for all rows, before a table is read whole.
      skip: `skip(state) -> state`: no row has missed anything up to now; for tables that were frozen so far.
      renew: `renew(state) -> state`, with no row lagging behind: takes over a state that was made by a `Rowwise` with
        other rates to come. Their closed form looks ahead to them.
    """

    touch: Callable[[Any, RowwiseState, Mapping[str, Any]], tuple[Any, RowwiseState]]
    flush: Callable[[Any, RowwiseState], tuple[Any, RowwiseState]]
    skip: Callable[[RowwiseState], RowwiseState]
    renew: Callable[[RowwiseState], RowwiseState]


def rowwise(
    inner: optax.GradientTransformation,
    mode: Mode = "lazy",
    *,
    tables: Collection[str] = ("",),
    missed: Missed | None = None,
) -> Rowwise:
    """Make an elementwise optax transformation act on the touched rows of tables.

    Args:
      inner: what to run: SGD, momentum, Adagrad, RMSprop, Adam, AdamW, Lion, ..., and chains of them with schedules,
        decay, clipping by value or by global norm. Leaves that are no tables go through it as they are.
      mode: "lazy": rows that a step does not touch keep their values and their moments, as in torch's SparseAdam;
        weight decay shrinks a row only when it is touched. "exact": after `flush`, parameters and moments equal those
        of the dense `inner`. "dense": `inner` on dense gradients, the reference.
      tables: names of the leaves [V, D] whose gradients are `RowSparse`: their paths joined by dots. By default the
        parameters are one table.
      missed: "exact": the closed form of `inner`'s updates with gradient zero (`windownet.optim.missed`); without it
        they are replayed one by one, for touched rows only. That is right where a table's updates rest on no other
        state than its rows', counts of updates and numbers that stay as they are. A number that a person changes in
        the state, as of `optax.inject_hyperparams`, counts for missed updates too: `flush` before.

    Returns:
      An optax transformation with `touch`, `flush`, `skip` and `renew`.

    Raises:
      ValueError: an unknown mode; a table that the parameters do not have.
      TypeError: a table is not [V, D], its gradient is not a `RowSparse`, or `inner` keeps a state for it that is not
        elementwise or, where missed updates are replayed, that changes in a way that cannot be told later (schedule
        free, `optax.MultiSteps`, noise, norms of moments, ...).
    """
    if mode not in get_args(Mode):
        raise ValueError(f"rowwise: mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    names = tuple(tables)

    def init(params: Any) -> RowwiseState:
        found = _tables(params, names)
        owners = _state_tables(inner, params, names)
        exact = mode == "exact"
        if exact and missed is None:
            one_row = {name: jnp.ones((1, table.shape[1]), table.dtype) for name, table in found.items()}
            owned = [owner is not None for owner in owners]
            require_replayable(inner, _only(params, one_row), owned, lambda tree: _tables(tree, names).values())
        now = missed.begin() if missed is not None else jnp.zeros(0, jnp.float32)
        return RowwiseState(
            inner=inner.init(params),
            step=jnp.zeros((), jnp.int32),
            last={name: jnp.zeros(table.shape[0], jnp.int32) for name, table in found.items()} if exact else {},
            outlook={name: jnp.tile(now, (table.shape[0], 1)) for name, table in found.items()}
            if exact and missed is not None
            else {},
            now=now,
        )

    def update(updates: Any, state: RowwiseState, params: Any | None = None) -> tuple[Any, RowwiseState]:
        if params is None:
            raise ValueError("rowwise: update needs params")
        sparse = _gradients(updates, params, names)
        step = state.step + 1
        if mode == "dense":
            dense = _replace(updates, {name: g.to_dense() for name, g in sparse.items()})
            updates, inner_state = inner.update(dense, state.inner, params)
            return updates, state._replace(inner=inner_state, step=step)
        merged = {name: g.merged() for name, g in sparse.items()}
        rows = {name: g.rows for name, g in merged.items()}
        # An empty slot must count for nothing in a norm over all gradients.
        slabs = {name: jnp.where((g.rows < g.height)[:, None], g.values, 0) for name, g in merged.items()}
        found = _tables(params, names)
        owners = _state_tables(inner, params, names)
        new_updates, new_inner = inner.update(
            _replace(updates, slabs),
            _map_state(state.inner, owners, lambda leaf, owner: _take(leaf, rows[owner.table])),
            _replace(params, {name: _take(table, rows[name]) for name, table in found.items()}),
        )
        new_slabs = _tables(new_updates, names)
        out = {name: RowSparse(rows[name], slab, found[name].shape[0], unique=True) for name, slab in new_slabs.items()}
        inner_state = _put_state(state.inner, new_inner, owners, rows)
        now = missed.note(step, state.now) if missed is not None else state.now
        return _replace(new_updates, out), RowwiseState(
            inner=inner_state,
            step=step,
            last={name: _put(last, rows[name], step) for name, last in state.last.items()},
            outlook={name: _put(outlook, rows[name], now) for name, outlook in state.outlook.items()},
            now=now,
        )

    def touch(params: Any, state: RowwiseState, rows: Mapping[str, Any]) -> tuple[Any, RowwiseState]:
        if mode != "exact":
            return params, state
        given = {name: widened(jnp.asarray(rows[name])) for name in names}
        found, owners = _tables(params, names), _state_tables(inner, params, names)
        slabs = {name: _take(table, given[name]) for name, table in found.items()}
        states = _map_state(state.inner, owners, lambda leaf, owner: _take(leaf, given[owner.table]))
        outlook = {name: _take(state.outlook[name], given[name]) for name in state.outlook}
        last = {name: state.last[name].at[given[name]].get(mode="fill", fill_value=0) for name in names}
        # An empty slot has missed nothing.
        last = {name: jnp.where(given[name] < found[name].shape[0], n, state.step) for name, n in last.items()}
        if missed is None:
            slabs, states = _replay(inner, _replace(params, slabs), states, owners, names, last, state.step)
        else:
            for name in names:
                fields = {owner.field: leaf for owner, leaf in _owned(states, owners) if owner.table == name}
                count = state.step - last[name]
                slabs[name], fields = missed.catch_up(slabs[name], fields, count, outlook[name], state.now)
                states = _with_fields(states, owners, name, fields)
        # These are `state.step` and `state.now`, written so that they depend on what was read: else XLA may order the
        # write before the read, and keep what is to be read in a copy of all V rows.
        step = {name: jnp.maximum(last[name], state.step) for name in names}
        now = {name: jnp.where((last[name] <= state.step)[:, None], state.now, o) for name, o in outlook.items()}
        return _replace(params, {name: _put(found[name], given[name], slab) for name, slab in slabs.items()}), (
            RowwiseState(
                inner=_put_state(state.inner, states, owners, given),
                step=state.step,
                last={name: _put(n, given[name], step[name]) for name, n in state.last.items()},
                outlook={name: _put(o, given[name], now[name]) for name, o in state.outlook.items()},
                now=state.now,
            )
        )

    def flush(params: Any, state: RowwiseState) -> tuple[Any, RowwiseState]:
        return touch(params, state, {n: jnp.arange(t.shape[0]) for n, t in _tables(params, names).items()})

    def skip(state: RowwiseState) -> RowwiseState:
        return state._replace(
            last={name: jnp.full_like(last, state.step) for name, last in state.last.items()},
            outlook={name: jnp.broadcast_to(state.now, outlook.shape) for name, outlook in state.outlook.items()},
        )

    def renew(state: RowwiseState) -> RowwiseState:
        return state if missed is None else skip(state._replace(now=missed.renew(state.step, state.now)))

    transformation = Rowwise(init, update)
    transformation.touch, transformation.flush, transformation.skip = touch, flush, skip
    transformation.renew = renew
    return transformation


class _Owner(NamedTuple):
    """Which table a leaf of the inner state belongs to, and the name of its field: mu, nu, trace, ..."""

    table: str
    field: str


def _take(table: jax.Array, rows: jax.Array) -> jax.Array:
    return table.at[rows].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _put(table: jax.Array, rows: jax.Array, values: jax.Array) -> jax.Array:
    values = jnp.broadcast_to(values, (*rows.shape, *table.shape[1:])).astype(table.dtype)
    return table.at[rows].set(values, mode="drop", wrap_negative_indices=False)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_row_sparse(x: Any) -> bool:
    return isinstance(x, RowSparse)


def _tables(tree: Any, names: tuple[str, ...]) -> dict[str, Any]:
    leaves = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=_is_row_sparse)}
    if missing := [name for name in names if name not in leaves]:
        raise ValueError(f"rowwise: tables must be leaves of the parameters, got {missing}; they have {list(leaves)}")
    for name in names:
        if len(leaves[name].shape) != 2:
            raise TypeError(f"rowwise: table {name!r} must be [V, D], got {list(leaves[name].shape)}")
    return {name: leaves[name] for name in names}


def _gradients(updates: Any, params: Any, names: tuple[str, ...]) -> dict[str, RowSparse]:
    found, tables = _tables(updates, names), _tables(params, names)
    for name, gradient in found.items():
        if not isinstance(gradient, RowSparse):
            raise TypeError(
                f"rowwise: the gradient of table {name!r} must be a RowSparse, got an array {list(gradient.shape)}; "
                "take it with windownet.autodiff.value_and_grad(..., row_sparse=True)"
            )
        if gradient.shape != tables[name].shape:
            raise TypeError(
                f"rowwise: the gradient of table {name!r} must be {list(tables[name].shape)}, "
                f"got {list(gradient.shape)}"
            )
    return found


def _replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    def exchange(path: tuple[Any, ...], leaf: Any) -> Any:
        return leaves.get(_name(path), leaf)

    return jax.tree.map_with_path(exchange, tree, is_leaf=_is_row_sparse)


def _state_tables(inner: optax.GradientTransformation, params: Any, names: tuple[str, ...]) -> list[_Owner | None]:
    # A leaf of the state belongs to a table if it grows with it: that needs no knowledge of the transformation.
    types = jax.eval_shape(lambda: params)
    base = jax.tree.leaves_with_path(jax.eval_shape(inner.init, types))
    owners: list[_Owner | None] = [None] * len(base)
    for name, table in _tables(types, names).items():
        height, width = table.shape
        taller = jax.eval_shape(lambda h=height + 1, w=width, d=table.dtype: jnp.zeros((h, w), d))
        grown = jax.tree.leaves(jax.eval_shape(inner.init, _replace(types, {name: taller})))
        for n, ((path, leaf), other) in enumerate(zip(base, grown, strict=True)):
            if leaf.shape == other.shape:
                continue
            if other.shape != taller.shape:
                raise TypeError(
                    f"rowwise: the inner transformation must be elementwise, but its state {_name(path)} for table "
                    f"{name!r} {list(table.shape)} has shape {list(leaf.shape)}"
                )
            fields = [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)]
            owners[n] = _Owner(name, fields[-1] if fields else "")
    return owners


def _owned(state: Any, owners: list[_Owner | None]) -> list[tuple[_Owner, Any]]:
    return [(owner, leaf) for owner, leaf in zip(owners, jax.tree.leaves(state), strict=True) if owner is not None]


def _map_state(state: Any, owners: list[_Owner | None], function: Callable[[Any, _Owner], Any]) -> Any:
    leaves, tree = jax.tree.flatten(state)
    pairs = zip(owners, leaves, strict=True)
    return jax.tree.unflatten(tree, [leaf if owner is None else function(leaf, owner) for owner, leaf in pairs])


def _with_fields(state: Any, owners: list[_Owner | None], table: str, fields: Mapping[str, Any]) -> Any:
    return _map_state(state, owners, lambda leaf, owner: fields[owner.field] if owner.table == table else leaf)


def _put_state(full: Any, slabs: Any, owners: list[_Owner | None], rows: Mapping[str, Any]) -> Any:
    # What belongs to no table (counts, the moments of other leaves) is the slabs' side: it has just been updated.
    leaves, tree = jax.tree.flatten(slabs)
    pairs = zip(owners, jax.tree.leaves(full), leaves, strict=True)
    return jax.tree.unflatten(
        tree, [slab if owner is None else _put(leaf, rows[owner.table], slab) for owner, leaf, slab in pairs]
    )


def _only(params: Any, slabs: Mapping[str, Any]) -> Any:
    # All other leaves are left out by giving them no elements.
    empty = jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype) if x.ndim else x, params)
    return _replace(empty, slabs)


def _replay(
    inner: optax.GradientTransformation,
    params: Any,
    state: Any,
    owners: list[_Owner | None],
    names: tuple[str, ...],
    last: Mapping[str, jax.Array],
    step: jax.Array,
) -> tuple[dict[str, jax.Array], Any]:
    slabs = _tables(params, names)
    params = _only(params, slabs)
    fresh, tree = jax.tree.flatten(inner.init(params))
    # A scalar is the state's own: a person may have changed a rate since `init`.
    begun = [
        leaf if owner is not None or not leaf.ndim else empty
        for owner, leaf, empty in zip(owners, jax.tree.leaves(state), fresh, strict=True)
    ]
    owned = [owner is not None for owner in owners]
    state_then = jax.tree.unflatten(tree, begun)
    counts = counters(inner, params, state_then, owned, lambda tree: _tables(tree, names).values())

    def one(carry: tuple[jax.Array, dict[str, jax.Array], list[Any]]) -> Any:
        k, slabs, leaves = carry
        at = [jnp.asarray(k, leaf.dtype) if is_count else leaf for is_count, leaf in zip(counts, leaves, strict=True)]
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, after = inner.update(zeros, jax.tree.unflatten(tree, at), _replace(params, slabs))
        behind = {name: (last[name] <= k)[:, None] for name in names}
        moved = optax.apply_updates(slabs, _tables(updates, names))
        slabs = {name: jnp.where(behind[name], moved[name], slabs[name]) for name in names}
        leaves = [
            old if owner is None else jnp.where(behind[owner.table], new, old)
            for owner, old, new in zip(owners, leaves, jax.tree.leaves(after), strict=True)
        ]
        return k + 1, slabs, leaves

    first = jnp.min(jnp.concatenate(list(last.values())), initial=step)
    _, slabs, leaves = jax.lax.while_loop(lambda carry: carry[0] < step, one, (first, slabs, begun))
    kept = [
        leaf if owner is None else new for owner, leaf, new in zip(owners, jax.tree.leaves(state), leaves, strict=True)
    ]
    return slabs, jax.tree.unflatten(jax.tree.structure(state), kept)
