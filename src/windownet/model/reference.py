"""The same network in flax: the executable specification of `network.py`.

It shares no rule with our ops, only the drawing of dropout's masks: same parameters in, same logits and same
`jax.grad` out.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from windownet.autodiff.ops import draw_mask
from windownet.autodiff.scalars import Scalar, is_zero, like
from windownet.data.batches import Batch
from windownet.model.network import Params, WindowNetwork

_NONLINEARITIES = {
    "sigmoid": nnx.sigmoid,
    "tanh": nnx.tanh,
    "hard_tanh": nnx.hard_tanh,
    "relu": nnx.relu,
    "leaky_relu": nnx.leaky_relu,
    "elu": nnx.elu,
    "silu": nnx.silu,
    "gelu": lambda x: nnx.gelu(x, approximate=False),
    "gelu_tanh": lambda x: nnx.gelu(x, approximate=True),
    "softplus": nnx.softplus,
}


class PReLU(nnx.Module):
    """x where x >= 0, a learned slope [H] times x elsewhere."""

    def __init__(self, units: int, dtype: Any) -> None:
        self.slope = nnx.Param(jnp.full(units, 0.25, dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply to x [B, H]."""
        return jnp.where(x >= 0, x, self.slope[...][None, :] * x)


class Reference(nnx.Module):
    """The window network as a flax module; called with word rows [B, W] and capitalization classes [B, W]."""

    def __init__(self, network: WindowNetwork, rngs: nnx.Rngs, dtype: Any = jnp.float32) -> None:
        self.network = network
        self.words = nnx.Embed(network.vocabulary, network.word_width, param_dtype=dtype, rngs=rngs)
        self.capitals = nnx.Embed(network.capitalizations, network.capitalization_width, param_dtype=dtype, rngs=rngs)
        width = network.window * (network.word_width + network.capitalization_width)
        hidden, slopes = [], []
        for units in network.hidden:
            hidden.append(nnx.Linear(width, units, param_dtype=dtype, rngs=rngs))
            if network.nonlinearity == "prelu":
                slopes.append(PReLU(units, dtype))
            width = units
        self.hidden = nnx.List(hidden)
        self.slopes = nnx.List(slopes)
        self.output = nnx.Linear(width, network.tags, param_dtype=dtype, rngs=rngs)

    def __call__(self, words: jax.Array, capitals: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits [B, L]; `key` turns dropout on, with the masks that the network draws from it."""
        keys = [None] * (1 + len(self.hidden)) if key is None else list(jax.random.split(key, 1 + len(self.hidden)))
        x = jnp.concatenate([self.words(words), self.capitals(capitals)], axis=-1)
        x = _dropout(x.reshape(x.shape[0], -1), keys[0], self.network.input_dropout)
        for n, layer in enumerate(self.hidden):
            x = layer(x)
            x = self.slopes[n](x) if self.slopes else _NONLINEARITIES[self.network.nonlinearity](x)
            x = _dropout(x, keys[1 + n], self.network.hidden_dropout)
        return self.output(x)


def from_params(network: WindowNetwork, params: Params) -> Reference:
    """A reference module that holds the network's parameters."""
    dtype = params["words"].dtype
    module = nnx.eval_shape(lambda: Reference(network, nnx.Rngs(0), dtype))
    module.words.embedding = nnx.Param(params["words"])
    module.capitals.embedding = nnx.Param(params["capitals"])
    for n, layer in enumerate(params["hidden"]):
        module.hidden[n].kernel, module.hidden[n].bias = nnx.Param(layer["w"]), nnx.Param(layer["b"])
        if "slope" in layer:
            module.slopes[n].slope = nnx.Param(layer["slope"])
    module.output.kernel = nnx.Param(params["output"]["w"])
    module.output.bias = nnx.Param(params["output"]["b"])
    return module


def loss_of(module: Reference, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """Mean loss over the windows that count, a scalar, and the L2 penalty of the layers' weights."""
    logits = module(jnp.asarray(batch.rows)[batch.words], batch.capitals, key)
    if module.network.margin:
        losses = optax.losses.multiclass_hinge_loss(logits, batch.tags)
    else:
        one_hot = jax.nn.one_hot(batch.tags, logits.shape[-1], dtype=logits.dtype)
        losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, module.network.label_smoothing))
    loss = jnp.mean(losses, where=batch.mask)
    layers = [*module.hidden, module.output]
    return loss + module.network.l2 / 2 * sum(jnp.sum(layer.kernel[...] ** 2) for layer in layers)


def loss(network: WindowNetwork, params: Params, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """`WindowNetwork.loss` by flax, as a function of the same parameters; for `jax.grad`."""
    return loss_of(from_params(network, params), batch, key)


def _dropout(x: jax.Array, key: Any, rate: Scalar) -> jax.Array:
    if is_zero(rate) or key is None:
        return x
    kept = draw_mask(key, x.shape, rate)
    return jnp.where(kept, x / (1 - like(rate, x)), jnp.zeros_like(x))
