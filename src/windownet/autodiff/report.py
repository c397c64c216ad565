"""What a gradient check found: comparisons, the leaves they belong to, and the report of them all."""

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_NUMBERS = ("hand", "required", "error", "tolerance")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One value of the hand-written rule beside what a witness says of it.

    Attributes:
      witness: who says so: `jax.vjp`, `central differences`, `untouched rows`, or the duty by its name.
      leaf: the parameter or input whose gradient it is; empty where the comparison is of no leaf.
      place: which of its coordinates, `[3, 17]`; or which direction, `row 3` or `direction 1`.
      hand: what the hand-written rule gives.
      expected: what the witness gives.
      error: their distance; infinite where one is finite and the other is not.
      tolerance: the largest error that passes.
      op: the op whose rule it is, where that is known.
      note: what the numbers alone do not say.
    """

    witness: str
    leaf: str
    place: str
    hand: float
    expected: float
    error: float
    tolerance: float
    op: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; a NaN never is."""
        return self.error <= self.tolerance

    @property
    def severity(self) -> float:
        """Error over tolerance: above 1 is wrong, and the largest is the worst."""
        if self.error == 0:
            return 0.0
        return math.inf if math.isnan(self.error) or self.tolerance == 0 else self.error / self.tolerance

    def __str__(self) -> str:
        where = " ".join(part for part in (f"op {self.op!r}," if self.op else "", self.leaf + self.place) if part)
        start = ": ".join(part for part in (where.rstrip(","), self.witness) if part)
        if math.isnan(self.hand) and math.isnan(self.expected) and self.note:
            return f"{start}: {self.note}"
        judged = f"error {self.error:.2g}, tolerance {self.tolerance:.2g}"
        numbers = f"hand {self.hand:.10g}, required {self.expected:.10g} ({judged})"
        return f"{start}: {numbers}{'; ' + self.note if self.note else ''}"


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """What was found of one leaf.

    Attributes:
      name, shape, dtype: the leaf as it was given.
      largest: its largest absolute gradient.
      comparisons: the worst comparison with each witness that judged it.
      probes: in how many coordinates and directions central differences were taken.
      coordinates: how many of them are coordinates.
      kinks: how many coordinates lie on a kink.
      unresolved: in how many rounding hides the derivative, so that the differences prove nothing.
      untouched: rows that the function does not read and whose gradient is therefore exactly zero, where it has rows.
      step: the step that the sweep chose, absolute; None where there was nothing to sweep.
      sweep: (step, relative error of the central difference there), from the largest step down: a V where all is well.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    largest: float
    comparisons: tuple[Comparison, ...]
    probes: int = 0
    coordinates: int = 0
    kinks: int = 0
    unresolved: int = 0
    untouched: int = 0
    step: float | None = None
    sweep: tuple[tuple[float, float], ...] = ()

    @property
    def worst(self) -> Comparison | None:
        """The comparison that came nearest to its tolerance, or went furthest beyond."""
        return worst_of(self.comparisons)

    @property
    def ok(self) -> bool:
        """Whether every witness agrees."""
        return all(c.ok for c in self.comparisons)


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of a check; `str(report)` is its table.

    Attributes:
      subject: the function or op that was checked.
      seed: what every random choice was drawn from; the same seed repeats the check.
      leaves: one report a leaf.
      duties: what else a rule owes, each with its worst comparison; None where it is not owed for these inputs.
      ops: for a whole model, the worst comparison of every op that it recorded, by the op's name.
    """

    subject: str
    seed: int
    leaves: tuple[LeafReport, ...]
    duties: Mapping[str, Comparison | None] = dataclasses.field(default_factory=dict)
    ops: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every comparison of the report; those of single ops first, for they name the culprit."""
        owed = [c for c in self.duties.values() if c is not None]
        return (*self.ops.values(), *(c for leaf in self.leaves for c in leaf.comparisons), *owed)

    @property
    def wrong(self) -> tuple[Comparison, ...]:
        """The comparisons that failed, the worst first."""
        return tuple(sorted((c for c in self.comparisons if not c.ok), key=lambda c: -c.severity))

    @property
    def ok(self) -> bool:
        """Whether every comparison passed."""
        return not self.wrong

    @property
    def worst(self) -> Comparison | None:
        """What went furthest beyond its tolerance, or came nearest to it; None if there was nothing to compare."""
        return worst_of(self.comparisons)

    @property
    def kinks(self) -> int:
        """How many coordinates lie on a kink."""
        return sum(leaf.kinks for leaf in self.leaves)

    @property
    def probes(self) -> int:
        """In how many coordinates and directions central differences were taken."""
        return sum(leaf.probes for leaf in self.leaves)

    def raise_if_wrong(self) -> None:
        """Raise an AssertionError that states the worst comparison in its first line, then the table; else nothing."""
        if not self.ok:
            raise AssertionError(f"{self.subject}: wrong gradient: {self.worst}\n{self}")

    def to_json(self) -> dict[str, Any]:
        """The whole report as what `json.dumps` takes; numbers that JSON lacks are the strings nan, inf and -inf."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "seed": self.seed,
            "probes": self.probes,
            "kinks": self.kinks,
            "worst": _comparison_json(self.worst),
            "leaves": [_leaf_json(leaf) for leaf in self.leaves],
            "duties": {name: _comparison_json(c) for name, c in self.duties.items()},
            "ops": {name: _comparison_json(c) for name, c in self.ops.items()},
        }

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [_leaf_table(self)]
        if any(leaf.sweep for leaf in self.leaves):
            parts.append(_sweep_table(self))
        if self.duties:
            parts.append(_named_table("what else the rule owes", "duty", self.duties))
        if self.ops:
            parts.append(_named_table("ops, each alone", "op", self.ops))
        share = f"{self.probes} probes, {self.kinks} kinks"
        verdict = "[green]right[/green]" if self.ok else f"[red]WRONG[/red]: {escape(str(self.worst))}"
        parts.append(Text.from_markup(f"{escape(self.subject)}: {verdict}; {share}; seed {self.seed}"))
        return Group(*parts)

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=160, color_system=None, force_terminal=False).print(self)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def worst_of(comparisons: tuple[Comparison, ...] | list[Comparison]) -> Comparison | None:
    """The comparison of the largest error in units of its tolerance; the first such on a tie."""
    return max(comparisons, key=lambda c: (not c.ok, c.severity), default=None)


def _leaf_table(report: Report) -> Table:
    table = _table(f"gradients of {report.subject}: the worst of each leaf")
    for name in ("leaf", "type", "largest", "place", "witness"):
        table.add_column(name, overflow="fold")
    for name in ("hand", "required", "error", "tolerance", "probes", "kinks", "blind", "untouched"):
        table.add_column(name, justify="right")
    for leaf in report.leaves:
        cells = [""] * 6
        if (c := leaf.worst) is not None:
            judged = [f"{x:.5g}" for x in (c.hand, c.expected)] + [f"{x:.0e}" for x in (c.error, c.tolerance)]
            cells = [escape(c.place.strip()), c.witness, *judged]
        counts = [str(n) for n in (leaf.probes, leaf.kinks, leaf.unresolved, leaf.untouched)]
        shape = f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        style = None if leaf.ok else "red"
        table.add_row(escape(leaf.name), escape(shape), f"{leaf.largest:.1e}", *cells, *counts, style=style)
    return table


def _sweep_table(report: Report) -> Table:
    table = _table("step sweep: log10 of the central difference's relative error, from the largest step down")
    for name in ("leaf", "chosen step", "from", "to", "curve"):
        table.add_column(name, overflow="fold")
    for leaf in report.leaves:
        if leaf.sweep and leaf.step is not None:
            curve = " ".join(f"{math.log10(max(e, 1e-16)):.0f}" if math.isfinite(e) else "." for _, e in leaf.sweep)
            ends = [f"{leaf.sweep[i][0]:.1e}" for i in (0, -1)]
            table.add_row(escape(leaf.name), f"{leaf.step:.1e}", *ends, curve)
    return table


def _named_table(title: str, kind: str, rows: Mapping[str, Comparison | None]) -> Table:
    table = _table(title)
    for name in (kind, "", "place", "hand", "required", "error", "tolerance", "note"):
        table.add_column(name, overflow="fold", justify="right" if name in _NUMBERS else "left")
    for name, c in rows.items():
        if c is None:
            table.add_row(escape(name), "not owed")
            continue
        judged = [f"{x:.5g}" for x in (c.hand, c.expected)] + [f"{x:.0e}" for x in (c.error, c.tolerance)]
        cells = [escape(name), "ok" if c.ok else "WRONG", escape(c.leaf + c.place), *judged, escape(c.note)]
        table.add_row(*cells, style=None if c.ok else "red")
    return table


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _leaf_json(leaf: LeafReport) -> dict[str, Any]:
    return {
        "name": leaf.name,
        "shape": list(leaf.shape),
        "dtype": leaf.dtype,
        "ok": leaf.ok,
        "largest": _number(leaf.largest),
        "worst": _comparison_json(leaf.worst),
        "comparisons": [_comparison_json(c) for c in leaf.comparisons],
        "probes": leaf.probes,
        "coordinates": leaf.coordinates,
        "kinks": leaf.kinks,
        "unresolved": leaf.unresolved,
        "untouched": leaf.untouched,
        "step": leaf.step,
        "sweep": [[_number(step), _number(error)] for step, error in leaf.sweep],
    }


def _comparison_json(c: Comparison | None) -> dict[str, Any] | None:
    if c is None:
        return None
    values = {k: _number(v) if isinstance(v, float) else v for k, v in dataclasses.asdict(c).items()}
    return {"ok": c.ok, **values}


def _number(x: float) -> float | str:
    return x if math.isfinite(x) else str(x)
