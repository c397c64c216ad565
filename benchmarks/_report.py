"""What every benchmark shares: where the data is, rounds that alternate between rivals, and how results are written."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

# What each config needs to find its data; conll2003's own text may not be passed on, wikigold has the same layout.
SETTINGS = {
    "demo": (),
    "wnut17": (f"data.root={DATA / 'wnut17'}",),
    "btc": (f"data.root={DATA / 'btc'}",),
    "uner_ewt": (f"data.root={DATA / 'uner_ewt'}",),
    "ncbi_disease": (f"data.root={DATA / 'ncbi_disease'}",),
    "bc5cdr": (f"data.root={DATA / 'bc5cdr'}",),
    "conll2003": (
        f"data.root={DATA / 'wikigold' / 'CONLL-format' / 'data'}",
        "data.train=wikigold.conll.txt",
        "data.dev=",
        "data.test=",
    ),
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows --json; the description's first line is its help."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--json", type=Path, help="write the results to this file")
    made.add_argument("--document", type=Path, help="put the results into this document, where it has a place for them")
    return made


def available() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The configs whose data is there, with the settings that find it; says which are left out."""
    for name, settings in SETTINGS.items():
        if name == "demo" or DATA.exists():
            yield name, settings
        else:
            print(f"{name}: skipped, its data is not in {DATA}")


def alternate(rivals: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of each rival's least disturbed round; all run once a round, after one round that does not count.

    What else a machine does only ever adds time, so the least is what the program itself takes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds + 1):
        for name, run in rivals.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def row(
    name: str, value: float, unit: str, peer: str, peer_value: float | None, target: str, ok: bool
) -> dict[str, Any]:
    """One result; `ratio` is the peer's value over ours where there is a peer."""
    ratio = round(peer_value / value, 3) if peer_value is not None else None
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "peer": peer,
        "peer_value": None if peer_value is None else round(peer_value, 4),
        "ratio": ratio,
        "target": target,
        "ok": ok,
    }


def write(rows: list[dict[str, Any]], args: argparse.Namespace, more: str = "") -> None:
    """Print the results as a Markdown table, behind `more`; write them where --json and --document say.

    A document has a place for them between the lines `<!-- NAME -->` and `<!-- end of NAME -->`, NAME being the
    benchmark's.
    """
    now = datetime.now(UTC).date().isoformat()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}"
    columns = ("name", "value", "unit", "peer", "peer_value", "ratio", "target", "ok")
    table = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    table += ["| " + " | ".join("-" if row[c] is None else str(row[c]) for c in columns) + " |" for row in rows]
    text = f"{more}{now}; {machine}; Python {platform.python_version()}, jax {jax.__version__}\n\n" + "\n".join(table)
    print(text)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.document is not None:
        name = Path(sys.argv[0]).stem
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, found, rest = args.document.read_text(encoding="utf-8").partition(begin)
        if not found or end not in rest:
            raise SystemExit(f"{args.document}: required the lines {begin.strip()} and {end.strip()}, found neither")
        after = rest[rest.index(end) :]
        args.document.write_text(before + begin + "\n" + text + "\n" + after, encoding="utf-8")
