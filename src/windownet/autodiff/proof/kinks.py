"""Kinks that several coordinates share: between the sides one by one is not yet between the sides together.

At a tie of max(x, y) a rule may give x anything from 0 to 1, and y likewise, but not 1 to both: along (1, 1) the slope
is 1 on either side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from windownet.autodiff.proof.differences import Differences, Probe
from windownet.autodiff.proof.problem import Floats, Problem, evaluate, flat
from windownet.autodiff.proof.verdicts import EXACT
from windownet.autodiff.report import Comparison, worst_of

TOGETHER = "kinks together"

_KINKS = 64
_JUDGED = 16
_SHARING = 8
_STEP = 1e-4
_TOLERANCE = 1e-3


def judge_together(
    problem: Problem,
    differences: Differences,
    kinks: Sequence[Probe],
    g: Sequence[Floats],
    hand: Callable[..., Any],
    witness: Callable[..., Any],
    rng: np.random.Generator,
) -> Comparison | None:
    """Judge the rule along directions that move all the coordinates of one kink.

    Args:
      problem: the function and its rule.
      differences: its evaluator.
      kinks: the coordinates that lie on a kink.
      g: the upstream cotangents of the check.
      hand, witness: the rule and jax's, compiled.
      rng: where directions are drawn from.

    Returns:
      The worst comparison; None where no kink is shared.
    """
    kinks = [kinks[i] for i in rng.permutation(len(kinks))[:_KINKS]]
    if len(kinks) < 2:
        return None
    moves = np.stack([_STEP * differences.size(p) * differences.direction(p) for p in kinks])
    plus, minus = differences.displaced(moves)
    reached = plus != minus
    found = []
    for i in range(min(len(kinks), _JUDGED)):
        sharing = np.flatnonzero((reached & reached[i]).any(1))
        if len(sharing) < 2:
            continue
        if len(sharing) > _SHARING:
            # Of too many, kinks that bend either way would hide each other.
            sharing = np.append(rng.choice(sharing[sharing != i], _SHARING - 1, replace=False), i)
        weights = np.flatnonzero(reached[i])
        only = np.zeros(reached.shape[1])
        only[weights] = flat(g)[weights]
        cut = np.split(only, np.cumsum([x.size for x in g])[:-1])
        cotangents = [c.reshape(x.shape) for c, x in zip(cut, g, strict=True)]
        by_hand, by_jax = (flat(evaluate(f, problem.leaves, problem.others, cotangents)) for f in (hand, witness))
        # All of them the same way, and once at random: max has its slope along the first, |x - y| along others.
        signs = np.stack([np.ones(len(sharing)), rng.choice([-1.0, 1.0], len(sharing))])
        directions = (signs * rng.uniform(0.5, 1.5, signs.shape)) @ moves[sharing]
        for d, right, left in zip(directions, *differences.displaced(directions), strict=True):
            slopes = float((right - differences.value) @ only), float((differences.value - left) @ only)
            ours, jaxs, size = float(by_hand @ d), float(by_jax @ d), float(np.abs(by_hand * d).sum())
            nearest = min(max(ours, min(slopes)), max(slopes))
            if abs(ours - jaxs) <= EXACT * size:
                nearest = ours
            note = f"along {len(sharing)} coordinates; to either side {slopes[0]:.6g} and {slopes[1]:.6g}"
            names = problem.names[kinks[i].leaf], kinks[i].place
            found.append(Comparison(TOGETHER, *names, ours, nearest, abs(ours - nearest), _TOLERANCE * size, note=note))
    return worst_of(found)
