"""The verb that lists runs."""

import json
from pathlib import Path

import click

from windownet.verbs.arguments import PATH


@click.command()
@click.argument("folder", type=PATH, default="runs", metavar="[DIR]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a run instead of a table.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs of taggers in DIR (runs), the one of the highest dev F1 first.

    A run that is resumable goes on with `windownet train --resume RUN`. One with a file that cannot be read is passed
    over, with a warning.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from windownet.verbs.run_list import find

    warnings: list[str] = []
    found = find(folder, warnings.append)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        for run in found:
            click.echo(json.dumps(run.to_json()))
        return
    if not found:
        if not warnings:
            click.echo(f"{folder}: no tagger's run in it; `windownet train CONFIG` makes one", err=True)
        return
    table = Table()
    table.add_column("run")
    table.add_column("state")
    for head in ("dev F1", "test F1", "best\nepoch", "epochs", "seconds", "tokens/s"):
        table.add_column(head, justify="right")

    def figure(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    for run in found:
        table.add_row(
            Text(run.folder.name or str(run.folder)),
            run.state,
            figure(run.dev_f1, ".2f"),
            figure(run.test_f1, ".2f"),
            figure(run.best_epoch, "d"),
            f"{run.epoch}/{run.epochs}",
            figure(run.seconds, ".1f"),
            figure(run.tokens_per_second, ",.0f"),
        )
    console = Console()
    # --resume needs a name as it is, so nothing is cut or folded: what is wider than its place is better broken by a
    # terminal, and whole in a pipe. Names of folders have 255 bytes at most.
    anywhere = console.options.update(max_width=1000)
    if console.measure(table, options=anywhere).maximum > console.width:
        table.padding = 0
    console.width = max(console.width, console.measure(table, options=anywhere).maximum)
    console.print(table)
