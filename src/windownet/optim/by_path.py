"""What an optimizer does to some parameters only, told by their paths: keys joined by dots, such as hidden.0.w."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import optax

from windownet.errors import InputError


def scale(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Updates times the factor of the first pattern that matches."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map_with_path(lambda path, u: factor(factors, name_of(path)) * u, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_fan_in() -> optax.GradientTransformation:
    """Updates of a layer, its `w` [I, O] and what stands beside it, over I (Collobert et al. 2011, section 3.4).

    A table of vectors has fan-in 1.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any) -> tuple[Any, optax.EmptyState]:
        leaves = {name_of(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}

        def divided(path: tuple[Any, ...], leaf: Any) -> Any:
            layer = leaves.get(f"{name_of(path).rpartition('.')[0]}.w")
            return leaf if layer is None else leaf / max(layer.shape[0], 1)

        return jax.tree.map_with_path(divided, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def max_norm(bound: float) -> optax.GradientTransformation:
    """Updates after which no column of a hidden layer's weights is longer than `bound` (Srivastava et al. 2014)."""

    def update(updates: Any, state: optax.EmptyState, params: Any) -> tuple[Any, optax.EmptyState]:
        def bounded(path: tuple[Any, ...], step: Any, weights: Any) -> Any:
            if not fnmatchcase(name_of(path), "hidden.*.w"):
                return step
            moved = weights + step
            norms = jnp.sqrt(jnp.sum(jnp.square(moved), axis=0))
            return moved * (bound / jnp.maximum(norms, bound)) - weights

        return jax.tree.map_with_path(bounded, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def add_decayed_weights(share: float, except_for: Collection[str]) -> optax.GradientTransformation:
    """`optax.add_decayed_weights` for all parameters but those that a pattern matches."""

    def mask(params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, _: not matches(except_for, name_of(path)), params)

    return optax.add_decayed_weights(share, mask)


def require_matches(key: str, patterns: Collection[str], params: Any) -> None:
    """Refuse patterns that match no parameter.

    Raises:
      InputError: names the config's key and the pattern.
    """
    names = [name_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"{key}: required patterns of parameters, got {pattern!r}, which matches none of {', '.join(names)}"
            )


def shadowed(patterns: Collection[str], params: Any) -> dict[str, list[str]]:
    """Patterns that no parameter goes by, each with those before it that what it matches goes by."""
    names = [name_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    found = {}
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        firsts = [next(first for first in patterns if fnmatchcase(name, first)) for name in matched]
        if pattern not in firsts:
            found[pattern] = list(dict.fromkeys(firsts))
    return found


def matches(patterns: Collection[str], name: str) -> bool:
    """Whether one of the patterns matches."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def factor(factors: Mapping[str, float], name: str) -> float:
    """The factor of the first pattern that matches, or 1."""
    return next((value for pattern, value in factors.items() if fnmatchcase(name, pattern)), 1.0)


def name_of(path: tuple[Any, ...]) -> str:
    """A leaf's path as its keys joined by dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
