"""The hand-written training step against the same network by flax, jax.grad and optax, on every config.

Two rivals, on the same batches, alternating in one process: the loop that flax's guides write (nnx.jit, nnx.Optimizer,
one step a call), and jax.grad of the flax reference inside our own program of many steps, which isolates the backward
pass. All batches lie on the device before the clock starts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import _report
from windownet import config
from windownet.data.batches import Batch
from windownet.model import reference
from windownet.optim.build import build, build_rowwise
from windownet.train.prepare import Prepared, prepare
from windownet.train.step import Step, Training, TrainState

ROUNDS = 15


def global_ids(batches: Batch) -> Batch:
    """The same batches for a network that looks words up by their rows of the whole table."""
    words = np.take_along_axis(batches.rows[:, None, :], batches.words.reshape(len(batches.rows), 1, -1), 2)
    return batches._replace(words=words.reshape(batches.words.shape))


def reference_loss(module: reference.Reference, batch: Batch, key: jax.Array) -> jax.Array:
    logits = module(batch.words, batch.capitals, key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tags)
    return jnp.mean(losses, where=batch.mask)


def ours(prepared: Prepared, batches: Batch, steps: int) -> Callable[[], Any]:
    step = Step(Training(prepared.network, build_rowwise(prepared.config, steps)))
    state = [step.init(0)]
    on_device = jax.device_put(batches)

    def run() -> Any:
        state[0], losses = step(state[0], on_device)
        return state[0].params, losses

    return run


def jax_grad_in_scan(prepared: Prepared, batches: Batch, steps: int) -> Callable[[], Any]:
    optimizer = build(prepared.config, steps)

    def loss(params: Any, batch: Batch, key: jax.Array) -> jax.Array:
        return reference_loss(reference.from_params(prepared.network, params), batch, key)

    def one(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(state.params, batch, jax.random.fold_in(state.key, state.step))
        updates, inner = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimizer=inner, step=state.step + 1), value

    many = jax.jit(lambda state, stack: jax.lax.scan(one, state, stack), donate_argnums=0)
    first = Step(Training(prepared.network, build_rowwise(prepared.config, steps))).init(0)
    state = [first._replace(optimizer=optimizer.init(first.params))]
    on_device = jax.device_put(global_ids(batches))

    def run() -> Any:
        state[0], losses = many(state[0], on_device)
        return state[0].params, losses

    return run


def flax_loop(prepared: Prepared, batches: Batch, steps: int) -> Callable[[], Any]:
    params = Step(Training(prepared.network, build_rowwise(prepared.config, steps))).init(0).params
    module = reference.from_params(prepared.network, params)
    optimizer = nnx.Optimizer(module, build(prepared.config, steps), wrt=nnx.Param)
    stack = global_ids(batches)
    singly = [jax.device_put(Batch(*(array[n] for array in stack))) for n in range(len(stack.tags))]
    key = jax.random.key(1)

    @nnx.jit
    def step(module: Any, optimizer: Any, batch: Batch, n: jax.Array) -> jax.Array:
        value, gradient = nnx.value_and_grad(reference_loss)(module, batch, jax.random.fold_in(key, n))
        optimizer.update(module, gradient)
        return value

    def run() -> Any:
        return [step(module, optimizer, batch, jnp.int32(n)) for n, batch in enumerate(singly)]

    return run


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    rows = []
    for name, settings in _report.available():
        prepared = prepare(config.load(_report.ROOT / "configs" / f"{name}.toml", settings))
        batches = next(iter(prepared.epochs.epoch(0)))
        steps = prepared.config.train.epochs * prepared.epochs.steps
        rivals = {rival.__name__: rival(prepared, batches, steps) for rival in (ours, flax_loop, jax_grad_in_scan)}
        times = {rival: 1e3 * s / len(batches.tags) for rival, s in _report.alternate(rivals, ROUNDS).items()}
        mine, loop, scan = times["ours"], times["flax_loop"], times["jax_grad_in_scan"]
        rows.append(_report.row(f"step, {name}", mine, "ms", "flax nnx loop", loop, "ratio >= 1", loop >= mine))
        rows.append(
            _report.row(f"step, {name}", mine, "ms", "jax.grad of flax in our scan", scan, "ratio >= 1", scan >= mine)
        )
    _report.write(rows, args)


if __name__ == "__main__":
    main()
