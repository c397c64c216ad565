"""Claim: our rules can replace jax's inside a flax network, and nothing about its training changes.

The flax reference is trained twice on the embedded corpus from the same values: once with plain `jax.grad`, once with
every operation exchanged for one of ours by `as_custom_vjp`, still under `jax.grad`, flax and optax. Losses and
parameters are compared after every step, in float64.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from windownet import config
from windownet.autodiff import ops
from windownet.autodiff.bridge import as_custom_vjp
from windownet.data.batches import Batch
from windownet.model import reference
from windownet.train.prepare import prepare

embed, affine, concatenate, reshape, softmax_cross_entropy = (
    as_custom_vjp(op) for op in (ops.embed, ops.affine, ops.concatenate, ops.reshape, ops.softmax_cross_entropy)
)


def bridged_loss(module: reference.Reference, batch: Batch) -> jax.Array:
    """The reference's loss with its parameters, but our ops between them."""
    words = embed(module.words.embedding[...], jnp.asarray(batch.rows)[batch.words])
    x = concatenate(words, embed(module.capitals.embedding[...], batch.capitals), axis=2)
    x = reshape(x, shape=(x.shape[0], x.shape[1] * x.shape[2]))
    nonlinearity = as_custom_vjp(ops.OPS[module.network.nonlinearity])
    for layer in module.hidden:
        x = nonlinearity(affine(x, layer.kernel[...], _bias(layer)))
    logits = affine(x, module.output.kernel[...], _bias(module.output))
    return softmax_cross_entropy(logits, batch.tags, batch.mask)


def _bias(layer: nnx.Linear) -> jax.Array:
    assert layer.bias is not None
    return layer.bias[...]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="steps of Adam, at most an epoch's; by default 100")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    prepared = prepare(config.parse({"data": {"source": "demo"}, "train": {"steps_per_call": 1}}, "this script"))
    network, optimizer = prepared.network, optax.adam(1e-3)

    def by_jax(params: Any, batch: Batch) -> jax.Array:
        return reference.loss(network, params, batch)

    def by_our_rules(params: Any, batch: Batch) -> jax.Array:
        return bridged_loss(reference.from_params(network, params), batch)

    def trainer(loss: Any) -> Any:
        @jax.jit
        def step(params: Any, state: Any, batch: Batch) -> Any:
            value, gradient = jax.value_and_grad(loss)(params, batch)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, value

        return step

    params = network.init(jax.random.key(0), jnp.float64)
    runs = {
        name: (trainer(loss), params, optimizer.init(params))
        for name, loss in (("jax.grad", by_jax), ("our rules", by_our_rules))
    }
    worst_loss = worst_parameter = 0.0
    first = last = float("nan")
    for n, stack in zip(range(args.steps), prepared.epochs.epoch(1), strict=False):
        batch = Batch(*(array[0] for array in stack))
        values = {}
        for name, (step, p, state) in runs.items():
            p, state, value = step(p, state, batch)
            runs[name], values[name] = (step, p, state), float(value)
        last = values["our rules"]
        first = last if n == 0 else first
        worst_loss = max(worst_loss, abs(values["jax.grad"] - last))
        a, b = (jax.tree.leaves(p) for _, p, _ in runs.values())
        worst_parameter = max(worst_parameter, *(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)))
    equal = worst_loss < 1e-10 and worst_parameter < 1e-8
    print(f"{args.steps} steps of Adam, loss {first:.4f} -> {last:.4f}")
    print(f"largest difference of a loss {worst_loss:.1e}, of a parameter {worst_parameter:.1e}")
    print("verdict: step by step equal" if equal else "verdict: NOT equal")
    raise SystemExit(0 if equal else 1)


if __name__ == "__main__":
    main()
