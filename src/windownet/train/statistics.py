"""What a call of the compiled step tells of gradients, updates and hidden units, for `log.statistics`."""

from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff import RowSparse, ops, vjp
from windownet.autodiff.rows import is_row_sparse
from windownet.data.batches import Batch
from windownet.model.network import Params, WindowNetwork

# The steepest slope of the nonlinearities for which it is not 1.
STEEPEST = {"sigmoid": 0.25, "silu": 1.09984, "gelu": 1.12891, "gelu_tanh": 1.12899}


def norms(name: str, tree: Any) -> dict[str, jax.Array]:
    """L2 norms of the arrays of each group of parameters: `NAME/words`, `NAME/hidden.0`, `NAME/output`."""
    squares: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree, is_leaf=is_row_sparse):
        group = jax.tree_util.keystr(path[:-1] or path, simple=True, separator=".")
        squares[group] = squares.get(group, 0.0) + _squares(leaf)
    return {f"{name}/{group}": jnp.sqrt(total) for group, total in squares.items()}


def units(network: WindowNetwork, params: Params, batch: Batch) -> dict[str, jax.Array]:
    """Shares of hidden units that are dead on the batch's windows, and of their values that are saturated."""
    slopes = [_slopes(network.nonlinearity, x, layer) for x, layer in network.pre_activations(params, batch)]
    if not slopes:
        return {}
    everywhere, windows = jnp.concatenate(slopes, axis=1), batch.mask[:, None]
    found = jnp.sum(saturated(network.nonlinearity, everywhere) & windows)
    return {
        "units/dead": jnp.mean(dead(jnp.where(windows, everywhere, 0)), dtype=jnp.float32),
        "units/saturated": found / (jnp.sum(windows) * everywhere.shape[1]),
    }


def dead(slopes: Any) -> Any:
    """Which units are dead, bool [H]: their slope, of [B, H], is 0 on all windows, so that no gradient reaches them."""
    return (slopes == 0).all(axis=0)


def saturated(nonlinearity: str, slopes: Any) -> Any:
    """Where a nonlinearity is saturated, bool [B, H]: its slope is under a tenth of the steepest that it has."""
    return abs(slopes) < STEEPEST.get(nonlinearity, 1.0) / 10


def _slopes(nonlinearity: str, x: jax.Array, layer: Any) -> jax.Array:
    op = ops.OPS[nonlinearity]
    _, pull = vjp(lambda z: op(z, layer["slope"]) if "slope" in layer else op(z), x)
    (slope,) = pull(jnp.ones_like(x))
    return jnp.asarray(slope)


def _squares(leaf: Any) -> jax.Array:
    if isinstance(leaf, RowSparse):
        merged = leaf.merged()
        leaf = jnp.where(merged.filled()[:, None], merged.values, 0)
    # XLA's CPU runs this much faster than a sum of squares.
    return jnp.vdot(leaf, leaf)


def not_finite(params: Any) -> list[str]:
    """Names of the parameters that hold NaN or infinity."""
    finite = jax.device_get(jax.tree.map(lambda x: jnp.isfinite(x).all(), params))
    paths = jax.tree.leaves_with_path(finite)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, holds in paths if not holds]
