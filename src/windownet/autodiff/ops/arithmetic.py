"""Arithmetic: elementwise ops, reductions, products of matrices.

Inputs of an elementwise op have equal shapes and dtypes. Nothing broadcasts in silence: what does says so in its name
(the bias inside `affine`), so a cotangent of the wrong shape can never be summed into the right one.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Node, Op, primal

# Up to this many columns, XLA takes up to three times as long on a CPU for a product as for its transpose.
_NARROW = 32


def _add(x: jax.Array, y: jax.Array) -> jax.Array:
    """x + y, elementwise. Its rule distributes: both inputs get the whole upstream cotangent."""
    _require_equal("add", x, y)
    return x + y


def _add_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return g, g


add = Op("add", _add, _add_vjp)


def _subtract(x: jax.Array, y: jax.Array) -> jax.Array:
    """x - y, elementwise."""
    _require_equal("subtract", x, y)
    return x - y


def _subtract_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return g, -g


subtract = Op("subtract", _subtract, _subtract_vjp)


def _multiply(x: jax.Array, y: jax.Array) -> jax.Array:
    """x * y, elementwise. Its rule switches: each input's cotangent is scaled by the other."""
    _require_equal("multiply", x, y)
    return x * y


def _multiply_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return g * y, g * x


multiply = Op("multiply", _multiply, _multiply_vjp)


def _divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """x / y, elementwise."""
    _require_equal("divide", x, y)
    return x / y


def _divide_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return g / y, -g * out / y


divide = Op("divide", _divide, _divide_vjp)


def _negate(x: jax.Array) -> jax.Array:
    """-x."""
    return -x


def _negate_vjp(g: Cotangent, out: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (-g,)


negate = Op("negate", _negate, _negate_vjp)


def _maximum(x: jax.Array, y: jax.Array) -> jax.Array:
    """The larger of x and y, elementwise. Its rule routes the cotangent to the larger; on a tie, half each, as jax."""
    _require_equal("maximum", x, y)
    return jnp.maximum(x, y)


def _maximum_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return _route(g, x > y, x == y, out)


maximum = Op("maximum", _maximum, _maximum_vjp)


def _minimum(x: jax.Array, y: jax.Array) -> jax.Array:
    """The smaller of x and y, elementwise. Its rule routes the cotangent to the smaller; on a tie half to each."""
    _require_equal("minimum", x, y)
    return jnp.minimum(x, y)


def _minimum_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return _route(g, x < y, x == y, out)


minimum = Op("minimum", _minimum, _minimum_vjp)


def _exp(x: jax.Array) -> jax.Array:
    """e to the x."""
    return jnp.exp(x)


def _exp_vjp(g: Cotangent, out: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * out,)


exp = Op("exp", _exp, _exp_vjp)


def _log(x: jax.Array) -> jax.Array:
    """Natural logarithm."""
    return jnp.log(x)


def _log_vjp(g: Cotangent, out: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g / x,)


log = Op("log", _log, _log_vjp)


def _sqrt(x: jax.Array) -> jax.Array:
    """Square root; its slope at 0 is infinite."""
    return jnp.sqrt(x)


def _sqrt_vjp(g: Cotangent, out: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * 0.5 / out,)


sqrt = Op("sqrt", _sqrt, _sqrt_vjp)


def _square(x: jax.Array) -> jax.Array:
    """x squared."""
    return x * x


def _square_vjp(g: Cotangent, out: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * 2 * x,)


square = Op("square", _square, _square_vjp)


def _sum(x: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Sum over `axis` (all axes by default), which is dropped. Its rule copies the cotangent to every summand."""
    return jnp.sum(x, axis)


def _sum_vjp(
    g: Cotangent, out: jax.Array, x: jax.Array, *, axis: int | tuple[int, ...] | None = None
) -> tuple[Cotangent]:
    return (_spread(g, x, axis),)


sum = Op("sum", _sum, _sum_vjp)


def _mean(x: jax.Array, *, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Mean over `axis` (all axes by default), which is dropped."""
    return jnp.mean(x, axis)


def _mean_vjp(
    g: Cotangent, out: jax.Array, x: jax.Array, *, axis: int | tuple[int, ...] | None = None
) -> tuple[Cotangent]:
    return (_spread(g / (x.size // max(out.size, 1)), x, axis),)


mean = Op("mean", _mean, _mean_vjp)


def _matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    """Matrix product [..., M, K] @ [..., K, N] -> [..., M, N]; leading axes are equal."""
    if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        raise TypeError(f"matmul: required x [..., M, K] and y [..., K, N], got {list(x.shape)} and {list(y.shape)}")
    return x @ y


def _matmul_vjp(g: Cotangent, out: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Cotangent, Cotangent]:
    return g @ y.mT, x.mT @ g


matmul = Op("matmul", _matmul, _matmul_vjp)


def _affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """x @ w + b: x [..., I], w [I, O], b [O] -> [..., O]; the bias is the same for every leading index."""
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[0] or b.shape != w.shape[1:]:
        raise TypeError(
            f"affine: required x [..., I], w [I, O] and b [O], got {list(x.shape)}, {list(w.shape)} and {list(b.shape)}"
        )
    return x @ w + jnp.broadcast_to(b, (*x.shape[:-1], b.size))


def _affine_vjp(
    g: Cotangent, out: jax.Array, x: jax.Array, w: jax.Array, b: jax.Array
) -> tuple[Cotangent, Cotangent, Cotangent]:
    # One row a leading index: w and b served them all, so their cotangents are summed over the rows.
    leading = math.prod(x.shape[:-1])
    rows, upstream = x.reshape(leading, w.shape[0]), g.reshape(leading, w.shape[1])
    if w.shape[1] <= _NARROW:
        # The barrier keeps XLA from turning it back into the product that it stands for. It is flat, as XLA fails over
        # one of batches of matrices, which `vmap` makes.
        flat = jax.lax.optimization_barrier((upstream.T @ rows).reshape(-1))
        return g @ w.T, flat.reshape(w.shape[::-1]).T, upstream.sum(0)
    return g @ w.T, rows.T @ upstream, upstream.sum(0)


affine = Op("affine", _affine, _affine_vjp)


def _require_equal(name: str, x: Any, y: Any) -> None:
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.shape != y.shape or x.dtype != y.dtype:
        raise TypeError(
            f"{name}: required two arrays of one shape and dtype, got {x.dtype}{list(x.shape)} and "
            f"{y.dtype}{list(y.shape)}; ops do not broadcast"
        )


def _route(g: Cotangent, first: jax.Array, tie: jax.Array, out: jax.Array) -> tuple[Cotangent, Cotangent]:
    share = jnp.where(tie, jnp.full_like(g, 0.5), first.astype(g.dtype))
    # A NaN is neither larger nor smaller nor equal: without this line it would get a zero and vanish.
    share = jnp.where(jnp.isnan(out), out, share)
    return g * share, g * (1 - share)


def _spread(g: Cotangent, x: jax.Array, axis: int | tuple[int, ...] | None) -> Cotangent:
    summed = range(x.ndim) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    return jnp.broadcast_to(jnp.expand_dims(g, tuple(summed)), x.shape)


def _operator(op: Op, swapped: bool = False) -> Callable[[Node, Any], Any]:
    def method(self: Node, other: Any) -> Any:
        if isinstance(other, Real):
            # A number is a constant of the node's own shape: it has no cotangent, so nothing need be summed back.
            other = jnp.full_like(primal(self), float(other))
        return op(other, self) if swapped else op(self, other)

    return method


# Operators are ops too, so they are given to Node here: graph.py knows of no op.
for _name, _op in {"add": add, "sub": subtract, "mul": multiply, "truediv": divide}.items():
    setattr(Node, f"__{_name}__", _operator(_op))
    setattr(Node, f"__r{_name}__", _operator(_op, swapped=True))
setattr(Node, "__matmul__", lambda self, other: matmul(self, other))  # noqa: B010
setattr(Node, "__rmatmul__", lambda self, other: matmul(other, self))  # noqa: B010
setattr(Node, "__neg__", lambda self: negate(self))  # noqa: B010
# An array of numpy's on the left leaves the operator to the node; it would make an array of one node an element.
setattr(Node, "__array_ufunc__", None)  # noqa: B010
