"""What an exact `rowwise` requires of a transformation, found out on tables of a few rows."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from windownet.optim import slabs
from windownet.optim.missed import Missed
from windownet.optim.replay import require_replayable
from windownet.optim.slabs import Owners

_ROWS = 3
# Updates of all rows, and with those that all of them miss.
_TOUCHED, _STEPS = 4, 28
# Gradients of the rows: large enough for bounds to bind, and small enough for what is added to roots to count.
_SCALES = np.array([[1e3], [1e1], [1e-1]])
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
      TypeError: a row's update depends on other rows, as through a norm of parameters; or see `require_replayable`.
      ValueError: the closed form is that of another transformation.
    """
    types = jax.eval_shape(lambda: params)
    widths = {name: table.shape[1] for name, table in slabs.tables(types, names).items()}
    if missed is not None:
        _require_fields(missed, owners, names)
    # Numbers are needed, though `init` may be traced.
    with jax.ensure_compile_time_eval():
        others = jax.tree.map(lambda x: jnp.ones(x.shape and (0, *x.shape[1:]), x.dtype), types)
        if missed is None:
            one_row = {name: jnp.ones((1, width)) for name, width in widths.items()}
            require_replayable(inner, slabs.replace(others, one_row), owners, names)
        random = np.random.default_rng(0)
        few = {name: random.normal(size=(_ROWS, width)).astype(np.float32) for name, width in widths.items()}
        touched = (np.arange(_STEPS) < _TOUCHED)[:, None, None] * _SCALES
        gradients = {
            name: (touched * random.normal(size=(_STEPS, *rows.shape))).astype(np.float32) for name, rows in few.items()
        }
        trial = _Trial(inner, missed, owners, names)
        apart, form = jax.device_get(jax.jit(trial)(slabs.replace(others, few), gradients))
    for name in names:
        if not apart[name] <= _APART:
            raise TypeError(
                f"rowwise: 'exact' required updates of each row of table {name!r} that depend on that row alone, got "
                f"some that other rows change, by {float(apart[name]):.2g} of themselves: through a norm of parameters "
                "or moments, a mean, or chance; use mode 'lazy' or 'dense'"
            )
        if not form[name] <= _FORM:
            raise ValueError(
                f"rowwise: `missed` required the closed form of the inner transformation, got one that is off by "
                f"{float(form[name]):.2g} of what {_STEPS - _TOUCHED} missed updates of table {name!r} do; leave "
                "`missed` out, and they are replayed"
            )


class _Trial:
    """A few updates, and what they tell of each table."""

    def __init__(
        self, inner: optax.GradientTransformation, missed: Missed | None, owners: Owners, names: tuple[str, ...]
    ) -> None:
        self._inner, self._missed, self._owners, self._names = inner, missed, owners, names

    def __call__(self, params: Any, gradients: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """By table: how far rows are from what they would be alone, and how far the closed form from the updates."""
        now = jnp.zeros(0, jnp.float32) if self._missed is None else self._missed.begin()
        _, run = jax.lax.scan(self._step, (params, self._inner.init(params), now), (jnp.arange(_STEPS), gradients))
        touched, ended = (jax.tree.map(lambda x, n=n: x[n], run) for n in (_TOUCHED - 1, _STEPS - 1))
        first = {name: gradient[0] for name, gradient in gradients.items()}
        params, state, _ = touched
        return self._apart(params, state, first), self._form(touched, ended)

    def _step(self, carry: Any, numbered: Any) -> tuple[Any, Any]:
        (params, state, now), (k, gradients) = carry, numbered
        params, state = self._updated(params, state, gradients)
        now = now if self._missed is None else self._missed.note(k + 1, now)
        return (params, state, now), (params, state, now)

    def _updated(self, params: Any, state: Any, gradients: Mapping[str, Any]) -> tuple[Any, Any]:
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, state = self._inner.update(slabs.replace(zeros, gradients), state, params)
        return optax.apply_updates(params, updates), state

    def _apart(self, params: Any, state: Any, gradients: Mapping[str, Any]) -> dict[str, Any]:
        # Row 0 has a gradient; the others, which miss the update, none.
        first = jnp.arange(_ROWS)[:, None] == 0
        gradients = {name: jnp.where(first, gradient, 0) for name, gradient in gradients.items()}
        begun = slabs.tables(params, self._names)

        def alone(row: jax.Array) -> Any:
            def cut(leaf: jax.Array) -> jax.Array:
                return jax.lax.dynamic_slice_in_dim(leaf, row, 1)

            slab = slabs.replace(params, {name: cut(table) for name, table in begun.items()})
            rows = slabs.map_owned(state, self._owners, lambda leaf, _: cut(leaf))
            updated = self._updated(slab, rows, {name: cut(gradient) for name, gradient in gradients.items()})
            return jax.tree.map(lambda leaf: leaf[0], self._of_tables(*updated))

        found, whole = jax.vmap(alone)(jnp.arange(_ROWS)), self._of_tables(*self._updated(params, state, gradients))
        worst = {}
        for name, (table, fields) in whole.items():
            off = _off(found[name][0] - table, table - begun[name], begun[name])
            for field, leaf in fields.items():
                off = jnp.maximum(off, _off(found[name][1][field] - leaf, leaf, leaf))
            worst[name] = off
        return worst

    def _form(self, touched: Any, ended: Any) -> dict[str, Any]:
        if self._missed is None:
            return dict.fromkeys(self._names, jnp.zeros(()))
        (params, state, then), (after, later, now), worst = touched, ended, {}
        expected = self._of_tables(after, later)
        count, noted = jnp.full(_ROWS, _STEPS - _TOUCHED), jnp.tile(then, (_ROWS, 1))
        for name, (table, fields) in self._of_tables(params, state).items():
            moved, faded = self._missed.catch_up(table, fields, count, noted, now)
            off = _off(moved - expected[name][0], expected[name][0] - table, table)
            for field, leaf in fields.items():
                off = jnp.maximum(off, _off(faded[field] - expected[name][1][field], leaf, leaf))
            worst[name] = off
        return worst

    def _of_tables(self, params: Any, state: Any) -> dict[str, tuple[jax.Array, dict[str, jax.Array]]]:
        # Each table with its leaves of the state.
        found = slabs.tables(params, self._names)
        return {name: (table, slabs.fields_of(state, self._owners, name)) for name, table in found.items()}


def _off(difference: jax.Array, of: jax.Array, start: jax.Array) -> jax.Array:
    # As a share of what it is a difference of, row by row, but for roundings.
    off, size, base = (jnp.max(jnp.abs(x), axis=1) for x in (difference, of, start))
    rounding = _STEPS * np.finfo(np.float32).eps * (base + size)
    return jnp.max(jnp.maximum(off - rounding, 0) / jnp.maximum(size, np.finfo(np.float32).tiny))


def _require_fields(missed: Missed, owners: Owners, names: tuple[str, ...]) -> None:
    for name in names:
        found = sorted(owner.field for owner in owners if owner is not None and owner.table == name)
        if found != sorted(missed.fade):
            raise ValueError(
                f"rowwise: `missed` is the closed form for a state of table {name!r} of "
                f"{', '.join(sorted(missed.fade)) or 'nothing'}, got {', '.join(found) or 'nothing'}; leave `missed` "
                "out, and missed updates are replayed"
            )
