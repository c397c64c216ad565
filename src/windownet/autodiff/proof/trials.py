"""Duties that take several calls of one rule: other transformations, other cotangents, numbers that are not finite."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.proof.duties import LINEAR, Compiled, broken, same, worst_entry
from windownet.autodiff.proof.leaves import Gradients
from windownet.autodiff.proof.problem import (
    EPSILON,
    Floats,
    Problem,
    evaluate,
    jit_quickly,
    jittered,
    place_of,
    to_float64,
)
from windownet.autodiff.proof.verdicts import errors, exact_tolerance
from windownet.autodiff.report import Comparison, worst_of

JIT = "the same under jit"
SCAN = "the same under scan"
VMAP = "the same under vmap"
ELSEWHERE = "another point"
NON_FINITE = "non-finite in, non-finite out"

_COORDINATES = 2
_OTHER_VALUES = (-50.0, 0.1, 50.0)
_FAR, _FARTHER, _GROWN = 1e30, 1e60, 1e10


def transformed(
    problem: Problem,
    g: Sequence[Floats],
    gradients: Gradients,
    eager: Sequence[Floats],
    witness: Compiled,
    rng: np.random.Generator,
) -> dict[str, Comparison | None]:
    """Whether the rule gives the same compiled, looped and batched, and is linear in its upstream cotangents.

    Args:
      problem: the function and its rule.
      g: the upstream cotangents of the check.
      gradients: the compiled hand gradient for them, and jax's.
      eager: the hand gradient without compilation.
      witness: jax's gradient, compiled.
      rng: where other points and cotangents are drawn from.
    """
    other = [rng.standard_normal(x.shape) for x in g]
    a, b = (float(rng.choice([-1, 1]) * rng.uniform(500, 2000)) for _ in range(2))
    combined = [a * x + b * y for x, y in zip(g, other, strict=True)]
    # The last call is at another point, so that a batch is not one call repeated.
    elsewhere = [x * (1 + 0.1 * rng.standard_normal(x.shape)) for x in problem.leaves]
    leaves = [problem.leaves, problem.leaves, problem.leaves, elsewhere]
    calls = (
        [np.stack(x) for x in zip(*leaves, strict=True)],
        [_stacked(x, len(leaves)) for x in problem.others],
        [np.stack(x) for x in zip(g, other, combined, g, strict=True)],
    )

    def looped(*calls: Any) -> Any:
        return jax.lax.scan(lambda _, call: (None, problem.hand(*call)), None, calls)[1]

    batched = jax.vmap(problem.hand)
    found: dict[str, Comparison | None] = {JIT: same(JIT, problem, gradients.hand, eager, gradients, 1.0)}
    for duty, function in ((SCAN, looped), (VMAP, batched)):
        try:
            jax.eval_shape(function, *calls)
        except Exception as error:
            found[duty] = broken(duty, error)
    if SCAN in found or VMAP in found:
        return found
    # One compilation for both.
    outputs = jit_quickly(lambda *calls: (looped(*calls), batched(*calls)))(*calls)
    scanned, mapped = ([[to_float64(x[n]) for x in out] for n in range(len(leaves))] for out in outputs)
    found[SCAN] = same(SCAN, problem, scanned[0], gradients.hand, gradients, 1.0)
    times = (10.0, 10.0, abs(a) + abs(b), 10.0)
    compared = [same(VMAP, problem, m, s, gradients, n) for m, s, n in zip(mapped, scanned, times, strict=True)]
    found[VMAP] = worst_of([c for c in compared if c is not None])
    found[ELSEWHERE] = _elsewhere(problem, scanned[3], elsewhere, g, gradients, witness)
    found[LINEAR] = _linear(problem, scanned[:3], (a, b), gradients)
    return found


def non_finite(
    problem: Problem, hand: Compiled, g: Sequence[Floats], gradients: Gradients, rng: np.random.Generator
) -> Comparison | None:
    """Whether NaN and infinity come through, where the gradient depends on the number that is one.

    An entry depends on a number if it changes when the number does; where the number is NaN it may not be finite. At an
    infinity a slope may be finite (tanh is flat out there), so only an entry that grew beyond bounds on the way, or is
    not finite there, owes a non-finite value.
    """
    found = []
    with np.errstate(invalid="ignore", over="ignore"):
        for what, at in _numbers(problem, hand, g, rng):
            moved = [_changed(at(value), gradients.hand) for value in _OTHER_VALUES]
            depends = [np.logical_or.reduce(masks) for masks in zip(*moved, strict=True)]
            found += _silent(problem, depends, at(np.nan), f"{what} = nan")
            for sign in (-1, 1):
                far, farther = at(sign * _FAR), at(sign * _FARTHER)
                grows = [
                    ~np.isfinite(b) | (abs(b) > _GROWN * np.maximum(abs(a), 1))
                    for a, b in zip(far, farther, strict=True)
                ]
                found += _silent(problem, grows, at(sign * np.inf), f"{what} = {sign * np.inf}")
    return worst_of(found)


def _linear(
    problem: Problem, cotangents: Sequence[Sequence[Floats]], factors: tuple[float, float], gradients: Gradients
) -> Comparison | None:
    came, expected, slack = [], [], []
    for x, y, combined, m, n in zip(*cotangents, gradients.moved, gradients.natural, strict=True):
        finite = np.isfinite(x) & np.isfinite(y)
        first, second = factors[0] * np.where(finite, x, 0), factors[1] * np.where(finite, y, 0)
        came.append(np.where(finite, combined, 0))
        expected.append(first + second)
        rounding = np.where(np.isfinite(m), m, 0) + EPSILON * n
        slack.append(1e-12 * (np.abs(first) + np.abs(second)) + 64 * sum(map(abs, factors)) * rounding)
    return worst_entry(LINEAR, problem, came, expected, slack)


def _elsewhere(
    problem: Problem,
    hand: Sequence[Floats],
    point: Sequence[Floats],
    g: Sequence[Floats],
    gradients: Gradients,
    witness: Compiled,
) -> Comparison | None:
    # A rule that kept something of its first call is right only there.
    expected, *near = (
        evaluate(witness, leaves, problem.others, g) for leaves in (point, jittered(point, 0), jittered(point, 1))
    )
    with np.errstate(invalid="ignore"):
        moved = [np.max([np.abs(n[i] - x) for n in near], axis=0) for i, x in enumerate(expected)]
    here = [
        exact_tolerance(*x) for x in zip(gradients.hand, gradients.jax, gradients.moved, gradients.natural, strict=True)
    ]
    # An entry that differs from jax's here was judged here: at a kink it may.
    agreed = [errors(x, y) <= t for x, y, t in zip(gradients.hand, gradients.jax, here, strict=True)]
    hand = [np.where(ok, x, y) for ok, x, y in zip(agreed, hand, expected, strict=True)]
    tolerances = [exact_tolerance(*x) for x in zip(hand, expected, moved, gradients.natural, strict=True)]
    return worst_entry(ELSEWHERE, problem, hand, expected, tolerances)


def _numbers(
    problem: Problem, hand: Compiled, g: Sequence[Floats], rng: np.random.Generator
) -> Iterator[tuple[str, Callable[[float], list[Floats]]]]:
    # Some numbers of every leaf and cotangent, each with the gradient as a function of it.
    names = [*problem.names, *(f"the upstream cotangent{f' {n}' if len(g) > 1 else ''}" for n in range(len(g)))]
    arrays = [*problem.leaves, *g]
    for n, (name, array) in enumerate(zip(names, arrays, strict=True)):
        for i in rng.choice(array.size, min(_COORDINATES, array.size), replace=False):

            def at(value: float, n: int = n, i: int = int(i)) -> list[Floats]:
                changed = list(arrays)
                changed[n] = arrays[n].copy()
                changed[n].flat[i] = value
                split = len(problem.leaves)
                return evaluate(hand, changed[:split], problem.others, changed[split:])

            yield name + place_of(int(i), array.shape), at


def _stacked(x: Any, times: int) -> Any:
    return jnp.stack([x] * times) if isinstance(x, jax.Array) else np.stack([x] * times)


def _changed(other: Sequence[Floats], here: Sequence[Floats]) -> list[Any]:
    return [
        (np.abs(a - b) > 1e-9 * np.maximum(np.abs(a), np.abs(b))) | (np.isfinite(a) != np.isfinite(b))
        for a, b in zip(other, here, strict=True)
    ]


def _silent(problem: Problem, owed: Sequence[Any], came: Sequence[Floats], where: str) -> list[Comparison]:
    found = []
    for name, mask, x in zip(problem.names, owed, came, strict=True):
        if mask.any():
            i = int(np.argmax(mask & np.isfinite(x)))
            silent = bool((mask & np.isfinite(x)).any())
            value = float(x.flat[i]) if silent else np.nan
            error = np.inf if silent else 0.0
            found.append(Comparison(NON_FINITE, name, place_of(i, x.shape), value, np.nan, error, 0.0, note=where))
    return found
