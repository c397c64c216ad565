"""The rule in the dtypes that training has, and in those that it was given: is it as right there as it can be?"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.proof.duties import Compiled, broken, worst_entry
from windownet.autodiff.proof.leaves import Gradients
from windownet.autodiff.proof.problem import (
    Arrays,
    Floats,
    Problem,
    cast_floating,
    evaluate,
    flat,
    jit_quickly,
    largest,
    to_float64,
    type_of,
)
from windownet.autodiff.proof.verdicts import errors, natural_size
from windownet.autodiff.report import Comparison

_ROUNDINGS_OF_DTYPE = 4.0
_ROUNDINGS_OF_UNITS = 2.0
_TIMES_JAX = 4.0
# What jax and XLA raise where they lack an operation in a dtype: at the trace, the lowering or the compilation.
_NOT_THERE = (TypeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError)


def in_dtypes(
    problem: Problem, dtypes: Sequence[Any], g: Sequence[Floats], hand: Compiled, gradients: Gradients
) -> Iterator[tuple[str, Comparison | None]]:
    """The rule in `dtypes` and in those that the leaves came in, beside itself in float64 at the same rounded numbers.

    Nothing is owed in a dtype in which the forward, or jax's own derivative of it, does not run; nor in entries that
    are fed by outputs beyond the dtype's range, or in which jax's own is not finite there. Any other may be off by 4
    epsilons of the dtype in units of its leaf's largest entry, by 2 in those of `verdicts.natural_size`, or by 4 times
    what jax's own gradient in the dtype is off.
    """
    given = {jnp.dtype(x).name: None for x in (*dtypes, *problem.arguments.dtypes) if jnp.dtype(x) != jnp.float64}
    args_of = {name: [cast_floating(x, name) for x in (problem.leaves, problem.others, g)] for name in given}
    came = _gradients_in(problem, {name: args for name, args in args_of.items() if _follows(problem, name, args)})
    for name, args in args_of.items():
        low = came.get(name)
        if low is None or (isinstance(low, Exception) and not _jax_runs(problem, args)):
            yield name, None
        elif isinstance(low, Exception):
            yield name, broken(name, low)
        else:
            yield name, _judge(problem, name, args, low, hand, gradients)


def _gradients_in(problem: Problem, args_of: Mapping[str, Arrays]) -> dict[str, list[Floats] | Exception]:
    found: dict[str, list[Floats] | Exception] = {
        name: e for name, a in args_of.items() if (e := _raised(problem, a, name))
    }
    traced = {name: args for name, args in args_of.items() if name not in found}
    try:
        # One compilation for all of them.
        low = jit_quickly(lambda args_of: {name: problem.hand(*args) for name, args in args_of.items()})(traced)
        return found | {name: [to_float64(x) for x in gradients] for name, gradients in low.items()}
    except Exception as error:
        if len(traced) == 1:
            return found | dict.fromkeys(traced, error)
    # One of them cannot be compiled or run: each alone tells which.
    for name, args in traced.items():
        found |= _gradients_in(problem, {name: args})
    return found


def _judge(
    problem: Problem, name: str, args: Arrays, came: Sequence[Floats], hand: Compiled, gradients: Gradients
) -> Comparison | None:
    exact = [cast_floating(x, float) for x in args]
    expected = evaluate(hand, *exact)
    worst = worst_entry(name, problem, came, expected, _bounds(name, expected, gradients.units))
    if worst is None or worst.ok:
        return worst
    # jax's own is only wanted where the plain bound does not do.
    witness, forward = jit_quickly(problem.witness), jit_quickly(problem.forward)
    try:
        own, value = evaluate(witness, *args), evaluate(forward, *args[:2])
    except _NOT_THERE:
        return None
    own_exact, value_exact = evaluate(witness, *exact), evaluate(forward, *exact[:2])
    beyond = [np.isfinite(y) & ~np.isfinite(x) for x, y in zip(value, value_exact, strict=True)]
    fed = evaluate(witness, *exact[:2], [np.where(lost, x, 0) for lost, x in zip(beyond, exact[2], strict=True)])
    owed = [(f == 0) & (np.isfinite(x) | ~np.isfinite(y)) for f, x, y in zip(fed, own, own_exact, strict=True)]
    came, expected = ([np.where(o, x, 0) for o, x in zip(owed, gradient, strict=True)] for gradient in (came, expected))
    kept = flat([np.where(lost, 0, y) for lost, y in zip(beyond, value_exact, strict=True)])
    units = [natural_size(largest(flat(exact[2])), largest(kept), largest(x)) for x in exact[0]]
    bounds = _bounds(name, expected, units)
    off = [largest(errors(x, y)[o]) for x, y, o in zip(own, own_exact, owed, strict=True)]
    return worst_entry(
        name, problem, came, expected, [max(b, _TIMES_JAX * x) for b, x in zip(bounds, off, strict=True)]
    )


def _bounds(name: str, expected: Sequence[Floats], units: Sequence[float]) -> list[float]:
    epsilon = float(jnp.finfo(name).eps)  # type: ignore[no-untyped-call]
    sizes = zip(expected, units, strict=True)
    return [epsilon * max(_ROUNDINGS_OF_DTYPE * largest(e), _ROUNDINGS_OF_UNITS * n) for e, n in sizes]


def _follows(problem: Problem, dtype: str, args: Arrays) -> bool:
    try:
        types = jax.eval_shape(problem.forward, *args[:2])
    except _NOT_THERE:
        return False
    return [str(t.dtype) for t in types] == [dtype] * len(types)


def _raised(problem: Problem, args: Arrays, dtype: str) -> Exception | None:
    try:
        types = jax.eval_shape(problem.hand, *args)
    except Exception as error:
        return error
    wrong = [(n, t) for n, t in zip(problem.names, types, strict=True) if t.dtype != dtype]
    return (
        TypeError(f"required the cotangent of {wrong[0][0]} in {dtype}, got {type_of(wrong[0][1])}") if wrong else None
    )


def _jax_runs(problem: Problem, args: Arrays) -> bool:
    plain = dataclasses.replace(problem, reference=None)
    try:
        evaluate(jit_quickly(plain.witness), *args)
    except _NOT_THERE:
        return False
    return True
