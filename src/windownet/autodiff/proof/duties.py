"""What a rule owes beside the right numbers; each duty is one comparison, or None where it is not owed."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from windownet.autodiff.proof.leaves import Gradients
from windownet.autodiff.proof.problem import (
    Arrays,
    Floats,
    Problem,
    evaluate,
    jit_quickly,
    largest,
    place_of,
)
from windownet.autodiff.proof.verdicts import errors, exact_tolerance
from windownet.autodiff.report import Comparison, worst_of

CONTRACT = "contract"
LINEAR = "linear in the upstream gradient"
ZERO = "zero in, zero out"
DETERMINISTIC = "deterministic"
ORDER = "order of duplicates"

Compiled = Callable[[Arrays, Arrays, Arrays], Any]


def broken(duty: str, error: Exception) -> Comparison:
    """The comparison that says that a rule raised an error where it owed a gradient."""
    lines = str(error).strip().splitlines() or [""]
    return Comparison(duty, "", "", np.nan, np.nan, np.inf, 0.0, note=f"raised {type(error).__name__}: {lines[0]}")


def worst_entry(
    duty: str, problem: Problem, hand: Sequence[Floats], expected: Sequence[Floats], tolerances: Sequence[Any]
) -> Comparison | None:
    """The worst entry between two lists of the leaves' gradients, by tolerances that broadcast to their shapes."""
    found = []
    for name, a, b, tolerance in zip(problem.names, hand, expected, tolerances, strict=True):
        if not a.size:
            continue
        error, allowed = errors(a, b), np.broadcast_to(tolerance, a.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            i = int(np.argmax(np.where(error == 0, 0, error / allowed)))
        hand_value, required, off, limit = (float(x.flat[i]) for x in (a, b, error, allowed))
        found.append(Comparison(duty, name, place_of(i, a.shape), hand_value, required, off, limit))
    return worst_of(found)


def same(
    duty: str, problem: Problem, hand: Sequence[Floats], expected: Sequence[Floats], gradients: Gradients, times: float
) -> Comparison | None:
    """Whether two ways of computing one gradient agree but for rounding, for cotangents `times` those of the check."""
    weights = [(m * times, n * times) for m, n in zip(gradients.moved, gradients.natural, strict=True)]
    tolerances = [exact_tolerance(a, b, *w) for a, b, w in zip(hand, expected, weights, strict=True)]
    return worst_entry(duty, problem, hand, expected, tolerances)


def linear_for_a_scalar(
    problem: Problem, hand: Compiled, gradients: Gradients, rng: np.random.Generator
) -> Comparison | None:
    """Whether the gradient of a scalar scales with its upstream cotangent; a rule that drops it would not."""
    g = float(rng.choice([-1, 1]) * rng.uniform(1.5, 3))
    scaled = evaluate(hand, problem.leaves, problem.others, [np.float64(g)])
    return same(LINEAR, problem, scaled, [g * x for x in gradients.hand], gradients, abs(g))


def zero(problem: Problem, hand: Compiled, g: Sequence[Floats], gradients: Gradients) -> Comparison | None:
    """Whether no upstream cotangent gives no gradient, wherever the gradient is finite."""
    none = evaluate(hand, problem.leaves, problem.others, [np.zeros_like(x) for x in g])
    none = [np.where(np.isfinite(j), x, 0) for x, j in zip(none, gradients.by_jax, strict=True)]
    return worst_entry(ZERO, problem, none, [np.zeros_like(x) for x in none], [0.0] * len(none))


def deterministic(problem: Problem, *pairs: tuple[Sequence[Floats], Sequence[Floats]]) -> Comparison | None:
    """Whether the same call gives the same bits again."""
    found = [worst_entry(DETERMINISTIC, problem, a, b, [0.0] * len(a)) for a, b in pairs]
    return worst_of([c for c in found if c is not None])


def order_of_duplicates(
    problem: Problem, hand: Compiled, g: Sequence[Floats], gradients: Gradients, value: Sequence[Floats], rng: Any
) -> Comparison | None:
    """Whether a table's gradient stays when its look-ups come in another order; owed by ops with integer inputs."""
    ids = [x for x in problem.others if jnp.issubdtype(x.dtype, jnp.integer) and max(x.shape, default=0) > 1]
    if not ids:
        return None
    axis = int(np.argmax(ids[0].shape))
    order = rng.permutation(ids[0].shape[axis])

    def moves(x: Any) -> bool:
        return len(x.shape) > axis and bool(x.shape[axis] == len(order))

    def permuted(arrays: Arrays, which: Sequence[bool]) -> list[Any]:
        return [x[(slice(None),) * axis + (order,)] if w else x for x, w in zip(arrays, which, strict=True)]

    others = permuted(problem.others, [moves(x) for x in problem.others])
    outputs = [moves(x) for x in g]
    forward = jit_quickly(problem.forward)
    # Which floats go with the ids is not known, but it shows: in the right company the outputs only change places.
    # At one point a function may be symmetric by chance, as at parameters of zeros, so another has to show it too.
    elsewhere = [x + rng.standard_normal(x.shape) * max(1.0, largest(x)) for x in problem.leaves]
    points = [(problem.leaves, value), (elsewhere, evaluate(forward, elsewhere, problem.others))]
    for company in ([moves(x) for x in problem.leaves], [False] * len(problem.leaves)):
        shown = (
            np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)
            for leaves, came in points
            for a, b in zip(evaluate(forward, permuted(leaves, company), others), permuted(came, outputs), strict=True)
        )
        if all(shown):
            again = evaluate(hand, permuted(problem.leaves, company), others, permuted(g, outputs))
            return same(ORDER, problem, again, permuted(gradients.hand, company), gradients, 1.0)
    return None
