"""The hand-written training step against the same network by flax, jax.grad and optax, on every config.

Two rivals, on the same batches, alternating in one process: the loop that flax's guides write (nnx.jit, nnx.Optimizer,
one step a call), and jax.grad of the flax reference inside our own program of many steps, compiled alike, which
isolates the backward pass. All batches lie on the device before the clock starts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import _report
from windownet.data.batches import Batch
from windownet.machine import compiler_options
from windownet.model import reference
from windownet.model.network import Params, WindowNetwork
from windownet.optim.build import build, build_rowwise
from windownet.train.prepare import Prepared, prepare
from windownet.train.step import Step, Training, TrainState

ROUNDS = 40


def global_ids(batches: Batch) -> Batch:
    """The same batches for a network that looks words up by their rows of the whole table."""
    words = np.take_along_axis(batches.rows[:, None, :], batches.words.reshape(len(batches.rows), 1, -1), 2)
    return batches._replace(words=words.reshape(batches.words.shape))


def reference_loss(module: reference.Reference, batch: Batch, key: jax.Array) -> jax.Array:
    """`reference.loss_of` as a user of flax would write it for these configs, for a batch of `global_ids`.

    That one looks rows up by rows, makes labels one-hot to smooth them, and adds up an L2 penalty: none of it does
    anything here, and all of it takes the peer's time.
    """
    logits = module(batch.words, batch.capitals, key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tags)
    return jnp.mean(losses, where=batch.mask)


def require_same_loss(network: WindowNetwork, params: Params, batch: Batch, whole: Batch, key: jax.Array) -> None:
    """Fail where `reference_loss` of a batch of `global_ids` is not the specification's of the batch itself."""
    peer = reference_loss(reference.from_params(network, params), whole, key)
    np.testing.assert_allclose(peer, reference.loss(network, params, batch, key), rtol=1e-5)


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

    many = jax.jit(
        lambda state, stack: jax.lax.scan(one, state, stack), donate_argnums=0, compiler_options=compiler_options()
    )
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
    def step(module: Any, optimizer: Any, batch: Batch, n: jax.Array) -> Any:
        value, gradient = nnx.value_and_grad(reference_loss)(module, batch, jax.random.fold_in(key, n))
        optimizer.update(module, gradient)
        return value

    def run() -> Any:
        return [step(module, optimizer, batch, jnp.int32(n)) for n, batch in enumerate(singly)]

    return run


def main() -> None:
    args = _report.data_parser(__doc__).parse_args()
    rows = []
    for one in _report.available(args):
        prepared = prepare(one.load())
        batches = next(iter(prepared.epochs.epoch(0)))
        steps = prepared.config.train.epochs * prepared.epochs.steps
        first, whole = (Batch(*(array[0] for array in stack)) for stack in (batches, global_ids(batches)))
        network, key = prepared.network, jax.random.key(1)
        require_same_loss(network, network.init(jax.random.key(0)), first, whole, key)
        rivals = {rival.__name__: rival(prepared, batches, steps) for rival in (ours, flax_loop, jax_grad_in_scan)}
        ms = {rival: 1e3 * s / len(batches.tags) for rival, s in _report.alternate(rivals, ROUNDS).items()}
        for peer, rival in (("flax nnx loop", "flax_loop"), ("jax.grad of flax in our scan", "jax_grad_in_scan")):
            name = f"step, {one.name}"
            rows.append(_report.row(name, ms["ours"], "ms", peer=(peer, ms[rival]), ratio_at_least=1))
    _report.write(rows, args)


if __name__ == "__main__":
    main()
