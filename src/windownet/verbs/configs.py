"""The verbs about configs: init, config, diff, schedule."""

import sys
from pathlib import Path

import click

from windownet.verbs.arguments import PATH


@click.command()
@click.argument("file", type=PATH)
@click.option("--preset", metavar="NAME", help="One of a published tagger: cs224d, cs224n-a3 or senna-wll.")
def init(file: Path, preset: str | None) -> None:
    """Write a commented config to FILE, which must not exist: every field with its default, or a preset."""
    from windownet.errors import InputError
    from windownet.settings import document, presets

    text = document.starter() if preset is None else presets.text(preset)
    try:
        with file.open("x", encoding="utf-8") as new:
            try:
                new.write(text)
                new.flush()
            except BaseException:
                # Half of it may be a config as well.
                file.unlink()
                raise
    except FileExistsError:
        raise InputError(f"{file}: required a file that does not exist yet; name another one, or remove it") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}; name another file") from None


@click.command("config")
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
def show(config: Path, settings: tuple[str, ...]) -> None:
    """Print CONFIG, a tagger's or one of word vectors, complete with its defaults: TOML that trains the same."""
    from windownet import config as config_module
    from windownet.settings.fields import unused

    if config_module.verb_of(config) == "pretrain":
        from windownet.schema.pretrain import PretrainConfig

        click.echo(config_module.load_as(PretrainConfig, config, settings).to_toml(), nl=False)
        return
    resolved = config_module.load(config, settings)
    for line in unused(resolved):
        click.echo(f"warning: {line}", err=True)
    click.echo(resolved.to_toml(), nl=False)


@click.command()
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B", type=PATH)
def diff(first: Path, second: Path) -> None:
    """Show in which fields two configs differ.

    A and B are config files or run folders, both of taggers or both of word vectors. What one leaves at its default
    equals what the other sets to it. Exit status 0 when they are equal, 1 when they differ.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from windownet import config as config_module
    from windownet.errors import InputError
    from windownet.schema.config import Config
    from windownet.schema.pretrain import PretrainConfig
    from windownet.settings import difference

    files = difference.file(first), difference.file(second)
    kinds = [config_module.verb_of(file) for file in files]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{second}: required a config of `windownet {kinds[0]}`, as {first} is, got one of `windownet {kinds[1]}`; "
            "name two of one kind"
        )
    schema = PretrainConfig if kinds[0] == "pretrain" else Config
    found = difference.differences(*(config_module.load_as(schema, file) for file in files))
    if not found:
        return
    table = Table()
    for head in ("key", str(first), str(second)):
        table.add_column(Text(head), overflow="fold")
    for row in found:
        table.add_row(*map(Text, row))
    Console().print(table)
    sys.exit(1)


@click.command()
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--png", type=PATH, help="Draw it into this .png as well (needs matplotlib).")
def schedule(config: Path, settings: tuple[str, ...], png: Path | None) -> None:
    """Draw the learning rate over the run of CONFIG, and print it at the steps where it turns.

    What else follows a curve (schedule.others) is printed beside it.

    The run has as many steps as the config's data give it, or about 1,000 where the data cannot be read.
    """
    from rich.console import Console

    from windownet import config as config_module
    from windownet.errors import InputError
    from windownet.train import rate_curve
    from windownet.train.prepare import prepare
    from windownet.verbs import picture, rate_chart

    if png is not None:
        picture.require_format("--png", png, ["png"])
    resolved = config_module.load(config, settings)
    try:
        steps_an_epoch = prepare(resolved, vectors=False).epochs.steps
    except InputError as error:
        steps_an_epoch = max(1, 1000 // resolved.train.epochs)
        steps = steps_an_epoch * resolved.train.epochs
        click.echo(f"warning: {error}; drawn for a run of {steps:,} steps", err=True)
    curve = rate_curve.of(resolved, steps_an_epoch)
    rate_chart.show(curve, Console())
    if png is not None:
        rate_chart.draw(curve, png)
