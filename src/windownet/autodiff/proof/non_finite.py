"""NaN and infinity: a rule that turns them into ordinary numbers lets a broken network train on in silence."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from windownet.autodiff.proof.duties import Compiled
from windownet.autodiff.proof.leaves import Gradients
from windownet.autodiff.proof.problem import Floats, Problem, evaluate, jit_quickly, place_of
from windownet.autodiff.proof.verdicts import errors
from windownet.autodiff.report import Comparison, worst_of

NON_FINITE = "non-finite in, non-finite out"

_COORDINATES = 2
_OTHER_VALUES = (-50.0, 0.1, 50.0)
_FAR, _FARTHER, _GROWN = 1e30, 1e60, 1e10


class _Number(NamedTuple):
    # The flat position `at` in array `n` of the leaves and, after them, the upstream cotangents.
    n: int
    at: int
    place: str


def non_finite(
    problem: Problem,
    hand: Compiled,
    witness: Compiled,
    g: Sequence[Floats],
    gradients: Gradients,
    rng: np.random.Generator,
) -> Comparison | None:
    """Whether NaN and infinity come through.

    Where one in an input makes the output not finite, or is in the upstream cotangent, what depends on it may be finite
    only if jax's own derivative is finite there; in an op of this package it may not be finite at all.

    An entry depends on a number if it changes when the number does. At an infinity a slope may be finite (tanh is flat
    out there), so there only an entry that grew beyond bounds on the way, or is not finite on it, depends.
    """
    arrays = [*problem.leaves, *g]

    def at(function: Compiled, number: _Number, value: float) -> list[Floats]:
        changed = list(arrays)
        changed[number.n] = arrays[number.n].copy()
        changed[number.n].flat[number.at] = value
        split = len(problem.leaves)
        return evaluate(function, changed[:split], problem.others, changed[split:])

    forward = jit_quickly(lambda leaves, others, _: problem.forward(leaves, others))

    def may_be_finite(number: _Number, value: float) -> list[Any]:
        if number.n < len(problem.leaves):
            here, there = (at(forward, number, v) for v in (float(arrays[number.n].flat[number.at]), value))
            if not any((~np.isfinite(y) & (errors(y, x) > 0)).any() for x, y in zip(here, there, strict=True)):
                return [np.True_] * len(problem.leaves)
        if problem.strict:
            return [np.False_] * len(problem.leaves)
        return [np.isfinite(x) for x in at(witness, number, value)]

    def compared(number: _Number, value: float, depends: Sequence[Any]) -> list[Comparison]:
        came = at(hand, number, value)
        if any((mask & np.isfinite(x)).any() for mask, x in zip(depends, came, strict=True)):
            depends = [mask & ~allowed for mask, allowed in zip(depends, may_be_finite(number, value), strict=True)]
        return _silent(problem, depends, came, f"{number.place} = {value}")

    found = []
    with np.errstate(invalid="ignore", over="ignore"):
        for number in _numbers(problem, g, rng):
            moved = [_changed(at(hand, number, value), gradients.hand) for value in _OTHER_VALUES]
            found += compared(number, np.nan, [np.logical_or.reduce(masks) for masks in zip(*moved, strict=True)])
            for sign in (-1, 1):
                far, farther = at(hand, number, sign * _FAR), at(hand, number, sign * _FARTHER)
                grows = [
                    ~np.isfinite(b) | (abs(b) > _GROWN * np.maximum(abs(a), 1))
                    for a, b in zip(far, farther, strict=True)
                ]
                found += compared(number, sign * np.inf, grows)
    return worst_of(found)


def _numbers(problem: Problem, g: Sequence[Floats], rng: np.random.Generator) -> Iterator[_Number]:
    # Some numbers of every leaf and cotangent.
    names = [*problem.names, *(f"the upstream cotangent{f' {n}' if len(g) > 1 else ''}" for n in range(len(g)))]
    for n, (name, array) in enumerate(zip(names, [*problem.leaves, *g], strict=True)):
        for i in rng.choice(array.size, min(_COORDINATES, array.size), replace=False):
            yield _Number(n, int(i), name + place_of(int(i), array.shape))


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
