"""The reverse mode: ops that carry their rule, recorded values, and one walk back.

An `Op` called on recorded values appends a `Node`; `backward` visits the nodes once in reverse topological order and
hands each input *downstream = upstream x local*, summed wherever a value fanned out. Everything here runs while jax
traces, so under `jax.jit` none of this Python is left in the compiled program.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from windownet.autodiff.rows import RowSparse, is_row_sparse

Cotangent: TypeAlias = Any
_AGES = itertools.count()


@dataclasses.dataclass(frozen=True, eq=False)
class Op:
    """A forward function and its hand-written vector-Jacobian product; there is none without its rule.

    Attributes:
      name: what messages and the op table call it.
      forward: `forward(*inputs, **static) -> y`; arrays are positional, everything else is a keyword.
      vjp: `vjp(g, y, *inputs, **static)`, a tuple with one cotangent an input: an array of that input's shape and
        dtype, or None for an input that has none (integer ids, boolean masks, random keys). `g` and `y` are the
        upstream cotangent and the forward value, of equal shape and dtype.
    """

    name: str
    forward: Callable[..., Any]
    vjp: Callable[..., tuple[Cotangent | None, ...]]

    def __post_init__(self) -> None:
        for part in ("forward", "vjp"):
            if not callable(getattr(self, part)):
                raise TypeError(f"op {self.name!r}: {part} must be a function, got {getattr(self, part)!r}")
        object.__setattr__(self, "__doc__", self.forward.__doc__)

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        """Apply the op: an array of plain inputs, a `Node` as soon as one input is recorded."""
        value = self.forward(*map(primal, inputs), **static)
        if any(isinstance(x, Node) for x in inputs):
            return Node(value, self, inputs, static)
        return value

    def cotangents(self, g: Any, y: Any, *inputs: Any, **static: Any) -> Any:
        """What `vjp` returns, with every `RowSparse` as the array that it stands for."""
        return jax.tree.map(_dense, self.vjp(g, y, *inputs, **static), is_leaf=is_row_sparse)

    def describe(self, index: int, inputs: Sequence[Any]) -> str:
        """Name input `index` the way the op's forward does, with its type: `x float32[4,3]`."""
        parameters = list(inspect.signature(self.forward).parameters.values())
        variadic = [n for n, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL]
        if variadic and index >= variadic[0]:
            name = f"{parameters[variadic[0]].name}[{index - variadic[0]}]"
        else:
            name = parameters[index].name
        return f"{name} {_type_of(primal(inputs[index]))}"


class Node:
    """A recorded value: which op made it, from which inputs, with which static arguments.

    Attributes:
      value: the array (or tracer) itself.
      op: the op that made it; None for a leaf.
      inputs: what the op was given, nodes and plain arrays.
      static: the op's keyword arguments.
      age: a number that rises from node to node, in the order that they were made.
    """

    __slots__ = ("age", "inputs", "op", "static", "value")

    def __init__(
        self, value: Any, op: Op | None = None, inputs: tuple[Any, ...] = (), static: Mapping[str, Any] | None = None
    ) -> None:
        self.value = value
        self.op = op
        self.inputs = inputs
        self.static = static or {}
        self.age = next(_AGES)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        """Dtype of the value."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the value."""
        return len(self.value.shape)

    def _refuse(self, *others: Any, **options: Any) -> Any:
        raise TypeError(
            f"{self!r}: required one of windownet's ops, which have rules, such as ops.matmul, ops.add or "
            "ops.take_rows, got what has none; write this part in ops, or differentiate it by jax.grad, with "
            "as_custom_vjp for the rules"
        )

    __array__ = __getitem__ = __iter__ = __len__ = __abs__ = __pow__ = __rpow__ = _refuse

    def __repr__(self) -> str:
        return f"Node({self.op.name if self.op else 'leaf'}, {_type_of(self.value)})"

    # In an expression a node is its value; in a set or as a key it is itself.
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: Any) -> Any:
        return self.value == primal(other)

    def __ne__(self, other: Any) -> Any:
        return self.value != primal(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > primal(other)

    def __lt__(self, other: Any) -> Any:
        return self.value < primal(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= primal(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= primal(other)


def record(value: Any) -> Node:
    """A leaf: a value whose cotangent `backward` is to return.

    Raises:
      TypeError: it is recorded already.
    """
    if isinstance(value, Node):
        raise _nested(value)
    return Node(jnp.asarray(value))


def primal(x: Any) -> Any:
    """The plain value of a node; anything else as it is."""
    return x.value if isinstance(x, Node) else x


def backward(seeds: Mapping[Node, Cotangent]) -> dict[Node, Cotangent]:
    """Walk from the outputs to the leaves, each node once, and sum at every fan-out.

    Args:
      seeds: the upstream cotangent of each output node, of its shape and dtype.

    Returns:
      The cotangent of each leaf that the outputs depend on; a `RowSparse` for a table that was only looked up.

    Raises:
      TypeError: a rule returned the wrong number of cotangents, or one of another shape or dtype than its input;
        the message names the op, the input, what was required and what came.
    """
    cotangents = dict(seeds)
    for node in reversed(_topological_order(seeds)):
        if node.op is None or node not in cotangents:
            continue
        # Only a leaf keeps rows apart: a table that was itself computed has a rule that takes arrays.
        for parent, cotangent in _apply_rule(node.op, _dense(cotangents.pop(node)), node):
            known = cotangents.get(parent)
            cotangents[parent] = cotangent if known is None else known + cotangent
    return cotangents


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`jax.vjp` through our rules: the value of `fun(*primals)` and the function that pulls cotangents back.

    Args:
      fun: a function of pytrees of floating arrays, written in our ops; returns a pytree of arrays, or a pair of that
        and auxiliary data under `has_aux`.
      *primals: where to evaluate it.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      `(value, pull_back)`, and the auxiliary data as a third under `has_aux`. `pull_back(cotangents)` takes a pytree
      like the value and returns a tuple with one pytree for each of `primals`.
    """
    begun = next(_AGES)
    leaves, treedef = _record_leaves(primals, range(len(primals)), "vjp")
    output = fun(*jax.tree.unflatten(treedef, leaves))
    _require_none_before(begun, output)
    output, aux = _split_aux(output, has_aux, "vjp")
    outputs, out_treedef = jax.tree.flatten(output)

    def pull_back(cotangents: Any) -> Any:
        given, given_treedef = jax.tree.flatten(cotangents)
        if given_treedef != out_treedef:  # type: ignore[operator]
            raise TypeError(f"vjp: cotangents must have the value's tree {out_treedef}, got {given_treedef}")
        seeds: dict[Node, Cotangent] = {}
        for node, g in zip(outputs, map(jnp.asarray, given), strict=True):
            if _type_of(g) != _type_of(primal(node)):
                raise TypeError(f"vjp: a cotangent must be {_type_of(primal(node))} like its value, got {_type_of(g)}")
            if isinstance(node, Node):
                seeds[node] = seeds[node] + g if node in seeds else g
        return jax.tree.unflatten(treedef, [_dense(x) for x in _cotangents_of(leaves, backward(seeds))])

    value = jax.tree.unflatten(out_treedef, [primal(x) for x in outputs])
    return (value, pull_back, aux) if has_aux else (value, pull_back)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    row_sparse: bool = False,
) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad` through our rules; composes with `jit`, `vmap`, `lax.scan` and, over mesh axes of
    type Auto, sharding.

    Args:
      fun: returns one floating scalar, or a pair of it and auxiliary data under `has_aux`.
      argnums: which positional arguments to differentiate by; each a pytree of floating arrays.
      has_aux: whether `fun` returns auxiliary data beside its value.
      row_sparse: whether the gradient of a table that is only looked up stays a `RowSparse`, for
        `windownet.optim.rowwise`; by default every gradient is an array like its parameter.

    Returns:
      A function of `fun`'s arguments that returns `(value, gradient)`, or `((value, aux), gradient)`; the gradient is
      like the argument, or a tuple of such for a sequence of `argnums`. A leaf that the value does not depend on has
      gradient zero.

    Raises:
      TypeError: a leaf is not floating, the value is not one floating scalar, or a rule breaks its contract.
      ValueError: argnums names an argument that is not there, or one twice.
    """
    # numpy's integers are numbers too, but no `int`.
    wanted = (int(argnums),) if isinstance(argnums, Integral) else tuple(argnums)  # type: ignore[arg-type]

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        positions = [n + len(args) if n < 0 else n for n in wanted]
        if len(set(positions)) < len(positions) or not all(0 <= n < len(args) for n in positions):
            raise ValueError(
                f"value_and_grad: argnums must name positional arguments, each once; got {wanted} for {len(args)}"
            )
        begun = next(_AGES)
        leaves, treedef = _record_leaves(tuple(args[n] for n in positions), positions, "value_and_grad")
        recorded = list(args)
        for n, argument in zip(positions, jax.tree.unflatten(treedef, leaves), strict=True):
            recorded[n] = argument
        output = fun(*recorded, **kwargs)
        _require_none_before(begun, output)
        output, aux = _split_aux(output, has_aux, "value_and_grad")
        value = primal(output)
        if not _is_floating(value) or jnp.shape(value) != ():
            raise TypeError(
                f"value_and_grad: the function must return one floating scalar, got {_type_of(value)}; reduce it "
                "with ops.sum or ops.mean, or use vjp" + ("" if has_aux else "; set has_aux for a pair of it and more")
            )
        value = jnp.asarray(value)
        seeds = {output: jnp.ones_like(value)} if isinstance(output, Node) else {}
        cotangents = _cotangents_of(leaves, backward(seeds))
        gradients = jax.tree.unflatten(treedef, cotangents if row_sparse else [_dense(x) for x in cotangents])
        gradient = gradients[0] if isinstance(argnums, Integral) else gradients
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return value_and_gradient


def grad(fun: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """`jax.grad` through our rules: as `value_and_grad`, without the value; `(gradient, aux)` under `has_aux`."""
    both = value_and_grad(fun, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return gradient


def _topological_order(outputs: Iterable[Node]) -> list[Node]:
    # An explicit stack: a chain of thousands of ops would overflow Python's.
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in outputs]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((x, False) for x in node.inputs if isinstance(x, Node))
    return order


def _apply_rule(op: Op, g: Cotangent, node: Node) -> list[tuple[Node, Cotangent]]:
    cotangents = op.vjp(g, node.value, *map(primal, node.inputs), **node.static)
    if not isinstance(cotangents, tuple) or len(cotangents) != len(node.inputs):
        came = f"a tuple of {len(cotangents)}" if isinstance(cotangents, tuple) else f"one {type(cotangents).__name__}"
        inputs = ", ".join(op.describe(i, node.inputs) for i in range(len(node.inputs)))
        raise TypeError(
            f"op {op.name!r}: its vjp must return a tuple with one cotangent for each of its {len(node.inputs)} "
            f"inputs ({inputs}), got {came}"
        )
    pairs = []
    for i, (x, cotangent) in enumerate(zip(node.inputs, cotangents, strict=True)):
        floating = _is_floating(primal(x))
        required = _type_of(primal(x)) if floating else "None"
        if cotangent is None and not (floating and isinstance(x, Node)):
            continue
        if cotangent is None or _type_of(cotangent) != required:
            came = "None" if cotangent is None else _type_of(cotangent)
            raise TypeError(
                f"op {op.name!r}: cotangent of {op.describe(i, node.inputs)}: required {required}, got {came}"
            )
        if isinstance(x, Node):
            pairs.append((x, cotangent))
    return pairs


def _require_none_before(age: int, output: Any) -> None:
    # What an outer recording is differentiated by would end here, and its gradient be zero in silence.
    for node in _topological_order(x for x in jax.tree.leaves(output) if isinstance(x, Node)):
        if node.op is None and node.age < age:
            raise _nested(node)


def _nested(node: Node) -> TypeError:
    return TypeError(
        f"{node!r} is recorded already, and recordings do not nest; for second derivatives take jax.grad of "
        "windownet's grad"
    )


def _record_leaves(trees: tuple[Any, ...], positions: Sequence[int], caller: str) -> tuple[list[Node], Any]:
    paths, treedef = jax.tree.flatten_with_path(trees)
    for path, leaf in paths:
        if not isinstance(leaf, Node) and not _is_floating(leaf):
            where = f"argument {positions[path[0].idx]}{jax.tree_util.keystr(path[1:])}"
            raise TypeError(f"{caller}: what is differentiated must be floating arrays; {where} is {_type_of(leaf)}")
    return [record(leaf) for _, leaf in paths], treedef


def _dense(cotangent: Cotangent) -> Cotangent:
    return cotangent.to_dense() if isinstance(cotangent, RowSparse) else cotangent


def _cotangents_of(leaves: list[Node], cotangents: Mapping[Node, Cotangent]) -> list[Cotangent]:
    return [cotangents[leaf] if leaf in cotangents else jnp.zeros_like(leaf.value) for leaf in leaves]


def _split_aux(output: Any, has_aux: bool, caller: str) -> tuple[Any, Any]:
    if not has_aux:
        return output, None
    if not isinstance(output, tuple) or len(output) != 2:
        raise TypeError(f"{caller}: under has_aux the function must return a pair (value, aux), got {output!r}")
    return output[0], jax.tree.map(primal, output[1])


def _is_floating(x: Any) -> bool:
    return isinstance(x, float) or (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))


def _type_of(x: Any) -> str:
    # As jax will hold it: a float64 array of numpy is float32 to jax unless x64 is on, and 2.0 is a scalar array.
    if not hasattr(x, "dtype") and not isinstance(x, bool | int | float):
        return type(x).__name__
    extended = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.extended)
    return f"{x.dtype if extended else jnp.result_type(x)}[{','.join(map(str, jnp.shape(x)))}]"
