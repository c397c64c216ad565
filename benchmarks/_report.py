"""What every benchmark shares: where the data is, rounds that alternate between rivals, and how results are written."""

import argparse
import functools
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jax

from windownet import config, machine
from windownet.data import sources
from windownet.schema.config import Config

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class DataSet:
    """What benchmarks train on: its name in the rows, its config's file, and the settings that find its data."""

    name: str
    file: Path
    settings: tuple[str, ...]

    def load(self) -> Config:
        """The config by which it is read."""
        return config.load(self.file, self.settings)

    def missing(self) -> list[Path]:
        """Its files that are not there."""
        data = self.load().data
        parts = [part for part in (data.train, data.dev, data.test) if part and data.source == "columns"]
        return [file for part in parts if not (file := sources.path(data, part)).is_file()]


def data_sets(folder: Path) -> Iterator[DataSet]:
    """The embedded corpus, and the real data sets where `folder` is to have them."""
    configs = ROOT / "configs"
    yield DataSet("demo", configs / "demo.toml", ())
    for name in ("wnut17", "btc", "uner_ewt", "ncbi_disease", "bc5cdr"):
        yield DataSet(name, configs / f"{name}.toml", (f"data.root={folder / name}",))
    # CoNLL-2003's own text may not be passed on; WikiGold's has its layout, but no parts.
    place = f"data.root={folder / 'wikigold' / 'CONLL-format' / 'data'}"
    parts = ("data.train=wikigold.conll.txt", "data.dev=", "data.test=")
    yield DataSet("wikigold", configs / "conll2003.toml", (place, *parts))


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows --json and --document; the description's first line is its help."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--json", type=Path, help="write the results to this file")
    made.add_argument(
        "--document", type=_document, help="put the results into this document, where it has a place for them"
    )
    return made


def data_parser(description: str | None) -> argparse.ArgumentParser:
    """The same for a benchmark of real data: it takes --data."""
    made = parser(description)
    made.add_argument("--data", type=Path, default=DATA, metavar="DIR", help=f"folder of the data sets ({DATA})")
    return made


def available(args: argparse.Namespace, tested: bool = False) -> list[DataSet]:
    """The data sets whose files are there, of those with a test part if `tested`; says which are left out.

    With --document all must be there, so that no full table is overwritten by a partial one: else exits with status 2.
    """
    found = []
    for one in data_sets(args.data):
        if tested and not one.load().data.test:
            continue
        if not (missing := one.missing()):
            found.append(one)
        elif args.document is None:
            print(f"{one.name}: skipped, as there is no {missing[0]}", file=sys.stderr)
        else:
            refuse(
                f"--data {args.data}: required {missing[0]}, found nothing there; give the folder of all data sets, "
                f"or leave --document out to skip {one.name}"
            )
    return found


def refuse(reason: str) -> NoReturn:
    """End with status 2 and one line that says why."""
    print(reason, file=sys.stderr)
    sys.exit(2)


def in_turns(rivals: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Of the seconds that each rival returns, the least; all run once a round, after one round that does not count.

    What else a machine does only ever adds time, so the least is what the program itself takes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds + 1):
        for name, run in rivals.items():
            took = run()
            if round_:
                seconds[name].append(took)
    return {name: min(times) for name, times in seconds.items()}


def alternate(rivals: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """`in_turns` by the wall clock, from each rival's start to its results' being there."""
    return in_turns({name: functools.partial(clocked, run) for name, run in rivals.items()}, rounds)


def clocked(run: Callable[[], Any]) -> float:
    """Seconds from the start to the results' being there."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def row(
    name: str,
    value: float,
    unit: str,
    *,
    peer: tuple[str, float] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    ratio_at_least: float | None = None,
    ratio_at_most: float | None = None,
    times_at_most: float | None = None,
) -> dict[str, Any]:
    """One result, and at most one condition on it, which its target's words and its verdict both follow from.

    Args:
      name: of the result.
      value: ours.
      unit: of both values.
      peer: whom it is compared with, and the peer's value; None where it stands alone.
      at_least: least value.
      at_most: largest value.
      ratio_at_least: least ratio; `ratio` is the peer's value over ours.
      ratio_at_most: largest ratio.
      times_at_most: largest multiple of the peer's value that ours may be.

    Returns:
      What a line of the table has; `ok` is of the values before they are rounded, and true where there is no target.

    Raises:
      ValueError: several conditions, or one on a peer that is not there.
    """
    of_peer = (ratio_at_least, ratio_at_most, times_at_most)
    if peer is None and any(bound is not None for bound in of_peer):
        raise ValueError(f"{name}: required a peer to compare with, got none")
    whom, other = peer or (None, math.nan)
    conditions: list[tuple[float | None, str, Callable[[float], bool]]] = [
        (at_least, "at least {:,}", lambda bound: value >= bound),
        (at_most, "at most {:,}", lambda bound: value <= bound),
        (ratio_at_least, "ratio at least {:,}", lambda bound: other >= bound * value),
        (ratio_at_most, "ratio at most {:,}", lambda bound: other <= bound * value),
        (times_at_most, "at most {:,} times the peer's", lambda bound: value <= bound * other),
    ]
    given = [(words.format(bound), bool(holds(bound))) for bound, words, holds in conditions if bound is not None]
    if len(given) > 1:
        raise ValueError(f"{name}: required one condition or none, got {' and '.join(words for words, _ in given)}")
    target, ok = given[0] if given else (None, True)
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "peer": whom,
        "peer_value": round(other, 4) if peer else None,
        "ratio": round(other / value, 3) if peer and value else None,
        "target": target,
        "ok": ok,
    }


def write(rows: list[dict[str, Any]], args: argparse.Namespace, more: str = "") -> None:
    """Print the results as a Markdown table, behind `more`; write them where --json and --document say.

    A document has a place for them between the lines `<!-- NAME -->` and `<!-- end of NAME -->`, NAME being the
    benchmark's.
    """
    now = datetime.now(UTC).date().isoformat()
    device = machine.describe()["device"]
    where = f"{device['processor']}, {platform.machine()}, {device['cores']} cores, {device['kind']}"
    columns = ("name", "value", "unit", "peer", "peer_value", "ratio", "target", "ok")
    table = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    table += ["| " + " | ".join("-" if row[c] is None else str(row[c]) for c in columns) + " |" for row in rows]
    text = f"{more}{now}; {where}; Python {platform.python_version()}, jax {jax.__version__}\n\n" + "\n".join(table)
    print(text)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.document is not None:
        before, after = _around(args.document)
        args.document.write_text(before + "\n" + text + "\n" + after, encoding="utf-8")


def _document(text: str) -> Path:
    # Before the measuring, which takes minutes.
    _around(Path(text))
    return Path(text)


def _around(document: Path) -> tuple[str, str]:
    """What stands before and behind the benchmark's place, with its marks."""
    name = Path(sys.argv[0]).stem
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, found, rest = (document.read_text(encoding="utf-8") if document.is_file() else "").partition(begin)
    if not found or end not in rest:
        refuse(f"{document}: required the lines {begin.strip()} and {end.strip()}, found not both")
    return before + begin, rest[rest.index(end) :]
