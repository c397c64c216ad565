"""Training whose numbers change as it goes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from windownet.model.network import WindowNetwork
from windownet.optim import schedules
from windownet.optim.build import build_rowwise
from windownet.schema.config import Config
from windownet.train.step import Training, TrainState

_OF_NETWORK = {
    f"regularization.{field}": field for field in ("input_dropout", "hidden_dropout", "label_smoothing", "l2")
}


def of(config: Config, network: WindowNetwork, steps: int) -> Training:
    """The training that a config describes, for a run of `steps` steps."""
    if config.schedule.name == "plateau" or config.schedule.others:
        return Scheduled(config, network, steps)
    run = config.train
    return Training(network, build_rowwise(config, steps), config.words.anchor, run.average, run.accumulate)


class Scheduled(Training):
    """A `Training` that is made anew, of the numbers that it then has, wherever a step is traced.

    Args:
      config: the whole config.
      network: the network.
      steps: how many the run has.
    """

    def __init__(self, config: Config, network: WindowNetwork, steps: int) -> None:
        run = config.train
        super().__init__(network, build_rowwise(config, steps), config.words.anchor, run.average, run.accumulate)
        self._config, self._steps = config, steps
        self._numbers = schedules.others(config, steps)

    def init(self, key: jax.Array, pretrained: Any = None, found: Any = None) -> TrainState:
        """As `Training` has it; the rate is that of its schedule."""
        factor = jnp.ones((), jnp.float32) if self._config.schedule.name == "plateau" else None
        return super().init(key, pretrained, found)._replace(factor=factor)

    def settle(self, state: TrainState, frozen: bool) -> TrainState:
        """As `Training` has it."""
        return self._at(state).settle(state, frozen)

    def scale_rate(self, state: TrainState, factor: Any) -> TrainState:
        """From here on the rate is its schedule's times `factor`; the state must be a settled one."""
        state = state._replace(factor=jnp.asarray(factor, jnp.float32))
        optimizer = build_rowwise(self._config, self._steps, state.factor)
        return state._replace(optimizer=optimizer.renew(state.optimizer))

    def _fine_tuned(self, state: TrainState, *rest: Any, **options: Any) -> Any:
        return self._at(state)._fine_tuned(state, *rest, **options)

    def _frozen(self, state: TrainState, *rest: Any, **options: Any) -> Any:
        return self._at(state)._frozen(state, *rest, **options)

    def _at(self, state: TrainState) -> Training:
        numbers = {key: number(state.step) for key, number in self._numbers.items()}
        of_network = {field: numbers[key] for key, field in _OF_NETWORK.items() if key in numbers}
        network = dataclasses.replace(self._network, **of_network)
        anchor = numbers.get("words.anchor", self._config.words.anchor)
        average = numbers.get("train.average", self._config.train.average)
        # The optimizer takes the numbers by its own count, so that it has those of a step that it replays.
        optimizer = build_rowwise(self._config, self._steps, state.factor)
        return Training(network, optimizer, anchor, average, self._config.train.accumulate)
