"""What a gradient check works on: a function with flat lists of float64 leaves and outputs, and its rule."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Arrays: TypeAlias = Sequence[Any]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function, the rule for its gradient, and where they are to be compared.

    Attributes:
      subject: what messages call the function.
      names: what they call each leaf.
      leaves: the floating inputs, in float64.
      dtypes: the dtypes that they came in.
      others: the arrays that are not differentiated (ids, masks, random keys).
      forward: `forward(leaves, others)`, the list of floating outputs.
      hand: `hand(leaves, others, g)`, the rule on trial: the list of the leaves' cotangents for the outputs' `g`.
      reference: the same by jax; None stands for `jax.vjp` of `forward`.
    """

    subject: str
    names: tuple[str, ...]
    leaves: tuple[Floats, ...]
    dtypes: tuple[str, ...]
    others: tuple[Any, ...]
    forward: Callable[[Arrays, Arrays], list[Any]]
    hand: Callable[[Arrays, Arrays, Arrays], list[Any]]
    reference: Callable[[Arrays, Arrays, Arrays], list[Any]] | None = None

    def witness(self, leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        """The leaves' cotangents as jax derives them."""
        if self.reference is not None:
            return self.reference(leaves, others, g)
        _, pull_back = jax.vjp(lambda *floats: self.forward(floats, others), *leaves)
        return list(pull_back(list(g)))

    def output_types(self) -> list[Any]:
        """Shape and dtype of every output, without computing it."""
        return list(jax.eval_shape(self.forward, list(self.leaves), list(self.others)))


@contextlib.contextmanager
def float64_on_host() -> Iterator[None]:
    """64-bit types on the CPU, whatever the caller's settings; they are as before at the end."""
    with contextlib.ExitStack() as stack:
        # Non-finite values are put in on purpose, so nothing may stop at them.
        for setting in (jax.enable_x64(True), jax.debug_nans(False), jax.debug_infs(False)):
            stack.enter_context(setting)
        if jax.default_backend() != "cpu" and (cpu := _cpu()) is not None:
            stack.enter_context(jax.default_device(cpu))
        yield


def is_floating(x: Any) -> bool:
    """Whether x is an array or number of a floating dtype, and so has a gradient."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


def is_array(x: Any) -> bool:
    """Whether x is an array of numpy or jax; Python's numbers are not."""
    return isinstance(x, np.ndarray | np.generic | jax.Array)


def to_float64(x: Any) -> Floats:
    """A floating array on the host in float64; exact, for no floating dtype of jax is wider."""
    return np.array(np.asarray(x), dtype=np.float64)


def to_host(x: Any) -> Any:
    """An array that is not floating, on the host; random keys stay what they are."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        cpu = _cpu()
        return x if cpu is None else jax.device_put(x, cpu)
    return np.asarray(x)


def flat(arrays: Sequence[Floats]) -> Floats:
    """Arrays as one vector, in row-major order one after the other."""
    return np.concatenate([np.zeros(0), *(np.ravel(x) for x in arrays)])


def cast(arrays: Arrays, dtype: Any) -> list[Any]:
    """Floating arrays in another floating dtype."""
    return [jnp.asarray(x).astype(dtype) for x in arrays]


def type_of(x: Any) -> str:
    """`float32[4,3]` of an array, the type's name of anything else."""
    return f"{x.dtype}[{','.join(map(str, x.shape))}]" if hasattr(x, "shape") else type(x).__name__


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        # A process that was told to use one accelerator only has no CPU device; then the accelerator does it.
        return None
