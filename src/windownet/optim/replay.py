"""Updates that rows missed, made up for one by one, and what an optimizer's state must be like for that.

At a later step the rows' own state is at hand, and so are numbers that count steps or never change. What else the
updates rest on has moved on, and there is no telling what it was.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from windownet.optim import flow, slabs
from windownet.optim.by_path import name_of
from windownet.optim.flow import Use
from windownet.optim.slabs import Owners

# Steps at which a number is to be their count: all early ones, as one may stop or start anew, and some far ones.
_STEPS = np.concatenate([np.arange(2**16), 2 ** np.arange(16, 31)])


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
    leaves, tree = jax.tree.flatten(state)
    counts = counters(inner, params, owners, names)

    def one(carry: tuple[jax.Array, dict[str, jax.Array], list[Any]]) -> Any:
        k, now, of_rows = carry
        at = [jnp.asarray(k, leaf.dtype) if is_count else leaf for is_count, leaf in zip(counts, leaves, strict=True)]
        before = jax.tree.unflatten(tree, slabs.with_owned(at, owners, of_rows))
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, after = inner.update(zeros, before, slabs.replace(params, now))
        behind = {name: (last[name] <= k)[:, None] for name in names}
        moved = optax.apply_updates(now, slabs.tables(updates, names))
        now = {name: jnp.where(behind[name], moved[name], now[name]) for name in names}
        tables = [owner.table for owner in owners if owner is not None]
        triples = zip(tables, of_rows, slabs.owned(jax.tree.leaves(after), owners), strict=True)
        return k + 1, now, [jnp.where(behind[table], new.astype(old.dtype), old) for table, old, new in triples]

    # Of the other leaves none is carried on: nothing but the tables' rows is wanted of these updates.
    first = jnp.min(jnp.concatenate(list(last.values())), initial=step)
    carry = first, begun, slabs.owned(leaves, owners)
    _, now, of_rows = jax.lax.while_loop(lambda carry: carry[0] < step, one, carry)
    return now, jax.tree.unflatten(tree, slabs.with_owned(leaves, owners, of_rows))


def require_replayable(
    inner: optax.GradientTransformation, params: Any, owners: Owners, names: tuple[str, ...]
) -> list[bool]:
    """Refuse a transformation whose missed updates cannot be known later.

    Args:
      inner: the transformation.
      params: parameters like those that it is for; only structure, shapes and dtypes count.
      owners: of the leaves of its state.
      names: the tables'.

    Returns:
      For each leaf of the state whether it counts updates.

    Raises:
      TypeError: the tables' updates depend on a leaf of the state that is neither a table's, nor counts updates from
        0, nor stays as it is. Whether they do is judged by the structure of one update: a few that could be replayed,
        as of `optax.apply_every`, are refused too.
    """
    state = jax.eval_shape(inner.init, params)
    used, _ = flow.into_tables(inner, params, owners, names)
    kept, alone = flow.handed_on(inner, params, state), flow.by_themselves(inner, params, state)
    numbers = [n for n, leaf in enumerate(jax.tree.leaves(state)) if _is_integer(leaf) and alone[n]]

    def tried() -> dict[int, tuple[jax.Array, jax.Array]]:
        # Made in here, where those that no number rests on are never computed.
        ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), params)
        leaves, tree = jax.tree.flatten(inner.init(ones))

        def next_of(k: jax.Array) -> dict[int, jax.Array]:
            at = [k.astype(leaf.dtype) if n in numbers else leaf for n, leaf in enumerate(leaves)]
            after = jax.tree.leaves(inner.update(ones, jax.tree.unflatten(tree, at), ones)[1])
            return {n: after[n] for n in numbers}

        after = jax.vmap(next_of)(jnp.asarray(_STEPS))
        return {n: (leaves[n], after[n]) for n in numbers}

    # `init` may be traced: what is compiled beforehand runs all the same.
    found = jax.device_get(jax.jit(tried).lower().compile()())
    counts = {n for n, (first, after) in found.items() if first == 0 and np.array_equal(after, _STEPS + 1)}
    for n, (path, _) in enumerate(jax.tree.leaves_with_path(state)):
        if used[n] is not Use.NONE and not (owners[n] is not None or kept[n] or n in counts):
            raise TypeError(
                "rowwise: making up for missed updates required an inner state that, but for the tables' rows, only "
                f"counts updates or stays as it is, got {name_of(path)}, which changes otherwise; use mode 'lazy' or "
                "'dense'"
            )
    return [n in counts for n in range(len(used))]


def counters(inner: optax.GradientTransformation, params: Any, owners: Owners, names: tuple[str, ...]) -> list[bool]:
    """For each leaf of the state of what `require_replayable` lets pass, whether it counts the tables' updates."""
    state = jax.eval_shape(inner.init, params)
    used, _ = flow.into_tables(inner, params, owners, names)
    kept = flow.handed_on(inner, params, state)
    return [
        _is_integer(leaf) and owner is None and not keep and use is not Use.NONE
        for leaf, owner, keep, use in zip(jax.tree.leaves(state), owners, kept, used, strict=True)
    ]


def _is_integer(leaf: Any) -> bool:
    return leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
