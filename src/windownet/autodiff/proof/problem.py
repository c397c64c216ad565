"""What a gradient check works on: a function with flat lists of float64 leaves and outputs, and its rule."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Arrays: TypeAlias = Sequence[Any]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
EPSILON = float(np.finfo(np.float64).eps)


class Arguments:
    """Arguments taken apart into leaves, other arrays and the rest, and put together again from new arrays.

    Args:
      named: name, pytree and whether it is differentiated, of every argument.

    Attributes:
      names, leaves, dtypes: the differentiated floating arrays, in float64, and the dtypes that they came in.
      others: the other arrays; floating ones in float64.
    """

    def __init__(self, named: Sequence[tuple[str, Any, bool]]) -> None:
        self._flat, self._treedef = jax.tree.flatten([tree for _, tree, _ in named])
        self._leaf_at: list[int] = []
        self._other_at: list[int] = []
        self.names: list[str] = []
        paths = [(name, path, wanted) for name, tree, wanted in named for path, _ in jax.tree.leaves_with_path(tree)]
        for i, (x, (name, path, wanted)) in enumerate(zip(self._flat, paths, strict=True)):
            if wanted and is_floating(x):
                self._leaf_at.append(i)
                inside = jax.tree_util.keystr(path, simple=True, separator=".")
                self.names.append(".".join(part for part in (name, inside) if part))
            elif is_array(x):
                self._other_at.append(i)
        self.leaves = [to_float64(self._flat[i]) for i in self._leaf_at]
        self.dtypes = [str(jnp.result_type(self._flat[i])) for i in self._leaf_at]
        others = [self._flat[i] for i in self._other_at]
        self.others = [to_float64(x) if is_floating(x) else to_host(x) for x in others]

    def filled(self, leaves: Arrays, others: Arrays) -> list[Any]:
        """The arguments with other arrays in their places."""
        flat = list(self._flat)
        for i, x in (*zip(self._leaf_at, leaves, strict=True), *zip(self._other_at, others, strict=True)):
            flat[i] = x
        return list(jax.tree.unflatten(self._treedef, flat))

    def leaves_of(self, cotangents: Sequence[Any]) -> list[Any]:
        """The leaves' cotangents among those of the whole flat arguments."""
        return [cotangents[i] for i in self._leaf_at]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function, the rule for its gradient, and where they are to be compared.

    Attributes:
      subject: what messages call the function.
      arguments: the leaves to differentiate by, and the other arrays.
      forward: `forward(leaves, others)`, the list of floating outputs.
      hand: `hand(leaves, others, g)`, the rule on trial: the list of the leaves' cotangents for the outputs' `g`.
      reference: the same by jax; None stands for `jax.vjp` of `forward`.
      value: `value(leaves, others)`, the outputs as the other ways compute them; None where there is no other way.
      record: `record(leaves, others)`, the recorded output of a model in our ops; None where nothing is recorded.
      op: the name of the op whose rule it is, if it is one.
      strict: whether the rule may lose no NaN even where jax's own derivative does, as the package's ops may not.
    """

    subject: str
    arguments: Arguments
    forward: Callable[[Arrays, Arrays], list[Any]]
    hand: Callable[[Arrays, Arrays, Arrays], list[Any]]
    reference: Callable[[Arrays, Arrays, Arrays], list[Any]] | None = None
    value: Callable[[Arrays, Arrays], list[Any]] | None = None
    record: Callable[[Arrays, Arrays], Any] | None = None
    op: str = ""
    strict: bool = False

    @property
    def names(self) -> list[str]:
        """The leaves' names."""
        return self.arguments.names

    @property
    def leaves(self) -> list[Floats]:
        """The leaves, in float64."""
        return self.arguments.leaves

    @property
    def others(self) -> list[Any]:
        """The arrays that are not differentiated by."""
        return self.arguments.others

    def witness(self, leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        """The leaves' cotangents as jax derives them."""
        if self.reference is not None:
            return self.reference(leaves, others, g)
        _, pull_back = jax.vjp(lambda *floats: self.forward(floats, others), *leaves)
        return list(pull_back(list(g)))

    def output_types(self) -> list[Any]:
        """Shape and dtype of every output, without computing it."""
        return list(jax.eval_shape(self.forward, self.leaves, self.others))


@contextlib.contextmanager
def float64_on_host() -> Iterator[None]:
    """64-bit types on the CPU, whatever the caller's settings; they are as before at the end."""
    with contextlib.ExitStack() as stack:
        # Non-finite values are put in on purpose and numbers go to and fro, so nothing may stop at them; and a rule
        # that breaks under compilation has to be compiled.
        for setting in (
            jax.enable_x64(True),
            jax.debug_nans(False),
            jax.debug_infs(False),
            jax.transfer_guard("allow"),
            jax.disable_jit(False),
        ):
            stack.enter_context(setting)
        if jax.default_backend() != "cpu" and (cpu := _cpu()) is not None:
            stack.enter_context(jax.default_device(cpu))
        yield


def is_floating(x: Any) -> bool:
    """Whether x is an array or number of a floating dtype, and so has a gradient."""
    return isinstance(x, float) or (is_array(x) and bool(jnp.issubdtype(x.dtype, jnp.floating)))


def is_complex(x: Any) -> bool:
    """Whether x is an array or number of a complex dtype, whose derivative nothing here judges."""
    return isinstance(x, complex) or (is_array(x) and bool(jnp.issubdtype(x.dtype, jnp.complexfloating)))


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


def type_of(x: Any) -> str:
    """`float32[4,3]` of an array, the type's name of anything else."""
    if not hasattr(x, "shape"):
        return type(x).__name__
    # numpy has no name for the type of what is no cotangent, and prints its fields.
    dtype = "float0" if x.dtype == jax.dtypes.float0 else x.dtype
    return f"{dtype}[{','.join(map(str, x.shape))}]"


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        # A process that was told to use one accelerator only has no CPU device; then the accelerator does it.
        return None


def largest(x: Floats) -> float:
    """The largest absolute value that is finite; 0 where there is none."""
    return float(np.abs(x[np.isfinite(x)]).max(initial=0))


def jittered(arrays: Sequence[Floats], seed: int) -> list[Floats]:
    """Arrays whose every number has moved by one rounding, up or down."""
    rng = np.random.default_rng(seed)
    return [x * (1 + EPSILON * rng.choice([-1, 1], x.shape)) for x in arrays]


def jit_quickly(f: Callable[..., Any]) -> Any:
    """`jax.jit` for what runs a few times: XLA compiles it several times faster, and leaves it slower."""
    return jax.jit(f, compiler_options=_quick_options())


@functools.cache
def _quick_options() -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in (("xla_backend_optimization_level", 0), ("xla_cpu_use_fusion_emitters", False)):
        try:
            jax.jit(jnp.negative, compiler_options={name: value})(1.0)
        except jax.errors.JaxRuntimeError:
            # XLA's options come and go; without this one it only takes longer.
            continue
        options[name] = value
    return options


def evaluate(f: Callable[..., Any], *args: Any) -> list[Floats]:
    """Call a function that returns a list of floating arrays, and bring them to the host in float64."""
    return [to_float64(x) for x in f(*args)]


def cast_floating(arrays: Arrays, dtype: Any) -> list[Any]:
    """Floating arrays in another floating dtype, on the host, too large ones infinite; all others as they are."""
    with np.errstate(over="ignore"):
        return [np.asarray(x).astype(dtype) if is_floating(x) else x for x in arrays]


def place_of(i: int, shape: tuple[int, ...]) -> str:
    """The coordinate of flat position `i`: `[3, 17]`."""
    return f"[{', '.join(str(int(n)) for n in np.unravel_index(i, shape))}]"
