"""What the lecture's scripts share: their arguments, the document they fill in, and how their figures look."""

import argparse
import io
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from windownet import config as config_module, experiment, run_folder
from windownet.errors import InputError
from windownet.pretrain import loop
from windownet.schema.config import Config
from windownet.schema.pretrain import PretrainConfig
from windownet.verbs import written

ROOT = Path(__file__).resolve().parents[1]
BLUE, LIGHT, RED, GREY = "#2a6f97", "#7aa6c2", "#c8553d", "#b0b0b0"


def run(main: Callable[[], None]) -> None:
    """Run a script; what the person who started it can mend is one line, and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"{_name()}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def count(text: str) -> int:
    """An argument that counts something of which there must be one."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"required a whole number from 1 on, got {text!r}")
    return int(text)


def output(text: str) -> Path:
    """An argument that names a file to write, which must be possible before anything is computed."""
    written.require(Path(text))
    return Path(text)


def _figure(text: str) -> Path:
    if Path(text).suffix != ".png":
        raise InputError(f"{text}: required a name that ends in .png, got another; rename the figure")
    return output(text)


def _document(text: str) -> Path:
    _filled(output(text), "")
    return Path(text)


def _name() -> str:
    return Path(sys.argv[0]).stem


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows --figure and --document; the description's first line is its help."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--figure", type=_figure, help="draw into this file")
    made.add_argument(
        "--document", type=_document, help="put table and verdict into this document, between this name's marks"
    )
    return made


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """The same for a script on a network and its data: it takes a config and changes to it."""
    made = parser(description)
    made.add_argument(
        "config", nargs="*", help="CONFIG and key=value; by default configs/demo.toml made small by the script"
    )
    return made


def training_parser(description: str | None, seeds: int) -> argparse.ArgumentParser:
    """The same for a script that trains: it takes --seeds as well."""
    made = config_parser(description)
    add_seeds(made, seeds)
    return made


def add_seeds(parser: argparse.ArgumentParser, default: int) -> None:
    """Let a parser know --seeds."""
    parser.add_argument(
        "--seeds", type=count, default=default, help=f"runs of each setting, of seeds 0, 1, ...; by default {default}"
    )


def config(args: argparse.Namespace, *smaller: str, varied: Collection[str] = ()) -> Config:
    """The config that the arguments name, with the script's own settings first, so that an argument overrides them.

    Args:
      args: of a parser that takes a config.
      smaller: the script's own settings.
      varied: keys that the script gives values of its own, which no argument may give one.

    Raises:
      InputError: several configs, a key of `varied`, or what the config's own checks find.
    """
    files = [text for text in args.config if "=" not in text]
    if len(files) > 1:
        raise InputError(f"required one config, got {' and '.join(files)}; leave the others out")
    file = Path(files[0]) if files else ROOT / "configs" / "demo.toml"
    given = [text for text in args.config if "=" in text]
    # Only one of two overrides of a key would be named in a message about it: the one that counts.
    keys = {text.partition("=")[0]: text for text in given}
    if taken := sorted(keys.keys() & set(varied)):
        raise InputError(
            f"argument {keys[taken[0]]!r}: required keys that this script does not vary, got {taken[0]}, "
            "to which it gives values of its own; leave it out"
        )
    return config_module.load(file, [text for text in smaller if text.partition("=")[0] not in keys] + given)


def require_hidden(config: Config) -> None:
    """Refuse a network without a hidden layer, in a script that looks at one.

    Raises:
      InputError: there is none.
    """
    if not config.model.hidden:
        raise InputError("model.hidden: required a hidden layer, which this script looks at, got []; name one, [100]")


def vectors_of(sentences: Iterable[str], folder: Path) -> Path:
    """A file of word vectors that `windownet pretrain` learns from these sentences, in `folder/pretrain`."""
    (folder / "raw.txt").write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    given = ["text.source=files", f"text.root={folder}", "text.files=['raw.txt']", "pretrain.width=50"]
    settings = config_module.load_as(PretrainConfig, ROOT / "configs" / "pretrain_demo.toml", given)
    run_folder.create(run := folder / "pretrain", settings.to_toml())
    return loop.pretrain(settings, run, console()).folder / "vectors.safetensors"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def plus_minus(values: Sequence[float], digits: int = 2) -> str:
    """Mean and half width of its 95 % interval; the mean alone of a single value."""
    mean, half = experiment.interval(values)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def apart(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether run after run, paired by seed, a lies above b: the interval of the differences is above 0."""
    mean, half = experiment.interval([x - y for x, y in zip(a, b, strict=True)])
    return mean - half > 0 if len(a) > 1 else mean > 0


def report(args: argparse.Namespace, table: str, verdict: str) -> None:
    """Print the table and the verdict, and put them into --document between the marks of the script's name."""
    text = f"{table}\n\n**Verdict.** {verdict}"
    print(text)
    if args.document is not None:
        written.write(args.document, _filled(args.document, text))


def _filled(document: Path, text: str) -> str:
    name = _name()
    filled = between_marks(document.read_text(encoding="utf-8"), name, text) if document.exists() else None
    if filled is None:
        raise InputError(
            f"{document}: required the lines <!-- {name} --> and <!-- end of {name} -->, found not both; "
            "write them where table and verdict are to stand"
        )
    return filled


def between_marks(document: str, name: str, text: str) -> str | None:
    """The document with `text` between the marks of `name`; None where a mark is missing."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = document.partition(begin)
    if not found or end not in rest:
        return None
    return before + begin + "\n" + text + "\n\n" + rest[rest.index(end) :]


def console() -> Console:
    """Where progress is shown: on a terminal, and not among the results."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


@contextmanager
def figure(file: Path | None, rows: int, columns: int, size: tuple[float, float], **shared: Any) -> Iterator[Any]:
    """Axes [rows, columns] to draw on, saved when done; None where there is no file to save them in."""
    if file is None:
        yield None
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    yield axes
    with io.BytesIO() as png:
        drawn.savefig(png, dpi=140)
        _save(png, file)
    pyplot.close(drawn)


def _save(png: io.BytesIO, file: Path) -> None:
    """A palette is enough for a figure of few colours, and takes a fraction of the bytes."""
    from PIL import Image

    Image.open(png).convert("RGB").quantize(256).save(file, optimize=True)


def band(axis: Any, x: Sequence[float], runs: Sequence[Sequence[float]], **style: Any) -> None:
    """The mean of the runs along x, with the 95 % interval around it; runs is [R, x]."""
    mean, half = zip(*(experiment.interval(values) for values in zip(*runs, strict=True)), strict=True)
    (line,) = axis.plot(x, mean, **style)
    if len(runs) > 1:
        low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
        axis.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
