"""Our rules for who trains with `jax.grad`: an op as a `jax.custom_vjp` function."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from windownet.autodiff.graph import Op


def as_custom_vjp(op: Op) -> Callable[..., jax.Array]:
    """The op as a plain jax function that `jax.grad` differentiates by our rule.

    It is called like the op, `f(*inputs, **static)`, where no keyword has a gradient, and composes with `jit`, `vmap`,
    `lax.scan`, flax and optax; as any `jax.custom_vjp` function it has no forward mode.

    Raises:
      TypeError: `op` is not an op; when it is called, an input comes as a keyword.
    """
    if not isinstance(op, Op):
        raise TypeError(f"as_custom_vjp: an Op is required, got {type(op).__name__}")
    parameters = inspect.signature(op.forward).parameters.values()
    positional = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}

    @functools.wraps(op.forward)
    def call(*inputs: Any, **static: Any) -> jax.Array:
        if named := sorted(positional & set(static)):
            raise TypeError(f"op {op.name!r}: required inputs by position, got {', '.join(named)} by name")
        # A keyword that is an array of a program must come in as an input does: what a function closes over, jax does
        # not carry from its forward to its backward pass.
        arrays = {name: x for name, x in static.items() if isinstance(x, jax.Array)}
        fixed = {name: x for name, x in static.items() if name not in arrays}

        def forward(arrays: dict[str, jax.Array], *inputs: Any) -> Any:
            return op.forward(*inputs, **fixed, **arrays)

        def keep(*given: Any) -> tuple[Any, Any]:
            y = forward(*given)
            return y, (y, given)

        def pull_back(kept: Any, g: Any) -> tuple[Any, ...]:
            y, (arrays, *inputs) = kept
            return None, *op.cotangents(g, y, *inputs, **fixed, **arrays)

        f = jax.custom_vjp(forward)
        f.defvjp(keep, pull_back)
        return f(arrays, *inputs)  # type: ignore[no-any-return]

    return call
