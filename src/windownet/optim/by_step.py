"""An optimizer whose numbers change from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class ByStepState(NamedTuple):
    """State of `by_step`.

    Attributes:
      step: int32 scalar, updates done.
      inner: the state of what `make` makes.
    """

    step: jax.Array
    inner: Any


def by_step(make: Callable[[jax.Array], optax.GradientTransformation]) -> optax.GradientTransformation:
    """Update number k, from 0, is that of `make(k)`, whose state must be made alike at every step.

    As `optax.inject_hyperparams`, but the numbers are no part of the state: what replays a missed update need only set
    `step` back to have those of its step.
    """

    def init(params: Any) -> ByStepState:
        step = jnp.zeros((), jnp.int32)
        return ByStepState(step, make(step).init(params))

    def update(updates: Any, state: ByStepState, params: Any = None) -> tuple[Any, ByStepState]:
        updates, inner = make(state.step).update(updates, state.inner, params)
        return updates, ByStepState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)
