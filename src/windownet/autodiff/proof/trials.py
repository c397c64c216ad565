"""Duties that take several calls of one rule: other transformations, other cotangents, another point."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.proof.differences import usual_size
from windownet.autodiff.proof.duties import LINEAR, Compiled, broken, same, worst_entry
from windownet.autodiff.proof.leaves import Gradients
from windownet.autodiff.proof.problem import (
    EPSILON,
    Floats,
    Problem,
    evaluate,
    jit_quickly,
    jittered,
    to_float64,
)
from windownet.autodiff.proof.verdicts import errors, exact_tolerance, moved_by_rounding
from windownet.autodiff.report import Comparison, worst_of

JIT = "the same under jit"
SCAN = "the same under scan"
VMAP = "the same under vmap"
ELSEWHERE = "another point"


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
    elsewhere = [_moved(x, rng) for x in problem.leaves]
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
    moved = moved_by_rounding(expected, near)
    here = [
        exact_tolerance(*x)
        for x in zip(gradients.hand, gradients.by_jax, gradients.moved, gradients.natural, strict=True)
    ]
    # An entry that differs from jax's here was judged here: at a kink it may.
    agreed = [errors(x, y) <= t for x, y, t in zip(gradients.hand, gradients.by_jax, here, strict=True)]
    hand = [np.where(ok, x, y) for ok, x, y in zip(agreed, hand, expected, strict=True)]
    tolerances = [exact_tolerance(*x) for x in zip(hand, expected, moved, gradients.natural, strict=True)]
    return worst_entry(ELSEWHERE, problem, hand, expected, tolerances)


def _moved(x: Floats, rng: np.random.Generator) -> Floats:
    # Zeros too, or a rule that is right only there, as of a bias or a weight that begins as zero, would pass.
    by = 0.1 * rng.standard_normal(x.shape)
    return np.where(x == 0, usual_size(x) * by, x * (1 + by))


def _stacked(x: Any, times: int) -> Any:
    return jnp.stack([x] * times) if isinstance(x, jax.Array) else np.stack([x] * times)
