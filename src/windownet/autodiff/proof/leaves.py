"""One problem, leaf by leaf: the hand gradient beside jax's in every entry, and beside differences where they tell."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from windownet.autodiff.proof.differences import RATIO, SWEEP, Differences, Indices, Probe, Slopes
from windownet.autodiff.proof.problem import Floats, Problem, place_of
from windownet.autodiff.proof.verdicts import JAX, Verdict, errors, exact_tolerance, judge, rounding
from windownet.autodiff.report import Comparison, LeafReport, worst_of

UNTOUCHED = "untouched rows"

_ALL_COORDINATES_UP_TO = 512
_COORDINATES_OF_A_KIND = 4
_DIRECTIONS = 2
_ROWS = 8
_TABLE_ROWS = 256
_VALUES_FOR_ROWS = 2**26
_QUESTIONED = 512
_QUESTIONED_AT_FIRST = 4
_POISONINGS = 64
_SMALL = 1e-6


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradients to compare, each a list with one array a leaf.

    Attributes:
      hand: by the rule on trial.
      by_jax: by jax.
      moved: how far one rounding of every input moves jax's.
      units: the `natural_size` of each leaf.
      natural: the same, or how steep the function is elsewhere: what rounding inside a rule is relative to.
    """

    hand: Sequence[Floats]
    by_jax: Sequence[Floats]
    moved: Sequence[Floats]
    units: Sequence[float]
    natural: Sequence[float]


def examine(
    problem: Problem,
    gradients: Gradients,
    differences: Differences,
    rng: np.random.Generator,
    touched: Mapping[str, Indices],
) -> tuple[tuple[LeafReport, ...], list[Probe]]:
    """Compare every leaf's gradient with jax's, with central differences, and with zero where nothing is read.

    Args:
      problem: the function and its leaves.
      gradients: what to compare.
      differences: the evaluator of the same problem and cotangents.
      rng: where directions and coordinates are drawn from.
      touched: the rows that a leaf is known to be read at, by the leaf's name; found out for the others.

    Returns:
      One report a leaf, and the coordinates that lie on a kink.

    Raises:
      ValueError: the function reads a row that `touched` does not name.
    """
    leaves = [_Leaf(problem, gradients, differences, i, rng, touched.get(n)) for i, n in enumerate(problem.names)]
    directions = [p for leaf in leaves for p in leaf.directions()]
    probes = [p for leaf in leaves for p in leaf.probes()]
    # Where an evaluation costs little every probe gets the whole sweep; elsewhere only the two steps that its leaf's
    # sweep found best, and the rest when they disagree.
    thorough = differences.vectorised
    differences.plan(len(SWEEP) * len(directions) + (len(SWEEP) if thorough else 2) * len(probes))
    swept = differences.slopes(directions, SWEEP)
    for leaf in leaves:
        leaf.judge(directions, swept, final=True)
        leaf.choose_step(directions, swept)
    chosen = np.array([leaves[p.leaf].relative_step for p in probes]).reshape(-1, 1) * np.array([1, 1 / RATIO])
    slopes = differences.slopes(probes, SWEEP if thorough else chosen)
    for leaf in leaves:
        leaf.judge(probes, slopes, final=thorough)
    while doubtful := [p for leaf in leaves for p in leaf.doubtful()]:
        differences.plan(len(SWEEP) * len(doubtful))
        slopes = differences.slopes(doubtful, SWEEP)
        for leaf in leaves:
            leaf.judge(doubtful, slopes, final=True)
    return tuple(leaf.report() for leaf in leaves), [p for leaf in leaves for p in leaf.kinks]


class _Leaf:
    def __init__(
        self,
        problem: Problem,
        gradients: Gradients,
        differences: Differences,
        index: int,
        rng: np.random.Generator,
        touched: Indices | None,
    ) -> None:
        self._differences, self._index, self._rng = differences, index, rng
        self._name, self._dtype, self._x = problem.names[index], problem.arguments.dtypes[index], problem.leaves[index]
        self._hand, self._by_jax = gradients.hand[index], gradients.by_jax[index]
        self._error = errors(self._hand, self._by_jax).ravel()
        tolerance = exact_tolerance(self._hand, self._by_jax, gradients.moved[index], gradients.natural[index])
        self._tolerance = tolerance.ravel()
        self._rounding = rounding(self._by_jax, gradients.moved[index], gradients.natural[index]).ravel()
        sizes = np.maximum(np.abs(self._hand), np.abs(self._by_jax)).ravel()
        self._sizes = np.where(np.isfinite(sizes), sizes, 0)
        self._untouched = self._find_untouched(touched)
        self._verdicts: dict[str, Verdict] = {}
        self._pending: list[Probe] = []
        self.kinks: list[Probe] = []
        self._step: float | None = None
        self._curve: tuple[tuple[float, float], ...] = ()
        self.relative_step = float(SWEEP[3])

    def directions(self) -> list[Probe]:
        alive = np.flatnonzero(np.repeat(~self._untouched, self._width))
        return [self._random(f" direction {n}", alive) for n in range(_DIRECTIONS)] if alive.size else []

    def probes(self) -> list[Probe]:
        size = self._x.size
        if size <= (_ALL_COORDINATES_UP_TO if self._differences.vectorised else _ALL_COORDINATES_UP_TO // 16):
            return [self._coordinate(i) for i in range(size) if not self._unread(i)]
        order = np.argsort(self._sizes, kind="stable")
        order = order[self._sizes[order] > 0]
        n = _COORDINATES_OF_A_KIND
        drawn = [self._rng.choice(k, min(n, len(k)), replace=False) for k in (order, np.arange(size)) if len(k)]
        drawn.append(np.flatnonzero(~np.isfinite(self._hand))[:n])
        chosen = [i for i in np.unique(np.concatenate([order[:n], order[-n:], *drawn])) if not self._unread(i)]
        return [*map(self._coordinate, chosen), *self._row_probes()]

    def choose_step(self, probes: Sequence[Probe], slopes: Slopes) -> None:
        for i, p in enumerate(probes):
            if p.leaf == self._index and self._step is None:
                central, noise = slopes.central[i], slopes.noise[i]
                with np.errstate(invalid="ignore", over="ignore"):
                    best = (16 * central[1:] - central[:-1]) / 15
                    doubt = np.append(np.abs(np.diff(best)), np.inf) + noise[1:]
                if not np.isfinite(doubt).any():
                    continue
                k = int(np.nanargmin(np.where(np.isfinite(doubt), doubt, np.nan)))
                scale = max(abs(best[k]), float(np.linalg.norm(self._sizes[p.at] * p.values)), 1e-300)
                relative = np.abs(central - best[k]) / scale
                self._curve = tuple(zip(slopes.steps[i].tolist(), relative.tolist(), strict=True))
                self._step, self.relative_step = float(slopes.steps[i, k]), float(SWEEP[k])

    def judge(self, probes: Sequence[Probe], slopes: Slopes, final: bool) -> None:
        hand, by_jax = self._hand.ravel(), self._by_jax.ravel()
        for i, p in enumerate(probes):
            if p.leaf != self._index:
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                along, along_by_jax = (float(x[p.at] @ p.values) for x in (hand, by_jax))
                size, floor = (float(np.linalg.norm(x[p.at] * p.values)) for x in (self._sizes, self._rounding))
            most = float(self._sizes.max(initial=0))
            verdict = judge(slopes, i, (self._name, p.place), along, along_by_jax, size, most, floor)
            if final or (verdict.comparison.ok and not verdict.unresolved):
                self._verdicts[p.place] = verdict
                self.kinks += [p] if verdict.kink and p.place.startswith("[") else []
            else:
                self._pending.append(p)

    def doubtful(self) -> list[Probe]:
        # Entries that differ from jax's come a few at a time, then more: one that no kink excuses settles it.
        pending, self._pending = self._pending, []
        questioned = self._questioned()
        judged = [i for i in questioned if self._place(i) in self._verdicts]
        if all(self._excused(i) for i in judged):
            known = {p.place for p in pending}
            rest = [i for i in questioned if i not in judged and self._place(i) not in known]
            pending += [self._coordinate(i) for i in rest[: max(_QUESTIONED_AT_FIRST, len(judged))]]
        return pending

    def report(self) -> LeafReport:
        comparisons: list[Comparison] = []
        verdicts = self._verdicts.values()
        # The derivatives to either side of several kinks need not enclose a sum of slopes chosen for each, so along
        # more than a coordinate a kink is counted and left to the coordinates.
        judged = [v.comparison for v in verdicts if v.comparison.ok or not v.kink or v.comparison.place.startswith("[")]
        # Of two that are infinitely wrong the coordinate says more than the direction that it spoils.
        judged.sort(key=lambda c: not c.place.startswith("["))
        if self._error.size:
            error = self._error.copy()
            error[[i for i in self._questioned() if self._excused(i)]] = 0
            with np.errstate(divide="ignore", invalid="ignore"):
                i = int(np.argmax(np.where(error == 0, 0, error / self._tolerance)))
            hand, by_jax, off, allowed = (float(a.flat[i]) for a in (self._hand, self._by_jax, error, self._tolerance))
            comparisons.append(Comparison(JAX, self._name, self._place(i), hand, by_jax, off, allowed))
        if (numeric := worst_of(judged)) is not None:
            comparisons.append(numeric)
        rows = np.flatnonzero(self._untouched)
        if rows.size:
            strays = np.abs(self._hand.reshape(-1, self._width)[rows])
            at = np.unravel_index(int(np.argmax(np.where(np.isnan(strays), np.inf, strays))), strays.shape)
            i = int(rows[at[0]]) * self._width + int(at[1])
            stray = float(self._hand.flat[i])
            comparisons.append(Comparison(UNTOUCHED, self._name, self._place(i), stray, 0.0, abs(stray), 0.0))
        return LeafReport(
            name=self._name,
            shape=self._x.shape,
            dtype=self._dtype,
            largest=float(np.abs(self._hand).max(initial=0)),
            comparisons=tuple(comparisons),
            probes=len(verdicts),
            coordinates=sum(place.startswith("[") for place in self._verdicts),
            kinks=len(self.kinks),
            unresolved=sum(v.unresolved for v in verdicts),
            untouched=int(rows.size),
            step=self._step,
            sweep=self._curve,
        )

    @property
    def _width(self) -> int:
        return self._x.shape[-1] if self._x.ndim else 1

    def _questioned(self) -> list[int]:
        with np.errstate(divide="ignore", invalid="ignore"):
            severity = np.where(self._error <= self._tolerance, 0, self._error / self._tolerance)
        order = np.argsort(-severity, kind="stable")[:_QUESTIONED]
        return [int(i) for i in order if severity[i] > 0]

    def _excused(self, i: int) -> bool:
        # At a kink any slope between the sides is right; where jax has none the differences alone decide.
        verdict = self._verdicts.get(self._place(i))
        if verdict is None or not verdict.comparison.ok:
            return False
        if np.isfinite(self._by_jax.flat[i]):
            return verdict.kink and not verdict.unresolved
        # Of a slope that is zero rounding hides all but how small it is.
        small = verdict.comparison.tolerance <= _SMALL * float(self._sizes.max(initial=0))
        return small or not verdict.unresolved

    def _unread(self, i: int) -> bool:
        return bool(self._untouched[i // self._width])

    def _place(self, i: int) -> str:
        return place_of(i, self._x.shape)

    def _coordinate(self, i: int) -> Probe:
        return Probe(self._index, self._place(int(i)), np.array([i]), np.ones(1))

    def _random(self, place: str, index: Indices) -> Probe:
        d = self._rng.standard_normal(index.size)
        return Probe(self._index, place, index, d / np.linalg.norm(d))

    def _row_probes(self) -> list[Probe]:
        if self._x.ndim < 2:
            return []
        alive = np.flatnonzero(~self._untouched)
        if not self._untouched.any():
            alive = np.sort(self._rng.choice(alive, min(_ROWS, len(alive)), replace=False))
        # A table with more rows than there are probes for is probed several rows at a time.
        most = min(_TABLE_ROWS, max(_ROWS, _VALUES_FOR_ROWS // self._differences.length))
        groups = np.array_split(alive, min(most, len(alive))) if alive.size else []
        probes = []
        for rows in groups:
            index = (rows[:, None] * self._width + np.arange(self._width)).ravel()
            named = f" row {rows[0]}" if len(rows) == 1 else f" rows {rows[0]} to {rows[-1]}"
            probes.append(self._random(named, index))
        return probes

    def _find_untouched(self, touched: Indices | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        rows = self._x.size // self._width if self._width else 0
        untouched = np.zeros(rows, bool)
        if self._x.ndim != 2 or not self._x.size:
            return untouched
        if touched is not None:
            candidates = np.setdiff1d(np.arange(rows), touched)
        else:
            candidates = np.flatnonzero((self._by_jax.reshape(rows, -1) == 0).all(1))
        # A zero gradient does not show that a row is untouched; that the value does not notice what stands there does.
        queue, tries = [candidates], 0
        while queue and tries < _POISONINGS:
            part = queue.pop()
            if not part.size:
                continue
            tries += 1
            if self._ignores(part):
                untouched[part] = True
            elif part.size > 1:
                queue += np.array_split(part, 2)
            elif touched is not None:
                raise ValueError(
                    f"rows: every row of leaf {self._name} that the function reads is required; it reads row "
                    f"{part[0]}, which is not named"
                )
        return untouched

    def _ignores(self, rows: Indices) -> bool:
        index = (rows[:, None] * self._width + np.arange(self._width)).ravel()
        size = 10 * max(float(np.abs(self._x).max(initial=0)), 1.0)
        # A NaN may be lost in a comparison and a number in a saturation; hardly both.
        poisons = [np.full(index.size, np.nan), size * self._rng.standard_normal(index.size)]
        directions = [self._differences.direction(Probe(self._index, "", index, p)) for p in poisons]
        values = np.concatenate(self._differences.displaced(np.stack(directions)))
        return all(np.array_equal(v, self._differences.value, equal_nan=True) for v in values)
