"""The compiled program of training: many steps a call, every buffer of the state donated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from windownet.autodiff import value_and_grad
from windownet.data.batches import Batch
from windownet.model.network import Params, WindowNetwork


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
      params: the network's parameters.
      optimizer: optax's state.
      step: int32 scalar, steps done.
      key: the run's random key; step n draws from it folded with n.
    """

    params: Params
    optimizer: Any
    step: jax.Array
    key: jax.Array


class Step:
    """K steps of one run in one compiled call; `traces` counts how often jax had to compile it."""

    def __init__(self, network: WindowNetwork, optimizer: optax.GradientTransformation) -> None:
        self.traces = 0
        loss_and_gradient = value_and_grad(network.loss)

        def one(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
            loss, gradient = loss_and_gradient(state.params, batch, jax.random.fold_in(state.key, state.step))
            updates, inner = optimizer.update(gradient, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            return TrainState(params, inner, state.step + 1, state.key), loss

        def many(state: TrainState, batches: Batch) -> tuple[TrainState, jax.Array]:
            self.traces += 1
            return jax.lax.scan(one, state, batches)

        def first(key: jax.Array) -> TrainState:
            init_key, key = jax.random.split(key)
            params = network.init(init_key)
            return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), key)

        self._init: Callable[[jax.Array], TrainState] = jax.jit(first)
        self._run: Callable[[TrainState, Batch], tuple[TrainState, jax.Array]] = jax.jit(many, donate_argnums=0)

    def init(self, seed: int) -> TrainState:
        """The state before the first step."""
        # Compiled as one program: op by op it would take most of a short run's start.
        return self._init(jax.random.key(seed))

    def __call__(self, state: TrainState, batches: Batch) -> tuple[TrainState, jax.Array]:
        """Run K steps on a stack of K batches; the given state is used up.

        Returns:
          The new state and the K losses, float32 [K].
        """
        return self._run(state, batches)
