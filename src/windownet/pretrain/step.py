"""The compiled program of a run: many blocks a call, every buffer of the state donated."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from windownet.autodiff import value_and_grad
from windownet.optim import by_path
from windownet.optim.rowwise import rowwise
from windownet.pretrain import sampler
from windownet.pretrain.block import Block
from windownet.pretrain.ranking import Ranking
from windownet.pretrain.skipgram import SkipGram
from windownet.schema.pretrain import PretrainSection

# The rate that a run ends with, as a share of that which it begins with.
_LAST_RATE = 1e-3
# Words of a chunk of skip-gram: fewer make matrices too small to be fast, more multiply what is masked.
_CHUNK = 32
# Drawn words of a chunk, at least; as many more as bring the matrix to a whole number of vector registers.
_SHARED, _REGISTERS = 16, 32


class Objective(Protocol):
    """A loss of blocks: what is drawn for it, and its parameters, of which `tables` [V, D] are only looked up."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the parameters that are tables."""

    @property
    def rates(self) -> Mapping[str, float]:
        """Factor of the rate by pattern of a parameter's name; the first match counts."""

    def init(self, key: jax.Array, size: int, width: int) -> dict[str, jax.Array]:
        """First values of the parameters; the words' vectors are called `words`."""

    def draw(self, key: jax.Array, block: Block, ends: jax.Array, scratch: jax.Array) -> tuple[Any, jax.Array]:
        """What chance decides about a block, and the scratch int32 [V] for the next one."""

    def loss(self, params: dict[str, Any], block: Block, drawn: Any) -> tuple[Any, jax.Array]:
        """Sum of the losses of a block, and how many pairs or windows there are."""


class State(NamedTuple):
    """All that a step changes and a checkpoint keeps.

    Attributes:
      params: the objective's parameters.
      optimizer: state of `rowwise`.
      step: int32 scalar, blocks done.
    """

    params: dict[str, jax.Array]
    optimizer: Any
    step: jax.Array


def rate(settings: PretrainSection, blocks: int) -> optax.Schedule:
    """The learning rate of each of so many blocks: from the settings' in a line to a thousandth of it."""
    return optax.linear_schedule(settings.learning_rate, settings.learning_rate * _LAST_RATE, blocks)


def objective(settings: PretrainSection) -> Objective:
    """The loss that the settings name."""
    if settings.objective == "ranking":
        return Ranking(radius=settings.window, hidden=settings.hidden)
    shared = _SHARED + -(_CHUNK + 2 * settings.window + _SHARED) % _REGISTERS
    return SkipGram(radius=settings.window, negatives=settings.negatives, chunk=_CHUNK, shared=shared)


class Step:
    """K blocks of one run in one compiled call.

    Args:
      settings: the run's.
      counts: integers [V], how often each word occurs.
      blocks: of the whole run, over which the rate falls.

    Attributes:
      traces: how often the call was compiled.
    """

    def __init__(self, settings: PretrainSection, counts: np.ndarray, blocks: int) -> None:
        loss = objective(settings)
        # Adagrad: one block sums hundreds of gradients of a frequent word and one of a rare one, and a plain step that
        # suits the rare one throws the frequent one out of all bounds.
        adagrad = optax.adagrad(rate(settings, blocks), initial_accumulator_value=settings.accumulator)
        optimizer = rowwise(optax.chain(adagrad, by_path.scale(loss.rates)), "lazy", tables=loss.tables)
        gradient = value_and_grad(loss.loss, has_aux=True, row_sparse=True)
        ends = jnp.asarray(sampler.bounds(counts))
        init_key, step_key = jax.random.split(jax.random.key(settings.seed))

        def draw(state: State, block: Block, scratch: jax.Array) -> tuple[Any, jax.Array]:
            return loss.draw(jax.random.fold_in(step_key, state.step), block, ends, scratch)

        def one(carry: tuple[State, jax.Array], block: Block) -> Any:
            state, scratch = carry
            drawn, scratch = draw(state, block, scratch)
            _, cotangents = gradient(state.params, block, drawn)
            updates, inner = optimizer.update(cotangents, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            return (State(params, inner, state.step + 1), scratch), None

        def first_loss(state: State, blocks: Block, scratch: jax.Array) -> tuple[jax.Array, jax.Array]:
            block = jax.tree.map(lambda leaf: leaf[0], blocks)
            drawn, scratch = draw(state, block, scratch)
            value, count = loss.loss(state.params, block, drawn)
            mean = value / jnp.maximum(count, 1)
            # NaN says that there was nothing to learn from, so a loss that is no number is told as an infinite one.
            return jnp.where(count > 0, jnp.where(jnp.isnan(mean), jnp.inf, mean), jnp.nan), scratch

        def many(carry: tuple[State, jax.Array], blocks: Block) -> Any:
            self.traces += 1
            # A step's rules need no loss, so XLA leaves it out; it is worth computing once a call.
            state, scratch = carry
            mean, scratch = first_loss(state, blocks, scratch)
            carry, _ = jax.lax.scan(one, (state, scratch), blocks)
            return carry, mean

        def first() -> State:
            params = loss.init(init_key, len(counts), settings.width)
            return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))

        self.traces = 0
        self._first: Callable[[], State] = jax.jit(first)
        self._many = jax.jit(many, donate_argnums=0)
        self._loss = jax.jit(first_loss)
        self._scratch = jnp.zeros(len(counts), jnp.int32)

    def init(self) -> State:
        """The state before the first block."""
        return self._first()

    def __call__(self, state: State, blocks: Block) -> tuple[State, jax.Array]:
        """Run K blocks; the given state is used up.

        Returns:
          The new state and the first block's mean loss before the block was learned, in nats a pair for skip-gram; NaN
          where the block has no pair or window.
        """
        (state, self._scratch), loss = self._many((state, self._scratch), blocks)
        return state, loss

    def loss(self, state: State, blocks: Block) -> jax.Array:
        """The first block's mean loss, as a call has it, for a state that is kept as it is."""
        mean: jax.Array = self._loss(state, blocks, self._scratch)[0]
        return mean
