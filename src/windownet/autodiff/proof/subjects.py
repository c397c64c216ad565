"""What can be checked, brought into the form of a `Problem`: an op, a function with its own rule, a whole model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff import graph
from windownet.autodiff.proof.problem import Arguments, Arrays, Problem, is_array, is_complex, is_floating, type_of


def op_problem(op: graph.Op, inputs: Sequence[Any], static: Mapping[str, Any]) -> Problem:
    """An op at its inputs; the leaves are the floating ones, named as its forward names them."""
    signature = inspect.signature(op.forward)
    try:
        signature.bind(*inputs, **static)
    except TypeError as error:
        raise TypeError(
            f"check_op: arguments as op {op.name!r} takes them are required, {signature}: {error}"
        ) from None
    names = parameter_names(op.forward, len(inputs))
    arrays = [x if is_array(x) else np.asarray(x) for x in inputs]
    arguments = _real_arguments(f"op {op.name!r}", names, arrays)

    def forward(leaves: Arrays, others: Arrays) -> list[Any]:
        return [op.forward(*arguments.filled(leaves, others), **static)]

    def hand(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        filled = arguments.filled(leaves, others)
        cotangents = op.cotangents(g[0], op.forward(*filled, **static), *filled, **static)
        if not isinstance(cotangents, tuple) or len(cotangents) != len(filled):
            came = f"a tuple of {len(cotangents)}" if isinstance(cotangents, tuple) else type(cotangents).__name__
            raise TypeError(f"required a tuple with one cotangent for each of {len(filled)} inputs, got {came}")
        for name, x, cotangent in zip(names, filled, cotangents, strict=True):
            # `backward` takes nothing but None for an op's input that has no cotangent.
            _require_cotangent(name, x, cotangent, float0=False)
        return arguments.leaves_of(cotangents)

    # jax loses a NaN where it compares (`nn.relu`); the ops of this package may not.
    strict = getattr(op.forward, "__module__", "").startswith(f"{graph.__package__}.ops.")
    return _required(f"op {op.name!r}", Problem(op.name, arguments, forward, hand, op=op.name, strict=strict))


def function_problem(f: Any, args: Sequence[Any]) -> Problem:
    """A `jax.custom_vjp` function, or a pair `(forward, vjp)` with `vjp(g, *args)`, at its arguments."""
    if isinstance(f, tuple) and len(f) == 2 and all(map(callable, f)):
        return _pair_problem(*f, args)
    # jax has two classes for it, by a setting of its own; what they share is told by what it can do.
    if not callable(f) or not hasattr(f, "defvjp") or not hasattr(f, "__wrapped__"):
        came = getattr(f, "__name__", type(f).__name__)
        raise TypeError(
            f"check_custom_vjp: a function decorated with jax.custom_vjp, or a pair (forward, vjp), is required, got "
            f"{came}; of a function that was decorated again, pass the inner one"
        )
    name = getattr(f, "__name__", "custom_vjp")
    plain, fixed = f.__wrapped__, getattr(f, "nondiff_argnums", getattr(f, "static_argnums", ()))
    names = parameter_names(plain, len(args))
    # What is not to be differentiated may be a function or a shape: it is kept whole.
    kept = [_Kept(x) if i in fixed else x for i, x in enumerate(args)]
    arguments = _real_arguments(name, names, kept)

    def called(function: Callable[..., Any], leaves: Arrays, others: Arrays) -> list[Any]:
        filled = arguments.filled(leaves, others)
        return _real_outputs(name, function(*(x.value if isinstance(x, _Kept) else x for x in filled)))

    def hand(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        _, pull_back = jax.vjp(lambda *floats: called(f, floats, others), *leaves)
        return list(pull_back(list(g)))

    def value(leaves: Arrays, others: Arrays) -> list[Any]:
        return list(jax.vjp(lambda *floats: called(f, floats, others), *leaves)[0])

    problem = Problem(name, arguments, lambda leaves, others: called(plain, leaves, others), hand, value=value)
    return _required(name, problem)


def model_problem(
    loss: Callable[..., Any], params: Any, batch: tuple[Any, ...], reference: Callable[..., Any] | None
) -> Problem:
    """A loss of parameters in our ops; the leaves are the parameters, named by their paths."""
    arguments = Arguments([("", params, True), *(("", tree, False) for tree in batch)])
    for path, leaf in jax.tree.leaves_with_path(params):
        if not is_floating(leaf):
            instead = "its real and imaginary parts as two arrays" if is_complex(leaf) else "it in the batch"
            raise TypeError(
                f"check_gradients: a floating array is required in every leaf of params, leaf "
                f"{jax.tree_util.keystr(path, simple=True, separator='.')} is {type_of(jnp.asarray(leaf))}; pass "
                f"{instead}"
            )
    plain = reference or loss

    def called(function: Callable[..., Any], leaves: Arrays, others: Arrays) -> Any:
        return function(*arguments.filled(leaves, others))

    def hand(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        _, pull_back = graph.vjp(lambda x: called(loss, x, others), list(leaves))
        return list(pull_back(g[0])[0])

    def by_reference(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        _, pull_back = jax.vjp(lambda x: called(plain, x, others), list(leaves))
        return list(pull_back(g[0])[0])

    def record(leaves: Arrays, others: Arrays) -> Any:
        try:
            return called(loss, [graph.record(x) for x in leaves], others)
        except TypeError as error:
            if graph.Node.__qualname__ not in str(error) or "windownet's ops" in str(error):
                raise
            raise TypeError(
                f"check_gradients: a loss in windownet's ops is required (ops.sum where jnp.sum stands): {error}"
            ) from error

    def value(leaves: Arrays, others: Arrays) -> list[Any]:
        return [graph.primal(record(leaves, others)), called(plain, leaves, others)]

    if reference is not None:
        _require_same_arguments(reference, params, batch)
        try:
            _require_scalar("the reference", lambda x, o: called(reference, x, o), arguments)
        except LookupError as error:
            raise TypeError(
                f"check_gradients: the reference must take the loss's params; of these it raised "
                f"{type(error).__name__}: {error}"
            ) from error
    _require_scalar("the loss", lambda x, o: called(loss, x, o), arguments)
    name = getattr(loss, "__name__", type(loss).__name__)

    def forward(leaves: Arrays, others: Arrays) -> list[Any]:
        return [called(loss, leaves, others)]

    return _required(name, Problem(name, arguments, forward, hand, by_reference, value, record))


def parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its first `count` positional arguments; `arrays 0`, `arrays 1` of `*arrays`."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "argument")
    return [names[i] if i < len(names) else f"{rest} {i - len(names)}" for i in range(count)]


class _Kept:
    # A leaf to jax.tree, whatever it holds.
    def __init__(self, value: Any) -> None:
        self.value = value


def _pair_problem(plain: Callable[..., Any], rule: Callable[..., Any], args: Sequence[Any]) -> Problem:
    function, names = getattr(plain, "__name__", "forward"), parameter_names(plain, len(args))
    arguments = _real_arguments(function, names, args)

    def forward(leaves: Arrays, others: Arrays) -> list[Any]:
        return _real_outputs(function, plain(*arguments.filled(leaves, others)))

    def hand(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        filled = arguments.filled(leaves, others)
        out, treedef = jax.tree.flatten(plain(*filled))
        given = iter(g)
        cotangents = rule(jax.tree.unflatten(treedef, [next(given) if is_floating(y) else None for y in out]), *filled)
        if not isinstance(cotangents, tuple) or len(cotangents) != len(filled):
            came = f"a tuple of {len(cotangents)}" if isinstance(cotangents, tuple) else type(cotangents).__name__
            raise TypeError(f"required a tuple with one cotangent for each of {len(filled)} arguments, got {came}")
        flat = []
        for name, x, cotangent in zip(names, filled, cotangents, strict=True):
            leaves_of_x, tree = jax.tree.flatten(x)
            if cotangent is None and not any(map(is_floating, leaves_of_x)):
                flat += [None] * len(leaves_of_x)
                continue
            leaves_of_cotangent, came_tree = jax.tree.flatten(cotangent, is_leaf=lambda leaf: leaf is None)
            if came_tree != tree:  # type: ignore[operator]
                raise TypeError(f"cotangent of {name}: required the tree {tree}, got {came_tree}")
            for leaf, c in zip(leaves_of_x, leaves_of_cotangent, strict=True):
                _require_cotangent(name, leaf, c, float0=True)
            flat += leaves_of_cotangent
        return arguments.leaves_of(flat)

    return _required(function, Problem(function, arguments, forward, hand))


def _require_cotangent(name: str, x: Any, cotangent: Any, float0: bool) -> None:
    if is_floating(x):
        allowed = [type_of(x)]
    else:
        # jax's own derivatives hand zeros of type float0 to what has no cotangent.
        allowed = ["None", f"float0[{','.join(map(str, np.shape(x)))}]"] if float0 else ["None"]
    came = "None" if cotangent is None else type_of(cotangent)
    if came not in allowed:
        raise TypeError(f"cotangent of {name}: required {' or '.join(allowed)}, got {came}")


def _real_arguments(what: str, names: Sequence[str], args: Sequence[Any]) -> Arguments:
    for name, tree in zip(names, args, strict=True):
        for path, x in jax.tree.leaves_with_path(tree):
            if is_complex(x):
                raise TypeError(
                    f"{what}: real arguments are required, got {type_of(x)} in {_path(name, path)}; pass its real and "
                    "imaginary parts as two arrays"
                )
    return Arguments([(name, x, True) for name, x in zip(names, args, strict=True)])


def _real_outputs(what: str, out: Any) -> list[Any]:
    # What is not floating has no derivative and is left out; a complex output has one that nobody would look at.
    for path, y in jax.tree.leaves_with_path(out):
        if is_complex(y):
            raise TypeError(
                f"{what}: real outputs are required, got {type_of(y)} in {_path('output', path)}; return its real and "
                "imaginary parts as two arrays"
            )
    return [y for y in jax.tree.leaves(out) if is_floating(y)]


def _path(name: str, path: Any) -> str:
    return ".".join(part for part in (name, jax.tree_util.keystr(path, simple=True, separator=".")) if part)


def _required(what: str, problem: Problem) -> Problem:
    if not problem.leaves:
        raise TypeError(f"{what}: at least one floating array is required to differentiate by, got none")
    types = problem.output_types()
    if not types:
        raise TypeError(f"{what}: a floating output is required, got none")
    for t in types:
        if t.dtype != jnp.float64:
            raise TypeError(
                f"{what}: an output that follows its inputs' dtype is required, float64 for float64, got {type_of(t)}"
            )
    return problem


def _require_scalar(what: str, function: Callable[[Arrays, Arrays], Any], arguments: Arguments) -> None:
    def returned(leaves: Arrays, others: Arrays) -> Any:
        out = function(leaves, others)
        if strange := [x for x in jax.tree.leaves(out) if not is_array(x) and not isinstance(x, int | float)]:
            raise TypeError(f"check_gradients: {what} must return one floating scalar, got {type(strange[0]).__name__}")
        return out

    out = jax.eval_shape(returned, arguments.leaves, arguments.others)
    if not hasattr(out, "shape") or out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"check_gradients: {what} must return one floating scalar, got {jax.tree.map(type_of, out)}")


def _require_same_arguments(reference: Callable[..., Any], params: Any, batch: tuple[Any, ...]) -> None:
    try:
        signature = inspect.signature(reference)
    except ValueError:
        # A callable without a readable signature shows at its first call whether it fits.
        return
    try:
        signature.bind(params, *batch)
    except TypeError as error:
        name = getattr(reference, "__name__", "reference")
        raise TypeError(
            f"check_gradients: the reference must take the loss's arguments, params and {len(batch)} of the batch; "
            f"{name}{signature} does not: {error}"
        ) from None
