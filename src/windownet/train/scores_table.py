"""Scores as a table for a terminal, however narrow it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from windownet.data.scores import Figures, Scores

_PERCENTS = ("precision", "recall", "F1")
_COUNTS = ("gold", "predicted", "correct")
# Wider than any other column, so that it alone is folded.
_FOLDED = 12
_UNBOUNDED = 10_000


def scores_table(title: str, scores: Scores) -> RenderableType:
    """Precision, recall and F1, percent, by type and over all.

    No figure is ever cut: on a terminal too narrow for all, the counts are left out; on one narrower still there are
    lines instead of a table.
    """
    return _ScoresTable(title, scores)


@dataclass(frozen=True)
class _ScoresTable:
    title: str
    scores: Scores

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        rows = [*self.scores.by_type.items(), ("all", self.scores)]
        # A longer type is folded before a column is left out.
        fold = max(0, max(cell_len(name) for name, _ in rows) - _FOLDED)
        for counts in (True, False):
            table = self._table(rows, counts)
            width = table.__rich_measure__(console, options.update_width(_UNBOUNDED)).maximum
            if width - fold <= options.max_width:
                yield table
                return
        yield Text(self.title)
        for name, figures in rows:
            yield Text(
                f"{name}: "
                + ", ".join(f"{head} {value}" for head, value in zip(_PERCENTS, _percents(figures), strict=True))
            )

    def _table(self, rows: Sequence[tuple[str, Figures]], counts: bool) -> Table:
        table = Table(title=Text(self.title), title_justify="left")
        table.add_column("type", overflow="fold")
        for head in (*_PERCENTS, *(_COUNTS if counts else ())):
            table.add_column(head, justify="right")
        for number, (name, figures) in enumerate(rows, start=2):
            counted = map(str, (figures.gold, figures.predicted, figures.correct) if counts else ())
            # Over all stands apart from the types.
            table.add_row(Text(name), *_percents(figures), *counted, end_section=number == len(rows))
        return table


def _percents(figures: Figures) -> Iterator[str]:
    return (f"{value:.2f}" for value in (figures.precision, figures.recall, figures.f1))
