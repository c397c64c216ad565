"""The verbs that use a tagger: evaluate, tag."""

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO, get_args

import click

from windownet.errors import InputError
from windownet.schema.choices import TagFormat
from windownet.verbs import streams
from windownet.verbs.arguments import PATH

# Which data a run has, where the others say how to read a file.
_OF_TRAINING = ("data.train", "data.dev", "data.test", "data.limit", "data.dev_share")


@click.command()
@click.argument("run", type=PATH)
@click.argument("file")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def evaluate(run: Path, file: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Score the model of RUN on labelled FILE.

    FILE is read as the run's config read its own data, or as data.KEY=VALUE settings say; for a run on the demo corpus
    or a hub data set it is the name of a split.
    """
    from rich.console import Console

    from windownet.data import sources
    from windownet.tagger import artifact
    from windownet.tagger.tagger import Tagger, score, unseen_types
    from windownet.train.scores_table import scores_table

    if file == "-":
        raise InputError("-: required a labelled file, got standard input, which evaluate does not read; name a file")
    loaded = artifact.load(run)
    data = _data_config(loaded.config, settings)
    sentences = sources.read(data, file)
    if unseen := unseen_types(sentences, loaded.tags):
        counts = ", ".join(f"{count} {name}" for name, count in unseen.items())
        click.echo(f"warning: {file} has mentions of types that the model was never shown: {counts}", err=True)
    scores = score(sentences, Tagger(loaded).tag([sentence.words for sentence in sentences]))
    if scores.predicts_only_outside:
        click.echo(f"warning: the model predicts only O; {file} has {scores.gold} mentions", err=True)
    if as_json:
        click.echo(json.dumps(scores.to_json()))
    else:
        Console().print(scores_table(file, scores))


@click.command()
@click.argument("run", type=PATH)
@click.argument("file", default="-")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(TagFormat)),
    default="column",
    show_default=True,
    help="What to write: a word and its tag a row, a JSON object a sentence, or the text with [mentions](TYPE).",
)
@click.option(
    "--columns", is_flag=True, help="FILE is a column file, laid out as the run's data (or data.KEY=VALUE) is."
)
def tag(run: Path, file: str, settings: tuple[str, ...], form: str, columns: bool) -> None:
    """Tag FILE, or standard input for -, with the model of RUN.

    The input is running text, one sentence a line, or column files with --columns. Output comes as input does: line by
    line in a pipe, and without bound on the size of a file. Tags are written in the scheme of the run's data, or in
    that of data.scheme=SCHEME.
    """
    import dataclasses

    from windownet.data import sources
    from windownet.tagger import artifact, stream
    from windownet.tagger.tagger import Tagger

    if file.startswith("data.") and "=" in file and not Path(file).exists():
        # Without FILE the first setting comes in its place.
        file, settings = "-", (file, *settings)
    loaded = artifact.load(run)
    layout = sources.column_format(_data_config(loaded.config, settings))
    if unused := [setting for setting in settings if not (columns or setting.startswith("data.scheme="))]:
        raise InputError(f"argument {unused[0]!r}: required --columns with it; running text has no columns")
    out = streams.binary(sys.stdout, "standard output")

    def write(output: bytes) -> None:
        out.write(output)
        out.flush()

    with _open(file) as source:
        tagger = Tagger(loaded)
        name = "standard input" if file == "-" else file
        if columns:
            untagged = dataclasses.replace(layout, tag_column=None)
            stream.tag_columns(tagger, source, write, name=name, layout=untagged, form=form)
        else:
            stream.tag_text(tagger, source, write, name=name, scheme=layout.scheme, form=form, warn=_warn)


def _warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def _data_config(config: Any, settings: tuple[str, ...]) -> Any:
    from windownet import config as config_module
    from windownet.settings.fields import unused

    if foreign := [setting for setting in settings if not setting.startswith("data.")]:
        raise InputError(f"argument {foreign[0]!r}: required data.KEY=VALUE, for how the file is laid out")
    if idle := [setting for setting in settings if setting.partition("=")[0] in _OF_TRAINING]:
        raise InputError(
            f"argument {' '.join(map(repr, idle))}: required a data.KEY that says how the file is laid out, got what "
            "says what to train on; leave it out"
        )
    # A file named on the command line is where the command line says, not under the training data's folder.
    tree = config.model_dump(mode="json")
    tree["data"]["root"] = "."
    parsed = config_module.parse(tree, "the run's config", settings)
    keys = {setting.partition("=")[0] for setting in settings}
    for line in unused(parsed):
        if line.partition(" = ")[0] in keys:
            _warn(line)
    return parsed.data


def _open(file: str) -> BinaryIO:
    if file == "-":
        return streams.binary(sys.stdin, "standard input")
    try:
        return Path(file).open("rb")
    except FileNotFoundError:
        raise InputError(f"{file}: required a file, found nothing there; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{file}: required a file, got a directory; name a file in it") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; check who may read it") from None
