"""The command line: parse, call, print. What a verb needs is imported when it runs, so that help is there at once."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.exceptions import Exit

from windownet import __version__, interrupts
from windownet.errors import InputError
from windownet.verbs import configs, streams, written
from windownet.verbs.lint import lint
from windownet.verbs.pretrain import pretrain
from windownet.verbs.runs import runs
from windownet.verbs.sweep import sweep
from windownet.verbs.train import train

if TYPE_CHECKING:
    from rich.console import Console

_FOLDER = click.Path(path_type=Path)
# Which data a run has, where the others say how to read a file.
_OF_TRAINING = ("data.train", "data.dev", "data.test", "data.limit", "data.dev_share")


class _Verbs(click.Group):
    def main(self, *args: Any, **options: Any) -> Any:
        streams.prepare()
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _answered():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _answered():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        streams.require_output(name or "")
        return name, command, rest


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        click.echo(f"windownet: {error}", err=True)
        raise Exit(2) from None
    except KeyboardInterrupt as error:
        interrupts.raise_no_more()
        click.echo(interrupts.line(error), err=True)
        raise Exit(interrupts.status(error)) from None
    except BrokenPipeError:
        # Whoever read our output has what they wanted.
        streams.let_go_of_output()
        raise Exit(0) from None
    except SystemExit as error:
        # rich makes one of it.
        if isinstance(error.__context__, BrokenPipeError):
            raise Exit(0) from None
        raise
    except OSError as error:
        click.echo(f"windownet: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        streams.let_go_of_output()
        raise Exit(2) from None
    except Exception as error:
        # jax says so by the message alone, and has no class for it.
        if not (isinstance(error, MemoryError) or "out of memory" in str(error).lower()):
            raise
        click.echo(
            f"windownet: not enough memory ({error}); a smaller train.batch_size or model.hidden needs less, and "
            "train.accumulate keeps the windows of a step",
            err=True,
        )
        raise Exit(2) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="windownet")
def main() -> None:
    """Train window-model named-entity taggers, and tag with them.

    Settings are fields of the config: section.key=value, such as train.epochs=3, changes one on the command line.
    """


for _verb in (
    configs.init,
    configs.show,
    configs.diff,
    configs.schedule,
    lint,
    sweep,
    pretrain,
    runs,
    train,
):
    main.add_command(_verb)


@main.command()
@click.argument("run", type=_FOLDER)
@click.argument("file")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def evaluate(run: Path, file: str, settings: tuple[str, ...], as_json: bool) -> None:
    """Score the model of RUN on labelled FILE.

    FILE is read as the run's config read its own data, or as data.KEY=VALUE settings say; for a run on the demo corpus
    or a hub data set it is the name of a split.
    """
    from windownet.data import sources
    from windownet.tagger import artifact
    from windownet.tagger.tagger import Tagger, score, unseen_types
    from windownet.train.log import scores_table

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
        _console(stderr=False).print(scores_table(file, scores))


@main.command()
@click.argument("run", type=_FOLDER)
@click.argument("file", default="-")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["column", "jsonl", "text"]),
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


@main.command()
@click.argument("config", type=_FOLDER)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "json_file", type=_FOLDER, help="Write the whole report to this file.")
def gradcheck(config: Path, settings: tuple[str, ...], json_file: Path | None) -> None:
    """Prove the gradients of the network of CONFIG on a batch of its own data.

    Every parameter, in float64: the hand-written reverse mode against jax.grad of the flax reference and against
    central differences. Exit status 1 when one is wrong.
    """
    from windownet import config as config_module
    from windownet.train.proof import prove

    resolved = config_module.load(config, settings)
    if json_file is not None:
        # Better known before the proof than after it.
        written.require(json_file)
    report = prove(resolved, _console())
    click.echo(str(report))
    if json_file is not None:
        written.write(json_file, json.dumps(report.to_json(), indent=1) + "\n")
    sys.exit(0 if report.ok else 1)


@main.command()
@click.argument("file", type=_FOLDER)
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="Neighbours of each word.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["glove", "word2vec", "word2vec-binary", "npy", "safetensors"]),
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
    from windownet.data.neighbours import of_words, shown

    with _bytes_bar() as progress:
        found = of_words(file, words, count, format=form, skip_bad=skip_bad_lines, progress=progress)
    if warning := found.counts.warning():
        click.echo(f"warning: {file}: {warning}", err=True)
    if as_json:
        nearest = {word: [neighbour._asdict() for neighbour in near] for word, near in found.nearest.items()}
        click.echo(json.dumps({"width": found.width, **vars(found.counts), "neighbours": nearest}))
        return
    for word, near in found.nearest.items():
        click.echo("\n".join([shown(word), *(f"  {other.cosine:7.4f}  {shown(other.word)}" for other in near)]))


@main.command()
@click.argument("run", type=_FOLDER)
@click.option("--words", type=click.IntRange(0), default=20, show_default=True, help="Words that moved most to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def drift(run: Path, words: int, as_json: bool) -> None:
    """Show what training did to the word vectors of RUN: which moved, how far, and away from whom.

    The vectors that training began with are made again from the run's config, so its data and its file of vectors must
    still be where they were.
    """
    from windownet.tagger import artifact
    from windownet.train.drift import of_run
    from windownet.train.log import drift_lines, drift_table

    found = of_run(artifact.load(run), words)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    out = _console(stderr=False)
    for line in drift_lines(found):
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    if found.most:
        out.print(drift_table(found))


def _warn(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def _console(stderr: bool = True) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


@contextlib.contextmanager
def _bytes_bar() -> Iterator[Callable[[int, int], None] | None]:
    console = _console()
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("reading", BarColumn(), DownloadColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


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
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
