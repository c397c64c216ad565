"""Updates that rows missed, made up for one by one, and what an optimizer's state must be like for that.

At a later step the rows' own state is at hand, and so are numbers that count steps or never change. What else the
updates rest on has moved on, and there is no telling what it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from windownet.optim import flow, slabs
from windownet.optim.by_path import name_of
from windownet.optim.slabs import Owners

# Any step but the first, at which a number that starts anew every few updates looks like a count.
_STEP = 7


def replay(
    inner: optax.GradientTransformation,
    params: Any,
    state: Any,
    owners: Owners,
    names: tuple[str, ...],
    last: Mapping[str, jax.Array],
    step: jax.Array,
) -> tuple[dict[str, jax.Array], Any]:
    """Let slabs of rows catch up.

    Args:
      inner: a transformation that `require_replayable` lets pass.
      params: slabs [U, D] in the places of tables, and the other parameters.
      state: its state, likewise.
      owners: of the state's leaves.
      names: the tables'.
      last: int32 [U] by table, how many updates each row has had.
      step: int32 scalar, how many it is to have had.

    Returns:
      The slabs by name, and the state, as they are after these updates with gradient zero.
    """
    begun = slabs.tables(params, names)
    params = slabs.only(params, begun)
    fresh, tree = jax.tree.flatten(inner.init(params))
    # A scalar is the state's own: a person may have changed a rate since `init`.
    leaves = [
        leaf if owner is not None or not leaf.ndim else empty
        for owner, leaf, empty in zip(owners, jax.tree.leaves(state), fresh, strict=True)
    ]
    counts = counters(inner, params, jax.tree.unflatten(tree, leaves), owners)

    def one(carry: tuple[jax.Array, dict[str, jax.Array], list[Any]]) -> Any:
        k, now, leaves = carry
        at = [jnp.asarray(k, leaf.dtype) if is_count else leaf for is_count, leaf in zip(counts, leaves, strict=True)]
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, after = inner.update(zeros, jax.tree.unflatten(tree, at), slabs.replace(params, now))
        behind = {name: (last[name] <= k)[:, None] for name in names}
        moved = optax.apply_updates(now, slabs.tables(updates, names))
        now = {name: jnp.where(behind[name], moved[name], now[name]) for name in names}
        leaves = [
            old if owner is None else jnp.where(behind[owner.table], new, old)
            for owner, old, new in zip(owners, leaves, jax.tree.leaves(after), strict=True)
        ]
        return k + 1, now, leaves

    first = jnp.min(jnp.concatenate(list(last.values())), initial=step)
    _, now, leaves = jax.lax.while_loop(lambda carry: carry[0] < step, one, (first, begun, leaves))
    pairs = zip(owners, jax.tree.leaves(state), leaves, strict=True)
    kept = [leaf if owner is None else new for owner, leaf, new in pairs]
    return now, jax.tree.unflatten(jax.tree.structure(state), kept)


def require_replayable(
    inner: optax.GradientTransformation, params: Any, owners: Owners, read: Sequence[bool | None]
) -> list[bool]:
    """Refuse a transformation whose missed updates cannot be known later.

    Args:
      inner: the transformation.
      params: parameters like those that it is for, numbers and not tracers; only shapes and dtypes count.
      owners: of the leaves of its state.
      read: of its leaves too, from `flow.into_tables`.

    Returns:
      For each leaf of the state whether it counts updates.

    Raises:
      TypeError: the tables' updates depend on a leaf of the state that is neither a table's, nor counts updates from
        0, nor stays as it is. Whether they do is judged by the structure of one update: a few that could be replayed,
        as of `optax.apply_every`, are refused too.
    """
    begun = inner.init(params)
    leaves, tree = jax.tree.flatten(begun)
    later = [jnp.full_like(leaf, _STEP) if _is_integer(leaf) else leaf for leaf in leaves]
    after = jax.tree.leaves(inner.update(params, jax.tree.unflatten(tree, later), params)[1])
    pairs = zip(leaves, after, strict=True)
    counts = [bool(_is_integer(leaf) and leaf == 0 and new == _STEP + 1) for leaf, new in pairs]
    kept = flow.handed_on(inner, params, begun)
    for n, (path, _) in enumerate(jax.tree.leaves_with_path(begun)):
        if read[n] is not None and not (owners[n] is not None or kept[n] or counts[n]):
            raise TypeError(
                "rowwise: making up for missed updates required an inner state that, but for the tables' rows, only "
                f"counts updates or stays as it is, got {name_of(path)}, which changes otherwise; use mode 'lazy' or "
                "'dense'"
            )
    return counts


def counters(inner: optax.GradientTransformation, params: Any, state: Any, owners: Owners) -> list[bool]:
    """For each leaf of the state of what `require_replayable` lets pass, whether it counts updates."""
    kept = flow.handed_on(inner, params, state)
    return [
        _is_integer(leaf) and owner is None and not keep
        for leaf, owner, keep in zip(jax.tree.leaves(state), owners, kept, strict=True)
    ]


def _is_integer(leaf: Any) -> bool:
    return leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
