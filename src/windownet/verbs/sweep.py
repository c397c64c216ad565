"""The verb sweep: many runs of one config, as few compiled programs as they allow."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from windownet.errors import InputError
from windownet.verbs import streams, written
from windownet.verbs.arguments import PATH

if TYPE_CHECKING:
    from windownet.experiment import Outcome

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_RUNS = 10_000


class Row(NamedTuple):
    """The runs of one setting, over all seeds.

    Attributes:
      settings: {key: value} of the keys that vary, the seed aside.
      runs: how many.
      dev: mean of the best epoch's dev F1, and the half width of its 95 % interval.
      test: the same on test; None where there is no test part.
      epoch: mean of the best epochs.
      diverged: how many had a loss that is not finite.
    """

    settings: dict[str, Any]
    runs: int
    dev: tuple[float, float]
    test: tuple[float, float] | None
    epoch: float
    diverged: int


@click.command()
@click.argument("config", type=PATH)
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUES...")
@click.option(
    "--figure",
    type=PATH,
    help="Draw test F1, or dev F1 where there is no test part, into this .png, .svg or .pdf (needs matplotlib).",
)
@click.option("--json", "json_file", type=PATH, help="Write every run to this file, as soon as it has finished.")
def sweep(config: Path, settings: tuple[str, ...], figure: Path | None, json_file: Path | None) -> None:
    """Train CONFIG with every combination of VALUES, and print a table of their scores.

    VALUES are separated by commas, or a range of whole numbers: train.seed=0..4
    optimizer.learning_rate=1e-4,3e-4,1e-3. Runs that differ only in seed, learning rate, weight decay or init.* are
    computed together in one compiled program. Scores are means over the seeds, with their 95 % interval. No model is
    kept.
    """
    from rich.console import Console

    from windownet import config as config_module, experiment
    from windownet.verbs import picture

    texts = dict(_texts(setting) for setting in settings)
    if len(texts) < len(settings):
        raise InputError(f"arguments: required each key once, got {' '.join(settings)}; give its values in one list")
    values = {key: _values(config, key, texts) for key in texts}
    combinations = experiment.grid(values)
    if len(combinations) > _MOST_RUNS:
        raise InputError(
            f"arguments: required at most {_MOST_RUNS:,} runs, got {len(combinations):,}; give fewer values"
        )
    base = config_module.load(config)
    if figure is not None:
        picture.require_format("--figure", figure)
    drawing = None if figure is None else picture.blank("--figure", height=3.6)
    # What cannot be written is better known before the runs than after them; what is there stays until then.
    for file in (json_file, figure):
        if file is not None:
            written.require(file)
    console, found = Console(stderr=True), dict[int, experiment.Outcome]()

    def warn(line: str) -> None:
        console.print(f"warning: {line}", style="yellow", highlight=False, soft_wrap=True, markup=False)

    def finished(group: Mapping[int, experiment.Outcome]) -> None:
        found.update(group)
        # What is killed tells nothing afterwards.
        if json_file is not None and not written.is_stream(json_file):
            try:
                written.write(json_file, _json(found))
            except InputError as error:
                warn(f"{error}; the runs go on, and it is tried again behind the last")

    try:
        experiment.run(base, combinations, console, finished=finished)
    finally:
        outcomes = [found[n] for n in sorted(found)]
        if outcomes:
            if len(outcomes) < len(combinations):
                warn(f"{len(outcomes):,} of {len(combinations):,} runs finished; these are told")
            rows, refused = summary(outcomes), None
            # Before the table, whose reader may have gone.
            if json_file is not None:
                try:
                    written.write(json_file, _json(found))
                except InputError as error:
                    refused = error
            try:
                # Where the file cannot be written, these are all that there is of hours.
                _print(rows, values)
                if figure is not None:
                    draw(rows, [key for key in values if key != experiment.SEED], drawing)
                    picture.save(drawing, "--figure", figure)
            finally:
                if refused is not None:
                    raise refused


def summary(outcomes: "Sequence[Outcome]") -> list[Row]:
    """One row for each setting apart from the seed, in the order that they came."""
    from windownet import experiment

    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        shared = {key: value for key, value in outcome.settings.items() if key != experiment.SEED}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(outcome)
    rows = []
    for same in groups.values():
        shared = {key: value for key, value in same[0].settings.items() if key != experiment.SEED}
        test = [outcome.test.f1 for outcome in same if outcome.test is not None]
        rows.append(
            Row(
                shared,
                len(same),
                experiment.interval([max(scores.f1 for scores in outcome.dev) for outcome in same]),
                experiment.interval(test) if test else None,
                sum(outcome.best_epoch for outcome in same) / len(same),
                sum(not all(map(math.isfinite, outcome.losses)) for outcome in same),
            )
        )
    return rows


def _print(rows: Sequence[Row], values: Mapping[str, Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from windownet import experiment

    out = Console()
    if same := [f"{key} = {_toml(only[0])}" for key, only in values.items() if len(only) == 1]:
        out.print(", ".join(same), highlight=False, soft_wrap=True, markup=False)
    keys = [key for key, several in values.items() if len(several) > 1 and key != experiment.SEED]
    table = Table()
    for key in keys:
        # Two short lines leave room for more columns than one long line does.
        table.add_column(Text(key.replace(".", ".\n")), justify="right", overflow="fold")
    tested = any(row.test for row in rows)
    for name in ("runs", "best epoch", "dev F1", *(["test F1"] if tested else [])):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        scores = [_shown(score) for score in (row.dev, row.test)[: 1 + tested]]
        table.add_row(*(Text(_toml(row.settings[key])) for key in keys), _runs(row), f"{row.epoch:.1f}", *scores)
    out.print(table)


def draw(rows: Sequence[Row], keys: Sequence[str], figure: Any) -> None:
    """F1 over the first key that has several values, a line for each combination of the others.

    On test where all runs have a test part, else on dev.

    Args:
      rows: what came of the runs.
      keys: which keys were varied.
      figure: an empty matplotlib figure.
    """
    several = [key for key in keys if len({str(row.settings[key]) for row in rows}) > 1]
    axes = figure.add_subplot()
    tested = all(row.test for row in rows)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(", ".join(f"{key} = {_toml(row.settings[key])}" for key in several[1:]), []).append(row)
    for label, line in lines.items():
        at: list[Any] = [row.settings[several[0]] if several else "" for row in line]
        numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in at)
        scores = [row.test if tested and row.test else row.dev for row in line]
        points = [(x, mean, 0.0 if math.isnan(half) else half) for x, (mean, half) in zip(at, scores, strict=True)]
        x, mean, half = zip(*(sorted(points) if numeric else points), strict=True)
        axes.errorbar(x if numeric else list(map(_toml, x)), mean, half, marker="o", capsize=3, label=label or None)
        if numeric and min(at) > 0 and max(at) >= 10 * min(at):
            axes.set_xscale("log")
    axes.set(xlabel=several[0] if several else "", ylabel=f"{'test' if tested else 'dev'} F1")
    if len(lines) > 1:
        axes.legend(frameon=False)


def _texts(setting: str) -> tuple[str, list[str]]:
    key, equals, text = setting.partition("=")
    if not (key and equals):
        raise InputError(f"argument {setting!r}: required KEY=VALUES, such as train.seed=0..4 or train.epochs=5,10")
    found = _RANGE.fullmatch(text)
    if not found:
        return key, list(_parts(text))
    first, last = map(int, found.groups())
    if first > last or last - first >= _MOST_RUNS:
        raise InputError(f"argument {setting!r}: required a range that climbs, with at most {_MOST_RUNS:,} numbers")
    return key, [str(n) for n in range(first, last + 1)]


def _values(config: Path, key: str, texts: Mapping[str, Sequence[str]]) -> list[Any]:
    from windownet import config as config_module
    from windownet.schema.keys import value

    # A value may be allowed only beside another key's.
    beside = [f"{other}={parts[0]}" for other, parts in texts.items() if other != key]
    values: list[Any] = []
    for part in texts[key]:
        found = value(config_module.load(config, [*beside, f"{key}={part}"]), key)
        if found in values:
            raise InputError(f"argument {key!r}: required values that differ, got {part!r} twice; leave one out")
        values.append(found)
    return values


def _parts(text: str) -> Iterator[str]:
    # Commas inside of quotes, lists and tables belong to one value.
    begin, depth, quoted = 0, 0, False
    for place, sign in enumerate(text):
        quoted ^= sign == '"'
        depth += 0 if quoted else (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quoted:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _runs(row: Row) -> str:
    return f"{row.runs}, {row.diverged} diverged" if row.diverged else str(row.runs)


def _toml(value: Any) -> str:
    from windownet.settings import document

    return value if isinstance(value, str) and value else document.value(value)


def _shown(score: tuple[float, float] | None) -> str:
    if score is None:
        return "-"
    mean, half = score
    sign = "±" if streams.spells("±") else "+-"
    return f"{mean:.2f}" if half != half else f"{mean:.2f} {sign} {half:.2f}"


def _json(outcomes: "Mapping[int, Outcome]") -> str:
    return json.dumps([_record(outcomes[n]) for n in sorted(outcomes)], indent=1) + "\n"


def _record(outcome: "Outcome") -> Mapping[str, Any]:
    return {
        "settings": dict(outcome.settings),
        "best_epoch": outcome.best_epoch,
        "losses": [loss if math.isfinite(loss) else None for loss in outcome.losses],
        "dev_f1": [scores.f1 for scores in outcome.dev],
        "test_f1": None if outcome.test is None else outcome.test.f1,
    }
