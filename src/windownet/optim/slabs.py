"""Tables among the leaves of parameters, gradients and an optimizer's state, and slabs of rows in their place.

A table is named by its path, keys joined by dots. Axes: V rows of a table, D its width, U rows of a slab.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from windownet.autodiff.rows import is_row_sparse, put
from windownet.optim.by_path import name_of


class Owner(NamedTuple):
    """Which table a leaf of the inner state belongs to, and the name of its field: mu, nu, trace, ..."""

    table: str
    field: str


# One for each leaf of the state; None for one that is no table's.
Owners = list[Owner | None]


def tables(tree: Any, names: tuple[str, ...], of: str = "parameters") -> dict[str, Any]:
    """The tables among the leaves of a tree, arrays or `RowSparse`; `of` says what tree that is.

    Raises:
      ValueError: there is none of a name, or more than one.
      TypeError: it is not [V, D].
    """
    pairs = [(leaf_name(path, names), leaf) for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_row_sparse)]
    leaves = dict(pairs)
    if missing := [name for name in names if name not in leaves]:
        raise ValueError(
            f"rowwise: tables must be leaves of the {of}, got {missing}; they have {list(leaves)}: name those of them "
            "that are tables by rowwise(..., tables=[...])"
        )
    found = [name for name, _ in pairs]
    if twice := [name for name in names if found.count(name) > 1]:
        raise ValueError(
            f"rowwise: required one leaf of the {of} by the path of each table, got several by {twice}; leave dots out "
            "of keys"
        )
    for name in names:
        if len(leaves[name].shape) != 2:
            raise TypeError(f"rowwise: table {name!r} must be [V, D], got {list(leaves[name].shape)}")
    return {name: leaves[name] for name in names}


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree with other leaves, by name."""

    def exchange(path: tuple[Any, ...], leaf: Any) -> Any:
        return leaves.get(leaf_name(path, leaves), leaf)

    return jax.tree.map_with_path(exchange, tree, is_leaf=is_row_sparse)


def owners_of(inner: optax.GradientTransformation, params: Any, names: tuple[str, ...]) -> Owners:
    """Which leaves of a transformation's state are a table's: those that grow with it.

    Raises:
      ValueError, TypeError: see `tables`.
      TypeError: a leaf grows with a table and has another shape.
    """
    types = jax.eval_shape(lambda: params)
    paths = {leaf_name(path, names): path for path, _ in jax.tree.leaves_with_path(types)}
    base = jax.tree.leaves_with_path(jax.eval_shape(inner.init, types))
    owners: Owners = [None] * len(base)
    for name, table in tables(types, names).items():
        height, width = table.shape
        taller = jax.eval_shape(lambda h=height + 1, w=width, d=table.dtype: jnp.zeros((h, w), d))
        grown = jax.tree.leaves(jax.eval_shape(inner.init, replace(types, {name: taller})))
        for n, ((path, leaf), other) in enumerate(zip(base, grown, strict=True)):
            if leaf.shape == other.shape:
                continue
            if other.shape != taller.shape:
                raise TypeError(
                    f"rowwise: the inner transformation must be elementwise, but its state {name_of(path)} for table "
                    f"{name!r} {list(table.shape)} has shape {list(leaf.shape)}"
                )
            # The state's own part: the parameter's may have fields too.
            within = path[: -len(paths[name])] if paths[name] and path[-len(paths[name]) :] == paths[name] else path
            fields = [key.name for key in within if isinstance(key, jax.tree_util.GetAttrKey)]
            owners[n] = Owner(name, fields[-1] if fields else "")
    return owners


def leaf_name(path: tuple[Any, ...], names: Collection[str]) -> str:
    """The name of a parameter: that of `names` which its path spells, else the path, keys joined by dots."""
    full = name_of(path)
    # An array of flax.nnx is the value of a variable when an optimizer begins, and bare at its updates.
    in_variable = len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value")
    spellings = full, name_of(path[:-1]) if in_variable else f"{full}.value"
    return next((name for name in spellings if name in names), full)


def fields_of(state: Any, owners: Owners, table: str) -> dict[str, Any]:
    """The leaves of a state that are a table's, by field."""
    pairs = zip(owners, jax.tree.leaves(state), strict=True)
    return {owner.field: leaf for owner, leaf in pairs if owner is not None and owner.table == table}


def with_fields(state: Any, owners: Owners, table: str, fields: Mapping[str, Any]) -> Any:
    """The state with other leaves for a table, by field."""
    return map_owned(state, owners, lambda leaf, owner: fields[owner.field] if owner.table == table else leaf)


def map_owned(state: Any, owners: Owners, function: Callable[[Any, Owner], Any]) -> Any:
    """The state with a function of each leaf that is a table's in its place."""
    leaves, tree = jax.tree.flatten(state)
    pairs = zip(owners, leaves, strict=True)
    return jax.tree.unflatten(tree, [leaf if owner is None else function(leaf, owner) for owner, leaf in pairs])


def owned(leaves: Sequence[Any], owners: Owners) -> list[Any]:
    """Those of a state's leaves that are a table's."""
    return [leaf for leaf, owner in zip(leaves, owners, strict=True) if owner is not None]


def with_owned(leaves: Sequence[Any], owners: Owners, others: Sequence[Any]) -> list[Any]:
    """A state's leaves, with others in the places of those that are a table's."""
    left = iter(others)
    return [leaf if owner is None else next(left) for leaf, owner in zip(leaves, owners, strict=True)]


def put_state(full: Any, slabs: Any, owners: Owners, rows: Mapping[str, Any]) -> Any:
    """The state of all rows with that of some put in; what is no table's is the slabs', which has been updated."""
    leaves, tree = jax.tree.flatten(slabs)
    pairs = zip(owners, jax.tree.leaves(full), leaves, strict=True)
    return jax.tree.unflatten(
        tree, [slab if owner is None else put(leaf, rows[owner.table], slab) for owner, leaf, slab in pairs]
    )
