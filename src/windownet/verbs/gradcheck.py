"""The verb that proves a network's gradients."""

import json
import sys
from pathlib import Path

import click

from windownet.verbs import written
from windownet.verbs.arguments import PATH


@click.command()
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "json_file", type=PATH, help="Write the whole report to this file.")
def gradcheck(config: Path, settings: tuple[str, ...], json_file: Path | None) -> None:
    """Prove the gradients of the network of CONFIG on a batch of its own data.

    Every parameter, in float64: the hand-written reverse mode against jax.grad of the flax reference and against
    central differences. Exit status 1 when one is wrong.
    """
    from rich.console import Console

    from windownet import config as config_module
    from windownet.train.proof import prove

    resolved = config_module.load(config, settings)
    if json_file is not None:
        # Better known before the proof than after it.
        written.require(json_file)
    report = prove(resolved, Console(stderr=True))
    click.echo(str(report))
    if json_file is not None:
        written.write(json_file, json.dumps(report.to_json(), indent=1) + "\n")
    sys.exit(0 if report.ok else 1)
