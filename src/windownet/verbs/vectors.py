"""The verbs about word vectors: neighbours, drift."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from windownet.schema.choices import VectorFormat
from windownet.verbs.arguments import PATH

if TYPE_CHECKING:
    from rich.table import Table

    from windownet.train.drift import Drift

_NEAREST_SHOWN = 4


@click.command()
@click.argument("file", type=PATH)
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="Neighbours of each word.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(VectorFormat)),
    help="Format of FILE; by default its name and first bytes tell.",
)
@click.option("--skip-bad-lines", is_flag=True, help="Count bad lines and go on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lists.")
def neighbours(
    file: Path, words: tuple[str, ...], count: int, form: str | None, skip_bad_lines: bool, as_json: bool
) -> None:
    """Print the words of FILE whose vectors have the highest cosines with that of each WORD.

    FILE is text of GloVe, word2vec or fastText (.vec), binary of word2vec, either as it is or packed by gzip or xz, or
    .npy with a word a line in NAME.vocab.txt, or safetensors.
    """
    from rich.console import Console

    from windownet.byte_bar import byte_bar
    from windownet.data.neighbours import of_words, shown

    with byte_bar(Console(stderr=True)) as progress:
        found = of_words(file, words, count, format=form, skip_bad=skip_bad_lines, progress=progress)
    if warning := found.counts.warning():
        click.echo(f"warning: {file}: {warning}", err=True)
    if as_json:
        nearest = {word: [neighbour._asdict() for neighbour in near] for word, near in found.nearest.items()}
        click.echo(json.dumps({"width": found.width, **vars(found.counts), "neighbours": nearest}))
        return
    for word, near in found.nearest.items():
        click.echo("\n".join([shown(word), *(f"  {other.cosine:7.4f}  {shown(other.word)}" for other in near)]))


@click.command()
@click.argument("run", type=PATH)
@click.option("--words", type=click.IntRange(0), default=20, show_default=True, help="Words that moved most to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def drift(run: Path, words: int, as_json: bool) -> None:
    """Show what training did to the word vectors of RUN: which moved, how far, and away from whom.

    The vectors that training began with are made again from the run's config, so its data and its file of vectors must
    still be where they were.
    """
    from rich.console import Console

    from windownet.tagger import artifact
    from windownet.train.drift import of_run

    found = of_run(artifact.load(run), words)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    out = Console()
    for line in drift_lines(found):
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    if found.most:
        out.print(_drift_table(found))


def drift_lines(moves: "Drift") -> list[str]:
    """How the word table moved, in sentences; of nothing that there are no words for."""
    lines = [] if moves.epoch is None else [_of_epoch(moves)]
    lines += [
        f"{moves.words:,} words, {moves.trained:,} of them in training text; "
        f"{moves.untouched:,} vectors are bit for bit what they were"
    ]
    if not moves.trained:
        return [*lines, "no word of the table is in training text, so there is none that training could move"]
    if not moves.distance:
        return [*lines, "no word in training text moved"]
    lines += [
        f"words in training text moved by {moves.distance:.3f} on average, from a length of {moves.length:.3f}",
        f"of their nearest words {100 * moves.kept:.0f} % still are ({moves.examined:,} words examined)",
    ]
    if moves.pairs:
        lines.append(
            f"cosine with former nearest words that did not train: {moves.gap_before:.3f} before, "
            f"{moves.gap_after:.3f} after ({moves.pairs:,} pairs)"
        )
    return lines


def _of_epoch(moves: "Drift") -> str:
    line = f"the model of epoch {moves.epoch}, of {moves.epochs}"
    if moves.frozen_epochs:
        line += f"; the table was frozen up to epoch {moves.frozen_epochs}"
    return line


def _drift_table(moves: "Drift") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="words that moved most", title_justify="left")
    table.add_column("word")
    for name in ("in training", "distance", "cosine"):
        table.add_column(name, justify="right")
    table.add_column("nearest before")
    table.add_column("nearest after")
    for moved in moves.most:
        near = (escape(", ".join(words[:_NEAREST_SHOWN])) for words in (moved.before, moved.after))
        table.add_row(escape(moved.word), f"{moved.count:,}", f"{moved.distance:.3f}", f"{moved.cosine:.3f}", *near)
    return table
