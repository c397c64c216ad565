"""Central differences in float64: a sweep of steps, Richardson's extrapolation, kinks by one-sided derivatives.

A *probe* is a unit direction d inside one leaf: a coordinate, a row, several rows, or the whole leaf. At a step s the
central difference is D(s) = <g, f(x + s d) - f(x - s d)> / 2s, and R(s) = (16 D(s / 4) - D(s)) / 15 is free of its
error in s^2. Outputs are subtracted before the sum with g, so those that the probe does not reach add no rounding.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.proof.problem import EPSILON, Floats, Problem, flat, jit_quickly, largest

RATIO = 4.0
"""One step of the sweep to the next; the weights of the extrapolation follow from it."""
SWEEP = 0.1 * RATIO ** -np.arange(14.0)
"""The steps in units of the probe's own size: 0.1 down to 1.5e-9."""

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Progress: TypeAlias = Callable[[int, int, str], None]
_VECTORISED_UP_TO = 4096
_ROWS_A_CALL = 64
_VALUES_A_CALL = 2**23


class Probe(NamedTuple):
    """A unit direction inside leaf `leaf`: `values` at the flat positions `at`; `place` is its name in reports."""

    leaf: int
    place: str
    at: Indices
    values: Floats


class Slopes(NamedTuple):
    """Difference quotients of probes at their steps, arrays [probes, steps]; `noise` bounds what rounding adds.

    `whole` is whether they have all outputs in them: one that is not finite at the leaves themselves has none.
    """

    steps: Floats
    right: Floats
    left: Floats
    central: Floats
    noise: Floats
    whole: bool = True


class Differences:
    """Evaluates a problem's forward at displaced leaves, many displacements a call.

    Args:
      problem: what to evaluate.
      g: the outputs' upstream cotangents.
      progress: called with how many difference quotients are done, how many are planned, and what they are.

    Attributes:
      length: how many numbers an evaluation takes and gives: what it costs.
      vectorised: whether evaluations run together, which makes each cheap.
      value: the outputs at the leaves themselves, flat.
      moved: how far one rounding of every leaf moves each finite output.
      repeats: whether a second call of the same program gave the same bits.
    """

    def __init__(self, problem: Problem, g: Sequence[Floats], progress: Progress | None) -> None:
        self._problem, self._g, self._progress = problem, flat(g), progress
        self._done = self._planned = 0
        self._theta = flat(problem.leaves)
        self._offsets = np.cumsum([0, *(x.size for x in problem.leaves)])
        self._usual = [usual_size(x) for x in problem.leaves]
        self.length = self._theta.size + self._g.size
        self._rows = max(1, min(_ROWS_A_CALL, _VALUES_A_CALL // max(self.length, 1)))
        # A small problem is vectorised; a network runs one displacement after the other, which is faster there.
        self.vectorised = max(self._theta.size, self._g.size) <= _VECTORISED_UP_TO
        self._width = max([1, *(x.shape[-1] for x in problem.leaves if x.ndim)])
        self._evaluate = (jit_quickly if self.vectorised else jax.jit)(self._outputs)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2, self._theta.size))
        around = np.stack([np.zeros(self._theta.size), *(EPSILON * signs * self._theta)])
        plus, minus = self.displaced(around)
        self.value = plus[0]
        again = self.displaced(around)
        self.repeats = np.array_equal((plus, minus), again, equal_nan=True)
        # How far one rounding of every leaf moves each output bounds what rounding inside the function can do.
        with np.errstate(invalid="ignore"):
            moved = np.abs(np.concatenate([plus[1:], minus]) - self.value).max(0)
        self.moved = np.where(np.isfinite(moved), moved, 0)
        noise = np.maximum(EPSILON * np.abs(self.value), self.moved) * np.abs(self._g)
        self._noise = np.where(np.isfinite(noise), noise, 0)

    def plan(self, quotients: int) -> None:
        """Announce so many more difference quotients to the progress."""
        self._planned += quotients

    def displaced(self, directions: Floats) -> tuple[Floats, Floats]:
        """The flat outputs at x + d and at x - d, for each row d of `directions` over all the leaves' values."""
        return self._run(np.zeros((len(directions), 1), np.int64), directions, np.ones(len(directions)))

    def direction(self, probe: Probe) -> Floats:
        """A probe as a vector over all leaves' values."""
        d = np.zeros(self._theta.size)
        d[self._offsets[probe.leaf] + probe.at] = probe.values
        return d

    def size(self, probe: Probe) -> float:
        """What a probe's steps are relative to: the size of the numbers that it moves, at least a tenth of usual."""
        x, usual = self._problem.leaves[probe.leaf].ravel()[probe.at], self._usual[probe.leaf]
        most = float(np.abs(x).max(initial=0))
        if most == 0 or not np.isfinite(most):
            return usual * float(np.sqrt(x.size))
        return max(most * float(np.linalg.norm(x / most)), 0.1 * usual)

    def slopes(self, probes: Sequence[Probe], relative: Floats) -> Slopes:
        """Difference quotients of every probe at relative steps, an array [steps] or [probes, steps]."""
        sizes = np.array([self.size(p) for p in probes]).reshape(-1, 1)
        steps = np.broadcast_to(relative, (len(probes), np.shape(relative)[-1])) * sizes
        quotients = np.empty((4, *steps.shape))
        narrow = [i for i, p in enumerate(probes) if not self.vectorised and p.at.size <= self._width]
        wide = sorted(set(range(len(probes))) - set(narrow))
        for chosen, gather in ((narrow, self._positions), (wide, self._whole)):
            pairs = np.array([(i, k) for i in chosen for k in range(steps.shape[1])], np.int64).reshape(-1, 2)
            for start in range(0, len(pairs), self._rows):
                i, k = pairs[start : start + self._rows].T
                s = steps[i, k]
                quotients[:, i, k] = self._quotients(*self._run(*gather([probes[n] for n in i]), s), s)
                self._done += len(s)
                if self._progress is not None:
                    self._progress(self._done, max(self._done, self._planned), "central differences")
        own = np.array([largest(self._problem.leaves[p.leaf].ravel()[p.at]) for p in probes])
        weight = np.array([largest(p.values) for p in probes])
        # x + s d is itself rounded, which changes the step by this share of it.
        share = EPSILON * own.reshape(-1, 1) / (steps * weight.reshape(-1, 1))
        right, left, central, noise = quotients
        with np.errstate(invalid="ignore", over="ignore"):
            noise = noise + share * np.abs(central)
        return Slopes(steps, right, left, central, noise, bool(np.isfinite(self.value).all()))

    def _quotients(self, plus: Floats, minus: Floats, s: Floats) -> Floats:
        g = self._g
        with np.errstate(all="ignore"):
            difference, forth = plus - minus, plus - self.value
            # An output that is not finite where it stands has no difference quotient.
            lost = ~np.isfinite(self.value)
            if lost.any():
                difference[:, lost] = forth[:, lost] = 0
            whole, right = difference @ g, forth @ g
            moved = difference != 0
            # Where nothing moves, not even the largest output's rounding was exceeded.
            noise = np.where(moved.any(1), moved @ self._noise, self._noise.max(initial=0))
            return np.stack([right, whole - right, whole / 2, noise]) / s

    def _positions(self, probes: Sequence[Probe]) -> tuple[Indices, Floats]:
        # A position beyond the end of theta is dropped; two columns at least tell this form from the other.
        index = np.full((len(probes), self._width + 1), self._theta.size)
        values = np.zeros(index.shape)
        for row, p in enumerate(probes):
            index[row, : p.at.size] = self._offsets[p.leaf] + p.at
            values[row, : p.at.size] = p.values
        return index, values

    def _whole(self, probes: Sequence[Probe]) -> tuple[Indices, Floats]:
        directions = [self.direction(p) for p in probes]
        return np.zeros((len(probes), 1), np.int64), np.array(directions).reshape(-1, self._theta.size)

    def _run(self, index: Indices, values: Floats, s: Floats) -> tuple[Floats, Floats]:
        # The number of rows is padded so that one compiled program serves every call.
        rows = self._rows if index.shape[1] > 1 or self.vectorised else 1
        outputs = [np.zeros((0, 2, self._g.size))]
        for start in range(0, len(s), rows):
            parts = [x[start : start + rows] for x in (index, values, s)]
            count = len(parts[0])
            padded = [np.pad(x, [(0, rows - count)] + [(0, 0)] * (x.ndim - 1)) if count < rows else x for x in parts]
            outputs.append(np.asarray(self._evaluate(self._theta, list(self._problem.others), *padded))[:count])
        both = np.concatenate(outputs)
        return both[:, 0], both[:, 1]

    def _outputs(self, theta: Any, others: Any, index: Any, values: Any, s: Any) -> Any:
        over = jax.vmap if self.vectorised else functools.partial(functools.partial, jax.lax.map)

        def displaced(row: Any) -> Any:
            index, d, s = row

            def at(s: Any) -> Any:
                x = theta.at[index].add(s * d, mode="drop") if index.shape[0] > 1 else theta + s * d
                parts = [x[a:b] for a, b in itertools.pairwise(self._offsets)]
                leaves = [p.reshape(leaf.shape) for p, leaf in zip(parts, self._problem.leaves, strict=True)]
                return jnp.concatenate([jnp.zeros(0), *(jnp.ravel(y) for y in self._problem.forward(leaves, others))])

            return over(at)(jnp.stack([s, -s]))

        return over(displaced)((index, values, s))


def usual_size(x: Floats) -> float:
    """How large the numbers of a leaf are that are not zero."""
    # The median, which a few huge numbers do not move; of nothing but zeros nothing is known.
    sizes = np.abs(x[np.isfinite(x) & (x != 0)])
    return float(np.median(sizes)) if sizes.size else 1.0
