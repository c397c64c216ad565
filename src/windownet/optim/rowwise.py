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
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from windownet.autodiff import RowSparse
from windownet.autodiff.rows import as_rows, is_row, put, take
from windownet.optim import slabs
from windownet.optim.exact import require_exact
from windownet.optim.missed import Missed
from windownet.optim.replay import counters, replay

Mode = Literal["lazy", "exact", "dense"]


class RowwiseState(NamedTuple):
    """State of `rowwise`.

    Attributes:
      inner: the inner transformation's state, of all rows.
      step: int32 scalar, updates done.
      last: for each table, int32 [V], how many updates each row has had; empty unless the mode is "exact".
      outlook: for each table, float32 [V, 4], what the closed form of missed updates noted at each row's last update;
        empty where missed updates are replayed.
      now: float32 [4], what it noted at the last update of all; None where missed updates are replayed.
    """

    inner: Any
    step: jax.Array
    last: dict[str, jax.Array]
    outlook: dict[str, jax.Array]
    now: Any


class Rowwise(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """An optax transformation, with five functions more for tables whose rows lag behind.

    Inside `optax.chain` or `optax.multi_transform` they are given this transformation's own part of the state.

    Attributes:
      touch: `touch(params, state, {table: rows int [U]}) -> (params, state)`: lets the named rows catch up with the
        updates that they missed, so that the forward pass reads what it would under the dense optimizer. A row number
        below 0, or of V or more, is padding. Nothing to do unless the mode is "exact", in which each `update` needs it
        before: what the rows of its gradient had missed would be lost.
      flush: `flush(params, state) -> (params, state)`: the same for all rows, before a table is read whole.
      skip: `skip(state) -> state`: no row has missed anything up to now; for tables that were frozen so far.
      renew: `renew(state) -> state`, with no row lagging behind: takes over a state that was made by a `Rowwise` with
        other rates to come. Their closed form looks ahead to them.
      adopt: `adopt(params, inner_state) -> state`, not to be compiled: takes over a state of the inner transformation
        that was trained densely, whose counts of updates tell an exact one's step (others make no use of it and begin
        with 0). Put into `state.inner` alone it would be taken for one of step 0.
    """

    touch: Callable[[Any, RowwiseState, Mapping[str, Any]], tuple[Any, RowwiseState]]
    flush: Callable[[Any, RowwiseState], tuple[Any, RowwiseState]]
    skip: Callable[[RowwiseState], RowwiseState]
    renew: Callable[[RowwiseState], RowwiseState]
    adopt: Callable[[Any, Any], RowwiseState]

    def __new__(cls, rows: "_Rows") -> Self:
        """The functions of `rows`, of which optax knows two."""
        made: Self = super().__new__(cls, rows.init, rows.update)
        made.touch, made.flush, made.skip = rows.touch, rows.flush, rows.skip
        made.renew, made.adopt = rows.renew, rows.adopt
        return made


def rowwise(
    inner: optax.GradientTransformation,
    mode: Mode = "lazy",
    *,
    tables: Collection[str] = ("",),
    missed: Missed | None = None,
    proven: bool = False,
) -> Rowwise:
    """Make an elementwise optax transformation act on the touched rows of tables.

    Args:
      inner: what to run: SGD, momentum, Adagrad, RMSprop, Adam, AdamW, Lion, ..., and chains of them with schedules,
        decay, clipping by value or by global norm. Leaves that are no tables go through it as they are. It sees the
        touched rows in a table's place, so that masks and labels must go by name, not by size.
      mode: "lazy": rows that a step does not touch keep their values and their moments, as in torch's SparseAdam, whose
        steps `optax.adam` takes where epsilon is far below the gradients (torch adds it before the correction for bias,
        optax after); weight decay shrinks a row only when it is touched. "exact": after `flush`, parameters and moments
        equal those of the dense `inner`, but that a gradient which is not finite reaches touched rows alone; arguments
        of `update` beside gradients and parameters are for the other modes alone, as a missed update has none. "dense":
        `inner` on dense gradients, the reference.
      tables: names of the leaves [V, D] whose gradients are `RowSparse`: their paths joined by dots, of flax.nnx
        with the variable's `value` or without. By default the parameters are one table.
      missed: "exact": the closed form of `inner`'s updates with gradient zero (`windownet.optim.missed`); without it
        they are replayed one by one, for touched rows only. That is right where a table's updates rest on no other
        state than its rows', counts of updates and numbers that stay as they are. A number that a person changes in
        the state, as of `optax.inject_hyperparams`, counts for replayed updates too: `flush` before. A closed form
        looks ahead with the rates that it was made of: `flush`, then `renew` by a `Rowwise` of the others.
      proven: "exact": whether to leave out what `init` else makes sure of, by a few updates of a small table: that
        `inner` works row by row, and that `missed` is its closed form, which it tries for 24 updates after 4, 34, 104,
        304, 1,004, 3,004, 10,004 and 30,004 others. It takes some tenths of a second, and needs numbers: of an `inner`
        whose rate is a tracer, as in a `vmap` over rates, try one with a number, and give True here.

    On CPUs, XLA scatters bfloat16 by way of float32, so that a step copies a bfloat16 table; float16 and float32 are
    updated in place. Tables cut over rows work on a mesh of axes that are Auto, not Explicit. Within
    `optax.multi_transform`, the labels must be a tree: a function would be asked for labels of the gradients too. What
    is around it and chooses between updates and zeros like the gradients, as `optax.apply_if_finite` does, wants
    gradients that are `merged`, as updates are.

    Returns:
      An optax transformation with `touch`, `flush`, `skip`, `renew` and `adopt`.

    Raises:
      ValueError: an unknown mode; `missed` in a mode that misses nothing; a table that the parameters do not have, or
        have twice; `missed` is of another `inner`, or for a table narrower than float32; a state of another mode or of
        other parameters; `adopt`: the state is not of `inner`, or its counts differ.
      TypeError: a table is not [V, D], its gradient is not a `RowSparse`, rows are not int [U], or `inner` keeps a
        state for a table that is not elementwise, or gradients for later (`optax.MultiSteps`, `apply_every`); "exact":
        a row's updates depend on other rows (LAMB, Muon, clipping by the norm of updates, ...) or how many there are,
        missed ones on gradients of others, or any on other parameters or arguments, or on what cannot be told later
        (schedule free, noise, ...).
    """
    if mode not in get_args(Mode):
        raise ValueError(f"rowwise: mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    names = tuple(dict.fromkeys(tables))
    if isinstance(tables, str) or not names:
        raise ValueError(f"rowwise: tables must be a collection of names, at least one, got {tables!r}")
    if not (hasattr(inner, "init") and hasattr(inner, "update")):
        raise TypeError(f"rowwise: inner must be an optax transformation, such as optax.adam(1e-3), got {inner!r}")
    if missed is not None and mode != "exact":
        raise ValueError(f"rowwise: `missed` required mode 'exact', in which rows catch up, got {mode!r}")
    return Rowwise(_Rows(optax.with_extra_args_support(inner), mode, names, missed, proven))


@dataclass(frozen=True, eq=False)
class _Rows:
    inner: optax.GradientTransformationExtraArgs
    mode: Mode
    names: tuple[str, ...]
    closed: Missed | None
    proven: bool

    def init(self, params: Any) -> RowwiseState:
        found, owners = slabs.tables(params, self.names), self._owners(params)
        if self.mode != "dense":
            _require_each_step(self.inner, params, owners)
        if self.mode == "exact" and not self.proven:
            require_exact(self.inner, self.closed, params, owners, self.names)
        lags, now = self.mode == "exact", None if self.closed is None else self.closed.begin()
        noted = {} if now is None else {name: jnp.tile(now, (table.shape[0], 1)) for name, table in found.items()}
        return RowwiseState(
            inner=self.inner.init(params),
            step=jnp.zeros((), jnp.int32),
            last={name: jnp.zeros(table.shape[0], jnp.int32) for name, table in found.items()} if lags else {},
            outlook=noted,
            now=now,
        )

    def update(
        self, updates: Any, state: RowwiseState, params: Any | None = None, **extra: Any
    ) -> tuple[Any, RowwiseState]:
        if params is None:
            raise ValueError("rowwise: update needs params")
        self._require_own(state)
        names = self.names
        sparse = _gradients(updates, params, names)
        step = state.step + 1
        if self.mode == "dense":
            dense = slabs.replace(updates, {name: g.to_dense() for name, g in sparse.items()})
            updates, inner_state = self.inner.update(dense, state.inner, params, **extra)
            return updates, state._replace(inner=inner_state, step=step)
        merged = {name: g.merged() for name, g in sparse.items()}
        rows = {name: g.rows for name, g in merged.items()}
        found, owners = slabs.tables(params, names), self._owners(params, state)
        new_updates, new_inner = self.inner.update(
            slabs.replace(updates, {name: _without_empty(g) for name, g in merged.items()}),
            slabs.map_owned(state.inner, owners, lambda leaf, owner: take(leaf, rows[owner.table])),
            slabs.replace(params, {name: take(table, rows[name]) for name, table in found.items()}),
            **extra,
        )
        moved = slabs.tables(new_updates, names)
        out = {name: RowSparse(rows[name], slab, found[name].shape[0], unique=True) for name, slab in moved.items()}
        now = state.now if self.closed is None else self.closed.note(step, state.now)
        return slabs.replace(new_updates, out), RowwiseState(
            inner=slabs.put_state(state.inner, new_inner, owners, rows),
            step=step,
            last={name: put(last, rows[name], step) for name, last in state.last.items()},
            outlook={name: put(outlook, rows[name], now) for name, outlook in state.outlook.items()},
            now=now,
        )

    def touch(self, params: Any, state: RowwiseState, rows: Mapping[str, Any]) -> tuple[Any, RowwiseState]:
        names = self.names
        if not isinstance(rows, Mapping) or set(rows) != set(names):
            came = f"those of {sorted(rows)}" if isinstance(rows, Mapping) else f"{type(rows).__name__}"
            raise ValueError(f"rowwise: touch needs {{table: rows}} of the tables {sorted(names)}, got {came}")
        self._require_own(state)
        if self.mode != "exact":
            return params, state
        found, owners = slabs.tables(params, names), self._owners(params, state)
        given = {name: _numbers(name, rows[name], len(found[name])) for name in names}
        values = {name: take(table, given[name]) for name, table in found.items()}
        states = slabs.map_owned(state.inner, owners, lambda leaf, owner: take(leaf, given[owner.table]))
        outlook = {name: take(state.outlook[name], given[name]) for name in state.outlook}
        last = {name: take(state.last[name], given[name]) for name in names}
        # An empty slot has missed nothing.
        last = {name: jnp.where(is_row(given[name], len(found[name])), n, state.step) for name, n in last.items()}
        if self.closed is None:
            values, states = replay(self.inner, slabs.replace(params, values), states, owners, names, last, state.step)
        else:
            for name in names:
                fields = slabs.fields_of(states, owners, name)
                count = state.step - last[name]
                values[name], fields = self.closed.catch_up(values[name], fields, count, outlook[name], state.now)
                states = slabs.with_fields(states, owners, name, fields)
        # These are `state.step` and `state.now`, written so that they depend on what was read: else XLA may order the
        # write before the read, and keep what is to be read in a copy of all V rows.
        step = {name: jnp.maximum(last[name], state.step) for name in names}
        now = {name: jnp.where((last[name] <= state.step)[:, None], state.now, o) for name, o in outlook.items()}
        params = slabs.replace(params, {name: put(found[name], given[name], slab) for name, slab in values.items()})
        return params, RowwiseState(
            inner=slabs.put_state(state.inner, states, owners, given),
            step=state.step,
            last={name: put(n, given[name], step[name]) for name, n in state.last.items()},
            outlook={name: put(o, given[name], now[name]) for name, o in state.outlook.items()},
            now=state.now,
        )

    def flush(self, params: Any, state: RowwiseState) -> tuple[Any, RowwiseState]:
        found = slabs.tables(params, self.names)
        return self.touch(params, state, {name: jnp.arange(table.shape[0]) for name, table in found.items()})

    def skip(self, state: RowwiseState) -> RowwiseState:
        self._require_own(state)
        return state._replace(
            last={name: jnp.full_like(last, state.step) for name, last in state.last.items()},
            outlook={name: jnp.broadcast_to(state.now, outlook.shape) for name, outlook in state.outlook.items()},
        )

    def renew(self, state: RowwiseState) -> RowwiseState:
        self._require_own(state)
        if self.closed is None:
            return state
        return self.skip(state._replace(now=self.closed.renew(state.step, state.now)))

    def adopt(self, params: Any, inner_state: Any) -> RowwiseState:
        state, inner_state = self.init(params), jax.tree.map(jnp.asarray, inner_state)
        forms = [
            (jax.tree.structure(s), [leaf.shape for leaf in jax.tree.leaves(s)]) for s in (state.inner, inner_state)
        ]
        if forms[0] != forms[1]:
            raise ValueError(
                f"rowwise: adopt required a state of the inner transformation for these parameters, {forms[0]}, got "
                f"{forms[1]}; give the state that `inner.init` begins"
            )
        state = state._replace(inner=inner_state)
        if self.mode != "exact":
            return state
        counts = counters(self.inner, params, self._owners(params), self.names)
        pairs = zip(jax.tree.leaves(inner_state), counts, strict=True)
        done = {int(leaf) for leaf, is_count in pairs if is_count}
        if len(done) > 1:
            raise ValueError(
                f"rowwise: adopt required a state whose counts of updates are the same, got {sorted(done)}; begin with "
                "`init`, or use mode 'lazy' or 'dense'"
            )
        return self.renew(self.skip(state._replace(step=jnp.asarray(max(done, default=0), jnp.int32))))

    def _owners(self, params: Any, state: RowwiseState | None = None) -> slabs.Owners:
        owners = slabs.owners_of(self.inner, params, self.names)
        if state is not None and len(owners) != (leaves := len(jax.tree.leaves(state.inner))):
            raise ValueError(
                f"rowwise: required the parameters that the state was made for, whose inner state has {leaves} leaves, "
                f"got some for which it has {len(owners)}; inside optax.multi_transform or optax.masked give "
                "optax.MaskedNode() in the place of each leaf that another transformation updates"
            )
        if state is not None:
            _require_shapes(slabs.tables(params, self.names), state, owners)
        return owners

    def _require_own(self, state: RowwiseState) -> None:
        if not isinstance(state, RowwiseState):
            raise TypeError(
                f"rowwise: required the RowwiseState that `init` began, got {type(state).__name__}; of a chain or a "
                "multi_transform give this transformation's own part of the state"
            )
        came = (bool(state.last), state.now is not None)
        if came != (required := (self.mode == "exact", self.closed is not None)):
            of = {(False, False): "'lazy' or 'dense'", (True, False): "'exact'", (True, True): "'exact' with `missed`"}
            raise ValueError(
                f"rowwise: required a state of mode {of[required]}, got one of {of[came]}; `flush` by the optimizer "
                "that made it, then `adopt(params, state.inner)` by this one"
            )


def _require_shapes(found: Mapping[str, Any], state: RowwiseState, owners: slabs.Owners) -> None:
    pairs = zip(owners, jax.tree.leaves(state.inner), strict=True)
    came = [(owner.table, leaf.shape) for owner, leaf in pairs if owner is not None]
    came += [(name, (len(last), found[name].shape[1])) for name, last in state.last.items()]
    for name, shape in came:
        # Rows that a state lacks would have moments of zero at each step, in silence.
        if shape != found[name].shape:
            raise ValueError(
                f"rowwise: required a state of table {name!r} {list(found[name].shape)}, got one that was made for "
                f"{list(shape)}; begin with `init`, or put rows in or out of both alike"
            )


def _require_each_step(inner: optax.GradientTransformation, params: Any, owners: slabs.Owners) -> None:
    keeps = (optax.MultiStepsState, optax.ApplyEvery)
    owned = iter(owners)
    parts = jax.tree.leaves(jax.eval_shape(inner.init, params), is_leaf=lambda x: isinstance(x, keeps))
    for part in parts:
        of_tables = [next(owned) for _ in jax.tree.leaves(part)]
        if isinstance(part, keeps) and any(of_tables):
            raise TypeError(
                "rowwise: required an inner transformation that lets rows go on at each step, got optax.MultiSteps or "
                "apply_every, which would keep the gradients of rows that the step of their update does not touch; sum "
                "the `RowSparse` gradients of several batches by +, or use mode 'dense'"
            )


def _numbers(name: str, rows: Any, height: int) -> jax.Array:
    rows = rows if isinstance(rows, jax.Array | np.ndarray) else jnp.asarray(rows)
    if rows.ndim != 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise TypeError(
            f"rowwise: touch required rows of table {name!r} to be int [U], got {rows.dtype}{list(rows.shape)}; "
            "give the row numbers raveled"
        )
    return as_rows(rows, height)


def _gradients(updates: Any, params: Any, names: tuple[str, ...]) -> dict[str, RowSparse]:
    found, tables = slabs.tables(updates, names, "gradients"), slabs.tables(params, names)
    for name, gradient in found.items():
        if not isinstance(gradient, RowSparse):
            raise TypeError(
                f"rowwise: the gradient of table {name!r} must be a RowSparse, got an array {list(gradient.shape)}; "
                "take it with windownet.autodiff.value_and_grad(..., row_sparse=True) of a function that only looks it "
                "up; that of a table which a step does not look up is RowSparse.nothing(table)"
            )
        if gradient.shape != tables[name].shape:
            raise TypeError(
                f"rowwise: the gradient of table {name!r} must be {list(tables[name].shape)}, "
                f"got {list(gradient.shape)}"
            )
    return found


def _without_empty(gradient: RowSparse) -> jax.Array:
    # An empty slot must count for nothing in a norm over all gradients.
    return jnp.where(gradient.filled()[:, None], gradient.values, 0)
