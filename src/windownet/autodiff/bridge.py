"""Our rules for who trains with `jax.grad`: an op as a `jax.custom_vjp` function."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from windownet.autodiff.graph import Op


def as_custom_vjp(op: Op) -> Callable[..., jax.Array]:
    """The op as a plain jax function that `jax.grad` differentiates by our rule.

    It is called like the op, `f(*inputs, **static)`, and composes with `jit`, `vmap`, `lax.scan`, flax and optax; as
    any `jax.custom_vjp` function it has no forward mode.

    Raises:
      TypeError: `op` is not an op.
    """
    if not isinstance(op, Op):
        raise TypeError(f"as_custom_vjp: an Op is required, got {type(op).__name__}")

    @functools.wraps(op.forward)
    def call(*inputs: Any, **static: Any) -> jax.Array:
        forward = functools.partial(op.forward, **static)
        f = jax.custom_vjp(forward)

        def keep(*inputs: Any) -> tuple[Any, tuple[Any, tuple[Any, ...]]]:
            y = forward(*inputs)
            return y, (y, inputs)

        def pull_back(kept: tuple[Any, tuple[Any, ...]], g: Any) -> tuple[Any, ...]:
            y, inputs = kept
            return tuple(op.cotangents(g, y, *inputs, **static))

        f.defvjp(keep, pull_back)
        return f(*inputs)  # type: ignore[no-any-return]

    return call
