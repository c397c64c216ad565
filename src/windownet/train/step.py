"""The compiled program of training: many steps a call, every buffer of the state donated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from windownet.autodiff import RowSparse, value_and_grad
from windownet.autodiff.scalars import Scalar, is_zero
from windownet.data.batches import Batch
from windownet.machine import compiler_options
from windownet.model.network import Params, WindowNetwork
from windownet.optim import average
from windownet.optim.average import Average
from windownet.optim.build import TABLE
from windownet.optim.rowwise import Rowwise, RowwiseState
from windownet.train import accumulate, statistics
from windownet.train.word_table import WordTable

Statistics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
      params: the network's parameters.
      optimizer: the optimizer's state.
      step: int32 scalar, steps done.
      key: the run's random key; step n draws from it folded with n.
      start: words [V, D] as they were before the first step, where words.anchor draws them there; else None.
      average: the parameters' moving average, where train.average asks for one; else None.
      factor: float32 scalar that multiplies the rate, where it falls with dev scores; else None.
    """

    params: Params
    optimizer: RowwiseState
    step: jax.Array
    key: jax.Array
    start: jax.Array | None = None
    average: Average | None = None
    factor: jax.Array | None = None

    @property
    def result(self) -> Params:
        """The parameters to score and to keep, of a settled state: their moving average where there is one."""
        return self.params if self.average is None else self.average.params


class Training:
    """What a step of one run computes, in functions of arrays alone: to be compiled, scanned, and mapped over runs.

    Args:
      network: the network.
      optimizer: acts on touched rows of the word table.
      anchor: strength of the penalty that draws word vectors to their start.
      decay: of the parameters' moving average; 0 for none.
      parts: A, how many parts a step's windows are taken in, one after the other; A·B windows make a step.
    """

    def __init__(
        self, network: WindowNetwork, optimizer: Rowwise, anchor: Scalar = 0.0, decay: Scalar = 0.0, parts: int = 1
    ) -> None:
        self._network, self._optimizer, self._anchor, self._decay = network, optimizer, anchor, decay
        self._parts = parts

    def init(self, key: jax.Array, pretrained: Any = None, found: Any = None) -> TrainState:
        """The state before the first step; rows of the word table that were `found` begin as `pretrained` [V, D]."""
        init_key, key = jax.random.split(key)
        params = self._network.init(init_key)
        if pretrained is not None:
            params[TABLE] = jnp.where(found[:, None], pretrained, params[TABLE])
        start = jnp.copy(params[TABLE]) if not is_zero(self._anchor) else None
        averaged = None if is_zero(self._decay) else average.begin(params, TABLE)
        return TrainState(params, self._optimizer.init(params), jnp.zeros((), jnp.int32), key, start, averaged)

    def steps(self, state: TrainState, batches: Batch, frozen: bool) -> tuple[TrainState, jax.Array]:
        """K steps on a stack of K batches, each of all A·B windows of a step; the K losses."""
        one = self._frozen if frozen else self._fine_tuned
        state, (losses, _) = jax.lax.scan(lambda state, batch: one(state, batch, watch=False), state, batches)
        return state, losses

    def watched(self, state: TrainState, batches: Batch, frozen: bool) -> tuple[TrainState, jax.Array, Statistics]:
        """The same, with the last step's norms of gradient and update, and what its hidden units do behind it."""
        # The last step stands by itself: in the scan its norms would cost every step a tenth of its time.
        state, losses = self.steps(state, jax.tree.map(lambda array: array[:-1], batches), frozen)
        last = jax.tree.map(lambda array: array[-1], batches)
        one = self._frozen if frozen else self._fine_tuned
        like = jax.eval_shape(lambda state: one(state, last, watch=True)[1], state)
        told = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        # A loop of one turn, which XLA cannot know: outside of loops a step with a moving average takes four times as
        # long on a CPU.
        turns = jnp.where(state.step >= 0, 1, 0)
        state, (loss, norms) = jax.lax.fori_loop(
            0, turns, lambda _, carry: one(carry[0], last, watch=True), (state, told)
        )
        units = statistics.units(self._network, state.params, accumulate.first(last, self._parts))
        return state, jnp.append(losses, loss), {**norms, **units}

    def settle(self, state: TrainState, frozen: bool) -> TrainState:
        """Bring every row of the word table up to date, before it is read whole."""
        if frozen:
            state = state._replace(optimizer=self._optimizer.skip(state.optimizer))
        else:
            params, inner = self._optimizer.flush(state.params, state.optimizer)
            state = state._replace(params=params, optimizer=inner)
        if state.average is not None:
            state = state._replace(average=average.catch_up(state.average, state.params[TABLE], table=TABLE))
        return state

    def _fine_tuned(self, state: TrainState, batch: Batch, watch: bool) -> tuple[TrainState, Any]:
        params, inner = self._optimizer.touch(state.params, state.optimizer, {TABLE: batch.rows})
        key = jax.random.fold_in(state.key, state.step)
        loss_and_gradient = value_and_grad(self._network.loss, row_sparse=True)
        loss, gradient = accumulate.mean(
            lambda part, key: loss_and_gradient(params, part, key, state.start, self._anchor), batch, key, self._parts
        )
        after, norms = self._updated(state._replace(params=params, optimizer=inner), gradient, watch)
        return self._averaged(after, params[TABLE], batch.rows), (loss, norms)

    def _frozen(self, state: TrainState, batch: Batch, watch: bool) -> tuple[TrainState, Any]:
        others = {name: leaf for name, leaf in state.params.items() if name != TABLE}
        words = state.params[TABLE]
        key = jax.random.fold_in(state.key, state.step)
        loss_and_gradient = value_and_grad(lambda p, part, key: self._network.loss({**p, TABLE: words}, part, key))
        loss, gradient = accumulate.mean(
            lambda part, key: loss_and_gradient(others, part, key), batch, key, self._parts
        )
        nothing = RowSparse.nothing(words)
        after, norms = self._updated(state, {**gradient, TABLE: nothing}, watch)
        # A dense optimizer would let the table decay all the same.
        after = after._replace(params={**after.params, TABLE: words})
        return self._averaged(after, words, nothing.rows), (loss, norms)

    def _updated(self, state: TrainState, gradient: Any, watch: bool) -> tuple[TrainState, Statistics]:
        updates, inner = self._optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        norms = {**statistics.norms("gradient", gradient), **statistics.norms("update", updates)} if watch else {}
        return state._replace(params=params, optimizer=inner, step=state.step + 1), norms

    def _averaged(self, state: TrainState, before: jax.Array, rows: jax.Array) -> TrainState:
        if state.average is None:
            return state
        added = average.add(state.average, before, state.params, table=TABLE, rows=rows, decay=self._decay)
        return state._replace(average=added)


class Step:
    """K steps of one run in one compiled call.

    Attributes:
      traces: how often jax had to compile it: once for steps that move the word table, once for such that do not.
    """

    def __init__(self, training: Training) -> None:
        self.traces = 0

        def steps(state: TrainState, batches: Batch, frozen: bool) -> tuple[TrainState, jax.Array]:
            self.traces += 1
            return training.steps(state, batches, frozen)

        def watched(state: TrainState, batches: Batch, frozen: bool) -> tuple[TrainState, jax.Array, Statistics]:
            self.traces += 1
            return training.watched(state, batches, frozen)

        options = compiler_options()
        self._init: Callable[..., TrainState] = jax.jit(training.init)
        self._run: Callable[..., tuple[TrainState, jax.Array]] = jax.jit(
            steps, static_argnames="frozen", donate_argnums=0, compiler_options=options
        )
        self._watched: Callable[..., tuple[TrainState, jax.Array, Statistics]] = jax.jit(
            watched, static_argnames="frozen", donate_argnums=0, compiler_options=options
        )
        self._settle: Callable[..., TrainState] = jax.jit(training.settle, static_argnames="frozen", donate_argnums=0)

    def init(self, seed: int, words: WordTable | None = None) -> TrainState:
        """The state before the first step, with pretrained vectors in the rows that have one."""
        # Compiled as one program: op by op it would take most of a short run's start.
        pretrained, found = (None, None) if words is None else (words.pretrained, words.found)
        return self._init(jax.random.key(seed), pretrained, found)

    def __call__(self, state: TrainState, batches: Batch, *, frozen: bool = False) -> tuple[TrainState, jax.Array]:
        """Run K steps on a stack of K batches; the given state is used up.

        Args:
          state: where to begin.
          batches: every array with a leading axis K.
          frozen: whether the word table stays as it is.

        Returns:
          The new state and the K losses, float32 [K].
        """
        return self._run(state, batches, frozen=frozen)

    def watched(
        self, state: TrainState, batches: Batch, *, frozen: bool = False
    ) -> tuple[TrainState, jax.Array, Statistics]:
        """The same, with what `windownet.train.statistics` tells of it: float32 scalars by name."""
        return self._watched(state, batches, frozen=frozen)

    def settle(self, state: TrainState, *, frozen: bool = False) -> TrainState:
        """Bring every row of the word table up to date, before it is read whole; the given state is used up."""
        return self._settle(state, frozen=frozen)
