"""What a call of the compiled step tells of gradients, updates and hidden units, for `log.statistics`."""

from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff import RowSparse, ops, vjp
from windownet.data.batches import Batch
from windownet.model.network import Params, WindowNetwork

# A nonlinearity is flat where its slope is under this share of its steepest, which only the sigmoid has not at 1.
_FLAT = 0.05
_STEEPEST = {"sigmoid": 0.25}


def norms(name: str, tree: Any) -> dict[str, jax.Array]:
    """L2 norms of the arrays of each group of parameters: `NAME/words`, `NAME/hidden.0`, `NAME/output`."""
    squares: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=lambda x: isinstance(x, RowSparse)):
        group = jax.tree_util.keystr(path[:-1] or path, simple=True, separator=".")
        squares[group] = squares.get(group, 0.0) + _squares(leaf)
    return {f"{name}/{group}": jnp.sqrt(total) for group, total in squares.items()}


def units(network: WindowNetwork, params: Params, batch: Batch) -> dict[str, jax.Array]:
    """Shares of hidden units that are dead, flat on every window of the batch, and of values that are saturated."""
    flat = [_flat(network.nonlinearity, x, layer) for x, layer in network.pre_activations(params, batch)]
    if not flat:
        return {}
    everywhere = jnp.concatenate(flat, axis=1)
    windows = batch.mask[:, None]
    dead = jnp.all(everywhere | ~windows, axis=0)
    saturated = jnp.sum(everywhere & windows) / (jnp.sum(windows) * everywhere.shape[1])
    return {"units/dead": jnp.mean(dead, dtype=jnp.float32), "units/saturated": saturated}


def _flat(nonlinearity: str, x: jax.Array, layer: Any) -> jax.Array:
    op = ops.OPS[nonlinearity]
    _, pull = vjp(lambda z: op(z, layer["slope"]) if "slope" in layer else op(z), x)
    (slope,) = pull(jnp.ones_like(x))
    return jnp.abs(slope) < _FLAT * _STEEPEST.get(nonlinearity, 1.0)


def _squares(leaf: Any) -> jax.Array:
    if isinstance(leaf, RowSparse):
        # Slots that only fill the rows up hold nothing that counts.
        leaf = jnp.where((leaf.rows < leaf.height)[:, None], leaf.values, 0)
    # XLA's CPU runs this much faster than a sum of squares.
    return jnp.vdot(leaf, leaf)


def not_finite(params: Any) -> list[str]:
    """Names of the parameters that hold NaN or infinity."""
    finite = jax.device_get(jax.tree.map(lambda x: jnp.isfinite(x).all(), params))
    paths = jax.tree.leaves_with_path(finite)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, holds in paths if not holds]
