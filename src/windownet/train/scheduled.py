"""Training whose numbers change as it goes."""

from typing import Any

import jax
import jax.numpy as jnp

from windownet.config import Config
from windownet.model.network import WindowNetwork
from windownet.optim.build import build_rowwise
from windownet.train.step import Training, TrainState


def of(config: Config, network: WindowNetwork, steps: int) -> Training:
    """The training that a config describes, for a run of `steps` steps."""
    if config.schedule.name == "plateau":
        return Scheduled(config, network, steps)
    return Training(network, build_rowwise(config, steps), config.words.anchor, config.train.average)


class Scheduled(Training):
    """A `Training` that is made anew, of the numbers that it then has, wherever a step is traced.

    Args:
      config: the whole config.
      network: the network.
      steps: how many the run has.
    """

    def __init__(self, config: Config, network: WindowNetwork, steps: int) -> None:
        super().__init__(network, build_rowwise(config, steps), config.words.anchor, config.train.average)
        self._config, self._steps = config, steps

    def init(self, key: jax.Array, pretrained: Any = None, found: Any = None) -> TrainState:
        """As `Training` has it; the rate is that of its schedule."""
        return super().init(key, pretrained, found)._replace(factor=jnp.ones((), jnp.float32))

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
        optimizer = build_rowwise(self._config, self._steps, state.factor)
        return Training(self._network, optimizer, self._config.words.anchor, self._config.train.average)
