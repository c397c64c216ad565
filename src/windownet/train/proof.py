"""The proof of a configured network: its gradients on a batch of its own data, by three witnesses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from windownet.autodiff.check import check_gradients
from windownet.autodiff.report import Report
from windownet.data.batches import Batch, Windows
from windownet.model import reference
from windownet.model.network import Params
from windownet.schema.config import Config
from windownet.train.prepare import Prepared, prepare

_WINDOWS = 64


def prove(config: Config, console: Console) -> Report:
    """Check the gradient of every parameter of the config's network in float64, with its dropout on.

    Raises:
      InputError: the config's data cannot be read.
    """
    # A row that its batch does not touch has no gradient, whatever it holds.
    prepared = prepare(config, vectors=False)
    network = prepared.network

    def by_flax(params: Params, batch: Batch, key: Any) -> Any:
        return reference.loss(network, params, batch, key)

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("gradcheck", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        return check_gradients(
            network.loss,
            _params(prepared),
            _batch(prepared),
            jax.random.key(config.train.seed),
            reference=by_flax,
            seed=config.train.seed,
            progress=progress,
        )


def _batch(prepared: Prepared) -> Batch:
    # The first sentences, so that padding at their edges and repeated words are in it.
    size = min(_WINDOWS, len(prepared.train.positions))
    windows = Windows(prepared.train, len(prepared.vocabulary), prepared.config.model.window, size + 1)
    return windows.batch(np.arange(size))


def _params(prepared: Prepared) -> Params:
    # Moved away from the first values: no bias is zero, and some units saturate, as after training.
    with jax.enable_x64(True):
        key, moves = jax.random.split(jax.random.key(prepared.config.train.seed))
        params = prepared.network.init(key, jnp.float64)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(moves, len(leaves))
        moved = [x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)]
        return dict(jax.tree.unflatten(tree, moved))
