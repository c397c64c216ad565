"""What an optimizer's state must be like for updates that a row missed to be made up for one by one.

At a later step the rows' own state is at hand, and so are numbers that count steps or never change. What else the
updates rest on has moved on, and there is no telling what it was.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import Literal

# Any step but the first, at which a number that starts anew every few updates looks like a count.
_STEP = 7


def require_replayable(
    inner: optax.GradientTransformation, params: Any, owned: Sequence[bool], of_tables: Callable[[Any], Iterable[Any]]
) -> None:
    """Refuse a transformation whose missed updates cannot be known later.

    Args:
      inner: the transformation.
      params: parameters like those that it is for, of any number of rows; only shapes and dtypes count.
      owned: for each leaf of its state, whether it is a table's, row for row.
      of_tables: the tables' leaves among updates.

    Raises:
      TypeError: the tables' updates depend on a leaf of the state that is neither a table's, nor counts updates from
        0, nor stays as it is. Whether they do is judged by the structure of one update: a few that could be replayed,
        as of `optax.apply_every`, are refused too.
    """
    # Numbers are needed, though `init` may be traced.
    with jax.ensure_compile_time_eval():
        params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), params)
        begun = inner.init(params)
        leaves, tree = jax.tree.flatten(begun)
        later = [jnp.full_like(leaf, _STEP) if _is_integer(leaf) else leaf for leaf in leaves]
        after = jax.tree.leaves(inner.update(params, jax.tree.unflatten(tree, later), params)[1])
        counts = [_is_integer(leaf) and leaf == 0 and new == _STEP + 1 for leaf, new in zip(leaves, after, strict=True)]
    read, kept = _flow(inner, params, begun, owned, of_tables)
    for n, (path, _) in enumerate(jax.tree.leaves_with_path(begun)):
        if read[n] and not (owned[n] or kept[n] or counts[n]):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise TypeError(
                "rowwise: replaying missed updates required an inner state that, but for the tables' rows, only counts "
                f"updates or stays as it is, got {name}, which changes otherwise; use mode 'lazy' or 'dense'"
            )


def counters(
    inner: optax.GradientTransformation,
    params: Any,
    state: Any,
    owned: Sequence[bool],
    of_tables: Callable[[Any], Iterable[Any]],
) -> list[bool]:
    """For each leaf of the state of what `require_replayable` lets pass, whether it counts updates."""
    _, kept = _flow(inner, params, state, owned, of_tables)
    return [
        _is_integer(leaf) and not (own or keep)
        for leaf, own, keep in zip(jax.tree.leaves(state), owned, kept, strict=True)
    ]


def _flow(
    inner: optax.GradientTransformation,
    params: Any,
    state: Any,
    owned: Sequence[bool],
    of_tables: Callable[[Any], Iterable[Any]],
) -> tuple[list[bool], list[bool]]:
    # For each leaf of the state: may what is the tables' depend on it, and is it handed on as it is?
    leaves, tree = jax.tree.flatten(state)

    def update(leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        updates, after = inner.update(jax.tree.map(jnp.ones_like, params), jax.tree.unflatten(tree, leaves), params)
        return list(of_tables(updates)), jax.tree.leaves(after)

    program = jax.make_jaxpr(update)(leaves).jaxpr
    split = len(program.outvars) - len(leaves)
    tables, after = program.outvars[:split], program.outvars[split:]
    needed = {id(v) for v in (*tables, *(v for v, own in zip(after, owned, strict=True) if own))}
    # An equation is taken for one whose every output depends on its every input.
    for equation in reversed(program.eqns):
        if any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars if not isinstance(v, Literal)}
    return [id(v) in needed for v in program.invars], [a is b for a, b in zip(program.invars, after, strict=True)]


def _is_integer(leaf: Any) -> bool:
    return leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
