"""The verb that looks at data."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from windownet.verbs.arguments import PATH

if TYPE_CHECKING:
    from rich.table import Table

    from windownet.data.lint import LintReport


@click.command()
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def lint(config: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Look at the data of CONFIG before anything is trained on it.

    Errors are to be mended: a column that holds no words, tags that their scheme does not allow, types that train never
    has, parts without mentions, more than 5 % of a part's sentences in train. Notes are to be known: a smaller overlap,
    types with few mentions, repeated sentences and such that are tagged in two ways, very long ones, casing or digits
    unlike train's. Exit status 1 when there is an error.
    """
    from windownet import config as config_module
    from windownet.data.lint import lint as look

    report = look(config_module.load(config, settings))
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _print(report)
    sys.exit(0 if report.ok else 1)


def _print(report: "LintReport") -> None:
    from rich.console import Console

    console = Console()
    console.print(_parts(report))
    console.print(_types(report))
    for finding in report.findings:
        style = "bold red" if finding.level == "error" else None
        console.print(str(finding), style=style, highlight=False, markup=False, soft_wrap=True)
    if not report.findings:
        console.print("nothing found")


def _parts(report: "LintReport") -> "Table":
    from rich.table import Table

    # A part is a column, so that a narrow terminal has room for all figures.
    table = Table()
    table.add_column("")
    for name in report.parts:
        table.add_column(name, justify="right")
    parts = report.parts.values()
    for head, counts in (
        ("sentences", [part.sentences for part in parts]),
        ("words", [part.words for part in parts]),
        ("longest", [part.longest for part in parts]),
    ):
        table.add_row(head, *(f"{count:,}" for count in counts))
    for head, shares in (
        ("unknown", [part.unknown for part in parts]),
        ("upper case", [part.capitalized for part in parts]),
        ("digits", [part.digits for part in parts]),
        ("no vector", [part.without_vector for part in parts if part.without_vector is not None]),
    ):
        if shares:
            table.add_row(head, *(f"{share:.1%}" for share in shares))
    return table


def _types(report: "LintReport") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("mentions of")
    for name in report.parts:
        table.add_column(name, justify="right")
    for type in sorted({type for part in report.parts.values() for type in part.mentions}):
        table.add_row(Text(type), *(f"{part.mentions.get(type, 0):,}" for part in report.parts.values()))
    return table
