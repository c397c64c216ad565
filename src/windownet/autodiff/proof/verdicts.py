"""Judgement: when two gradients agree, and what a kink allows.

A tolerance is never scaled by the number of elements. Against jax, entry i of a leaf may differ by

    1e-10 max(|hand_i|, |jax_i|, 1e-3 L) + 64 (min(m_i, 1e-9 max(L, N)) + eps N),  N = |g| |y| / max(1, min(|x|, |y|))

with L the leaf's largest gradient, m_i how far jax's entry moves when every input and cotangent moves by one rounding
(its conditioning), and |g|, |y|, |x| the largest cotangent, output and leaf value: what a rule that subtracts
saturated outputs loses. Against central differences a probe may differ by 1e-7 of the derivative, or of the root of
the sum of its terms' squares where they cancel, by what rounding and truncation leave of the difference itself, and by
the second part of the above: a saturated function's own values tell its slope better than any rule that is given them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from windownet.autodiff.proof.differences import Slopes
from windownet.autodiff.proof.problem import EPSILON, Floats, largest
from windownet.autodiff.report import Comparison

JAX = "jax.vjp"
NUMERIC = "central differences"

EXACT = 1e-10
"""Relative tolerance between two derivations of one gradient in float64."""
APPROXIMATE = 1e-7
"""Relative tolerance between a gradient and extrapolated central differences."""
ROUNDINGS = 64.0
"""How many roundings of every number a program may be off."""
MAX_KINK_SHARE = 0.75
"""A check more of whose coordinates lie on kinks has shown too little, and fails."""

_OF_LARGEST = 1e-3
_NOISES = 8.0
_COARSEST = 1e-5


def exact_tolerance(a: Floats, b: Floats, moved: Floats, natural: float) -> Floats:
    """The tolerance of every entry between two derivations of one leaf's gradient; see the module.

    Args:
      a, b: the two.
      moved: how far one rounding of every input moves an entry, of their shape.
      natural: the leaf's `natural_size`.
    """
    a, b = np.abs(a), np.abs(b)
    scale = np.maximum(np.where(np.isfinite(a), a, 0), np.where(np.isfinite(b), b, 0))
    return EXACT * np.maximum(scale, _OF_LARGEST * largest(b)) + rounding(b, moved, natural)


def rounding(b: Floats, moved: Floats, natural: float) -> Floats:
    """What rounding inside a rule may do to every entry of a leaf's gradient `b`; see the module and above."""
    of_inputs = np.minimum(np.nan_to_num(moved, nan=0, posinf=0), 1e-9 * max(largest(b), natural))
    return ROUNDINGS * (of_inputs + EPSILON * natural)


def moved_by_rounding(at: Sequence[Floats], near: Sequence[Sequence[Floats]]) -> list[Floats]:
    """How far every entry of each leaf's gradient lies, at most, from those of calls `near` by."""
    with np.errstate(invalid="ignore"):
        moved = [np.max([np.abs(n[i] - x) for n in near], axis=0) for i, x in enumerate(at)]
    # Of few draws an entry may see nothing by chance; its neighbours tell.
    return [np.maximum(m, m[np.isfinite(m)].mean() if np.isfinite(m).any() else 0.0) for m in moved]


def natural_size(g: float, y: float, x: float) -> float:
    """The size that a leaf's gradient has by its units, for the largest cotangent, output and value of the leaf.

    It is |g| |y| / |x|; but what is bounded however large x grows, as tanh is, bends at an x of 1 or so.
    """
    return g * y / max(1.0, min(x, y))


def errors(a: Floats, b: Floats) -> Floats:
    """|a - b|; zero where both are the same infinity or both NaN, infinite where only one is finite."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


class Verdict(NamedTuple):
    """What central differences say of one probe.

    Attributes:
      comparison: the hand gradient along the probe beside the extrapolated difference.
      kink: whether the one-sided derivatives disagree at the finest step that can tell.
      unresolved: whether rounding hides the derivative, so that agreement proves nothing.
    """

    comparison: Comparison
    kink: bool
    unresolved: bool


def judge(
    slopes: Slopes, i: int, names: tuple[str, str], hand: float, by_jax: float, size: float, most: float, floor: float
) -> Verdict:
    """Judge probe `i` by its difference quotients.

    Args:
      slopes: the quotients of all probes.
      i: which probe.
      names: its leaf and its place there.
      hand, by_jax: the two gradients along it.
      size: the root of the sum of its terms' squares.
      most: the leaf's largest gradient: truncation may hide this little of it where a slope vanishes at the probe.
      floor: what rounding inside the rule may do to the gradient along it.
    """
    central, noise = slopes.central[i], slopes.noise[i]
    with np.errstate(invalid="ignore", over="ignore"):
        extrapolated = (16 * central[1:] - central[:-1]) / 15
        uncertain = np.zeros(len(extrapolated))
        if len(extrapolated) > 1:
            change = np.abs(np.diff(extrapolated))
            uncertain = np.append(change, change[-1])
        lost = _NOISES * noise[1:] + floor
        error = np.abs(extrapolated - hand)
        scale = np.maximum(np.abs(extrapolated), max(abs(hand) if np.isfinite(hand) else 0.0, size))
        tolerance = APPROXIMATE * scale + lost + np.minimum(4 * uncertain, 1e-6 * np.maximum(scale, most))
    usable = np.isfinite(extrapolated) & np.isfinite(tolerance)
    if usable.any() and slopes.whole and not np.isfinite(hand) and _kink(slopes, i, most) is None:
        # jax's own may be NaN there too, as behind `where`; whoever trains with it has a NaN all the same.
        k = int(np.argmin(np.where(usable, lost, np.inf)))
        required = float(extrapolated[k])
        return Verdict(Comparison(NUMERIC, *names, hand, required, np.inf, float(lost[k])), False, False)
    if not usable.any() or not np.isfinite(hand):
        unknown = Comparison(NUMERIC, *names, hand, np.nan, 0.0, 0.0, note="no finite difference to compare with")
        return Verdict(unknown, False, True)
    # Where a finer step gives something else a kink lies near, and only the steps that stay on this side of it count.
    settled = usable & (uncertain <= 4 * (APPROXIMATE * scale + lost))
    usable = settled if settled.any() else usable
    usable &= tolerance <= np.maximum(_COARSEST * scale, 4 * tolerance[usable].min())
    with np.errstate(invalid="ignore", divide="ignore"):
        k = int(np.argmin(np.where(usable, np.where(error == 0, 0, error / tolerance), np.inf)))
    unresolved = bool(lost[k] > 1e-3 * scale[k])
    kink = _kink(slopes, i, float(scale[k]))
    comparison = Comparison(NUMERIC, *names, hand, float(extrapolated[k]), float(error[k]), float(tolerance[k]))
    if kink is None or comparison.ok:
        return Verdict(comparison, kink is not None, unresolved)
    low, high, slack = kink
    nearest = min(max(hand, low), high)
    note = f"a kink: one-sided derivatives {low:.6g} and {high:.6g}"
    between = Comparison(NUMERIC, *names, hand, nearest, abs(hand - nearest), slack, note=note)
    if not between.ok and abs(hand - by_jax) <= EXACT * scale[k]:
        # Several kinks at once: the derivatives of either side need not enclose a sum of slopes chosen for each.
        between = Comparison(NUMERIC, *names, hand, by_jax, 0.0, slack, note=f"{note}; judged by {JAX}")
    return Verdict(between, True, False)


def _kink(slopes: Slopes, i: int, scale: float) -> tuple[float, float, float] | None:
    # Between smooth sides the gap of the one-sided derivatives shrinks with the step; at a kink it stays.
    right, left, noise = slopes.right[i], slopes.left[i], _NOISES * 2 * slopes.noise[i]
    with np.errstate(invalid="ignore"):
        gap = np.abs(right - left)
    resolved = np.flatnonzero(np.isfinite(gap) & (gap > noise + 1e-6 * scale))
    if not len(resolved) or (k := int(resolved[-1])) == 0 or not gap[k] > 0.5 * gap[k - 1]:
        return None
    if k + 1 < len(gap) and noise[k + 1] < 0.5 * gap[k]:
        # Near a kink, not on it: a finer step stays on one side.
        return None
    truncation = abs(right[k] - right[k - 1]) + abs(left[k] - left[k - 1])
    slack = 1e-6 * scale + noise[k] + min(float(truncation), 1e-3 * scale)
    return min(right[k], left[k]), max(right[k], left[k]), slack
