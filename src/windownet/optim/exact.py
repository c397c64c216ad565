"""What an exact `rowwise` requires of a transformation, found out on tables of a few rows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from windownet.optim import flow, slabs
from windownet.optim.by_path import name_of
from windownet.optim.flow import Use
from windownet.optim.missed import Missed
from windownet.optim.replay import require_replayable
from windownet.optim.slabs import Owners

# Updates of all rows, and with those that all of them miss.
_TOUCHED, _STEPS = 4, 28
# How many updates there are said to have been before: what depends on their number is tried early and late.
_STARTS = (0, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
# Gradients of the rows: large enough for bounds to bind, small enough for what is added to roots to count, and none,
# where there is nothing but decay to see.
_SCALES = np.array([[1e3], [1e1], [1e-1], [1e-4], [1e-7], [0.0]])
_ROWS = len(_SCALES)
# Of a gradient that what a row misses must not rest on: beyond all bounds, and its fourth power still a number.
_HUGE = 1e30
# A closed form is not held to what small gradients do early, where it leaves out more of it than an error would be.
_SMALL, _EARLY = 1e-2, 1_000
# Shares of what a row moves, or its state is.
_APART, _FORM = 1e-3, 1e-2


def require_exact(
    inner: optax.GradientTransformation, missed: Missed | None, params: Any, owners: Owners, names: tuple[str, ...]
) -> None:
    """Refuse what an exact `rowwise` could not make equal to the dense optimizer.

    Args:
      inner: the transformation.
      missed: the closed form that is said to be of it; None for replay.
      params: the parameters that it is for; only structure, shapes and dtypes count.
      owners: of the leaves of its state.
      names: the tables'.

    Raises:
      TypeError: a row's update depends on other rows, as through a norm of parameters, on how many there are, on other
        parameters, or on arguments of `update`; or see `require_replayable`.
      ValueError: the closed form is that of another transformation.
    """
    types = jax.eval_shape(lambda: params)
    widths = {name: table.shape[1] for name, table in slabs.tables(types, names).items()}
    if missed is not None:
        _require_fields(missed, owners, names)
        _require_wide(inner, types, owners, names)
    programs = _require_one_program(inner, types, names)
    _require_rows_alone(inner, types, owners, names)
    if programs[0].numbers != programs[1].numbers:
        raise TypeError(
            f"rowwise: 'exact' required updates of each row of table {', '.join(map(repr, names))} that depend on that "
            "row alone, got some that depend on how many rows there are, as through a mean of gradients; use mode "
            "'lazy' or 'dense'"
        )
    # Of 64 bits, as a decay may be smaller than roundings of 32.
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, _wide(x.dtype)), types)
        counts = require_replayable(inner, wide, owners, names)
        random = np.random.default_rng(0)
        few = {name: random.normal(size=(_ROWS, width)) for name, width in widths.items()}
        touched = (np.arange(_STEPS) < _TOUCHED)[:, None, None] * _SCALES
        gradients = {name: touched * random.normal(size=(_STEPS, *rows.shape)) for name, rows in few.items()}
        trial = _Trial(inner, missed, wide, owners, names, counts)
        # Numbers are needed, though `init` may be traced: what is compiled beforehand runs all the same.
        apart, form = jax.device_get(jax.jit(trial).lower(few, gradients).compile()(few, gradients))
    for name in names:
        worst = np.max(apart[name])
        if not worst <= _APART:
            raise TypeError(
                f"rowwise: 'exact' required updates of each row of table {name!r} that depend on that row alone, got "
                f"some that other rows or gradients change, by {_share(worst)}: through a norm of parameters or "
                "moments, a mean, or chance; use mode 'lazy' or 'dense'"
            )
        late, small = np.asarray(_STARTS)[:, None] >= _EARLY, (_SCALES[:, 0] > 0) & (_SCALES[:, 0] < _SMALL)
        held = np.where(late | ~small, form[name], 0)
        worst, before = np.max(held), _STARTS[np.argmax(np.max(held, axis=1))] + _TOUCHED
        if not worst <= _FORM:
            raise ValueError(
                f"rowwise: `missed` required the closed form of the inner transformation, got one that is off by "
                f"{worst:.2g} of what {_STEPS - _TOUCHED} missed updates of table {name!r} do after {before} others; "
                "leave `missed` out, and they are replayed"
            )


# Tables of a few rows, or what there is of each, by name.
_Rows = dict[str, Any]
# The rows, the leaves of the state that are theirs, and what the closed form notes, float32 [4] or None.
_Moved = tuple[_Rows, list[jax.Array], Any]


class _Trial:
    """A few updates, and what they tell of each table.

    All other parameters, and states of theirs, stay as they begin: tables do not rest on them, and of a large network
    nothing is to be kept.
    """

    def __init__(
        self,
        inner: optax.GradientTransformation,
        missed: Missed | None,
        types: Any,
        owners: Owners,
        names: tuple[str, ...],
        counts: list[bool],
    ) -> None:
        self._inner, self._missed, self._types = inner, missed, types
        self._owners, self._names, self._counts = owners, names, counts

    def __call__(self, few: _Rows, gradients: _Rows) -> tuple[_Rows, _Rows]:
        """By table and start: how far rows are from what they would be alone, and how far each's closed form is."""

        def begun_at(start: jax.Array) -> tuple[_Rows, _Rows]:
            now = None if self._missed is None else self._missed.renew(start, self._missed.begin())
            state = jax.tree.leaves(self._inner.init(self._params(few)))
            begun = few, slabs.owned([jnp.asarray(leaf) for leaf in state], self._owners), now
            numbers = start + jnp.arange(1, _STEPS + 1, dtype=start.dtype)
            _, run = jax.lax.scan(self._step, begun, (numbers, gradients))
            touched, ended = (jax.tree.map(lambda x, n=n: x[n], run) for n in (_TOUCHED - 1, _STEPS - 1))
            first = {name: gradient[0] for name, gradient in gradients.items()}
            return self._apart(touched, start + _TOUCHED, first), self._form(touched, ended)

        found: tuple[_Rows, _Rows] = jax.lax.map(begun_at, jnp.asarray(_STARTS, jnp.int32))
        return found

    def _params(self, rows: _Rows) -> Any:
        return slabs.replace(jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), self._types), rows)

    def _step(self, carry: _Moved, numbered: Any) -> tuple[_Moved, _Moved]:
        (rows, of_rows, now), (k, gradients) = carry, numbered
        rows, of_rows = self._updated(rows, of_rows, k - 1, gradients, 0)
        moved = rows, of_rows, now if self._missed is None else self._missed.note(k, now)
        return moved, moved

    def _updated(
        self, rows: _Rows, of_rows: list[jax.Array], done: jax.Array, gradients: _Rows, others: jax.Array | float
    ) -> tuple[_Rows, list[jax.Array]]:
        # One update behind `done` others; `others` is each entry of the gradients of what is no table.
        params = self._params(rows)
        leaves, tree = jax.tree.flatten(self._inner.init(params))
        pairs = zip(leaves, self._counts, strict=True)
        at = [done.astype(leaf.dtype) if counts else jnp.asarray(leaf) for leaf, counts in pairs]
        state = jax.tree.unflatten(tree, slabs.with_owned(at, self._owners, of_rows))
        given = jax.tree.map(lambda x: jnp.full(x.shape, others, x.dtype), params)
        updates, after = self._inner.update(slabs.replace(given, gradients), state, params)
        # Some states begin in a narrower dtype than they go on in.
        pairs = zip(of_rows, slabs.owned(jax.tree.leaves(after), self._owners), strict=True)
        moved = optax.apply_updates(rows, slabs.tables(updates, self._names))
        return moved, [jnp.asarray(new, old.dtype) for old, new in pairs]

    def _apart(self, touched: _Moved, done: jax.Array, gradients: _Rows) -> _Rows:
        # Row 0 has a gradient, as has what is no table; the others, which miss the update, none.
        rows, of_rows, _ = touched
        first = jnp.arange(_ROWS)[:, None] == 0
        gradients = {name: jnp.where(first, gradient * _HUGE, 0) for name, gradient in gradients.items()}

        def alone(row: jax.Array) -> Any:
            def cut(leaf: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(leaf, row, 1)

            its_rows, its_state, its_gradients = jax.tree.map(cut, (rows, of_rows, gradients))
            updated = self._updated(its_rows, its_state, done, its_gradients, jnp.where(row == 0, _HUGE, 0))
            return jax.tree.map(lambda leaf: leaf[0], self._of_tables(*updated))

        found = jax.vmap(alone)(jnp.arange(_ROWS))
        whole = self._of_tables(*self._updated(rows, of_rows, done, gradients, _HUGE))
        worst = {}
        for name, (table, fields) in whole.items():
            off = _off(found[name][0], table, table - rows[name], rows[name])
            for field, leaf in fields.items():
                off = jnp.maximum(off, _off(found[name][1][field], leaf, leaf, leaf))
            worst[name] = jnp.max(off)
        return worst

    def _form(self, touched: _Moved, ended: _Moved) -> _Rows:
        if self._missed is None:
            return {name: jnp.zeros(_ROWS) for name in self._names}
        (rows, of_rows, then), (rows_after, of_rows_after, now), worst = touched, ended, {}
        expected = self._of_tables(rows_after, of_rows_after)
        count, noted = jnp.full(_ROWS, _STEPS - _TOUCHED), jnp.tile(then, (_ROWS, 1))
        for name, (table, fields) in self._of_tables(rows, of_rows).items():
            moved, faded = self._missed.catch_up(table, fields, count, noted, now)
            off = _off(moved, expected[name][0], expected[name][0] - table, table)
            for field, leaf in fields.items():
                off = jnp.maximum(off, _off(faded[field], expected[name][1][field], leaf, leaf))
            worst[name] = off
        return worst

    def _of_tables(self, rows: _Rows, of_rows: list[jax.Array]) -> dict[str, tuple[jax.Array, dict[str, jax.Array]]]:
        # Each table with its leaves of the state, by field.
        found: dict[str, tuple[jax.Array, dict[str, jax.Array]]] = {name: (table, {}) for name, table in rows.items()}
        for owner, leaf in zip(slabs.owned(self._owners, self._owners), of_rows, strict=True):
            found[owner.table][1][owner.field] = leaf
        return found


def _off(found: jax.Array, expected: jax.Array, of: jax.Array, start: jax.Array) -> jax.Array:
    # The difference as a share of another, of each row, but for roundings.
    same = (found == expected) | (jnp.isnan(found) & jnp.isnan(expected))
    off = jnp.where(same, 0, found - expected)
    off, size, base = (jnp.max(jnp.abs(x), axis=1, initial=0) for x in (off, of, start))
    rounding = _STEPS * np.finfo(np.float64).eps * (base + size)
    share = off / jnp.maximum(size, np.finfo(np.float64).tiny)
    return jnp.where((off == 0) | (off <= rounding), 0, share)


def _share(worst: float) -> str:
    return f"{worst:.2g} of themselves" if worst <= 1 else "more than themselves"


def _wide(dtype: Any) -> Any:
    return jnp.dtype(jnp.float64) if jnp.issubdtype(dtype, jnp.floating) else dtype


class _Program(NamedTuple):
    made: tuple[Any, list[str]]
    numbers: list[list[str]]
    consts: list[Any]


def _program(inner: optax.GradientTransformation, params: Any) -> _Program:
    state = jax.eval_shape(inner.init, params)
    program = jax.make_jaxpr(inner.update)(params, state, params)
    steps = flow.steps(program.jaxpr)
    made = jax.tree.structure(state), [name for name, _ in steps]
    return _Program(made, [numbers for _, numbers in steps], program.consts)


def _require_one_program(inner: optax.GradientTransformation, types: Any, names: tuple[str, ...]) -> list[_Program]:
    # Made anew, as a weak dtype makes another program too.
    types = jax.eval_shape(lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), types))
    found = slabs.tables(types, names)
    few = jax.eval_shape(lambda: {name: jnp.zeros((_ROWS, t.shape[1]), t.dtype) for name, t in found.items()})
    try:
        programs = [_program(inner, params) for params in (types, slabs.replace(types, few))]
    except (TypeError, ValueError) as error:
        raise TypeError(
            "rowwise: 'exact' required an update from gradients, state and parameters alone, as one that a row missed "
            f"has no other arguments, got {error}; use mode 'lazy' or 'dense'"
        ) from error
    if any(isinstance(const, jax.core.Tracer) for const in programs[0].consts):
        raise TypeError(
            "rowwise: 'exact' required an inner transformation of numbers, as it is tried by a few updates, got one of "
            "tracers, as in a vmap over rates; try one of numbers outside, and give proven=True here"
        )
    if programs[0].made != programs[1].made:
        raise TypeError(
            "rowwise: 'exact' required an update that is the same for a few rows of a table as for all, got another, "
            "as of masks or labels that look at sizes, or of matrices; choose parameters by name, or use mode 'dense'"
        )
    return programs


def _require_rows_alone(
    inner: optax.GradientTransformation, types: Any, owners: Owners, names: tuple[str, ...]
) -> None:
    state, weights = flow.into_tables(inner, types, owners, names)
    before = jax.tree.leaves_with_path(jax.eval_shape(inner.init, types))
    places = [slabs.leaf_name(path, names) for path, _ in jax.tree.leaves_with_path(types)]
    met = [
        (owner.table, name_of(path))
        for owner, (path, _), use in zip(owners, before, state, strict=True)
        if owner and use is Use.ACROSS_ROWS
    ]
    met += [
        (place, place) for place, use in zip(places, weights, strict=True) if use is Use.ACROSS_ROWS and place in names
    ]
    if met:
        table, place = met[0]
        raise TypeError(
            f"rowwise: 'exact' required updates of each row of table {table!r} that depend on that row alone, got some "
            f"that other rows of {place or 'it'} change, as through a norm; use mode 'lazy' or 'dense'"
        )
    others = [place for place, use in zip(places, weights, strict=True) if use is not Use.NONE and place not in names]
    if others:
        raise TypeError(
            "rowwise: 'exact' required updates of tables that depend on no other parameter, got some that "
            f"{others[0]} changes; use mode 'lazy' or 'dense'"
        )


def _require_wide(inner: optax.GradientTransformation, types: Any, owners: Owners, names: tuple[str, ...]) -> None:
    state = zip(owners, jax.tree.leaves(jax.eval_shape(inner.init, types)), strict=True)
    leaves = [*slabs.tables(types, names).items(), *((owner.table, leaf) for owner, leaf in state if owner is not None)]
    for name, leaf in leaves:
        if leaf.dtype.itemsize < 4:
            raise ValueError(
                f"rowwise: `missed` required table {name!r} and its state to be of float32 or wider, got {leaf.dtype}, "
                "in which the dense optimizer's own roundings decide; leave `missed` out, and they are replayed"
            )


def _require_fields(missed: Missed, owners: Owners, names: tuple[str, ...]) -> None:
    for name in names:
        found = sorted(owner.field for owner in owners if owner is not None and owner.table == name)
        if found != sorted(missed.fade):
            raise ValueError(
                f"rowwise: `missed` is the closed form for a state of table {name!r} of "
                f"{', '.join(sorted(missed.fade)) or 'nothing'}, got {', '.join(found) or 'nothing'}; leave `missed` "
                "out, and missed updates are replayed"
            )
