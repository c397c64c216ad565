"""Train on the embedded corpus and every real data set by the command line, and evaluate again what was kept."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _report
from windownet.data import sources


def main() -> None:
    args = _report.data_parser(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in _report.available(args, tested=True):
            rows += results(one, Path(folder, one.name))
    _report.write(rows, args)


def results(one: _report.DataSet, run: Path) -> list[dict[str, Any]]:
    start = time.perf_counter()
    windownet("train", str(one.file), *one.settings, "--run-dir", str(run))
    seconds = time.perf_counter() - start
    end = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    data, name = one.load().data, one.name
    test = data.test if data.source == "demo" else str(sources.path(data, data.test))
    again = json.loads(windownet("evaluate", str(run), test, "--json"))
    # What is expected of the embedded corpus is expected of no other.
    least, most = (85, 90) if name == "demo" else (None, None)
    return [
        _report.row(f"{name}: dev F1", end["dev"]["f1"], "%"),
        _report.row(f"{name}: test F1", end["test"]["f1"], "%", at_least=least),
        _report.row(f"{name}: evaluate gives otherwise", differing(end["test"], again), "scores", at_most=0),
        _report.row(f"{name}: whole command", seconds, "s", at_most=most),
        _report.row(f"{name}: training", end["tokens_per_second"], "tokens/s"),
    ]


def windownet(*arguments: str) -> str:
    command = [sys.executable, "-m", "windownet", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def differing(a: dict[str, Any], b: dict[str, Any]) -> int:
    """How many scores are not the same in both, those of each type included."""
    count = 0
    for name in a.keys() | b.keys():
        x, y = a.get(name), b.get(name)
        count += differing(x, y) if isinstance(x, dict) and isinstance(y, dict) else x != y
    return count


if __name__ == "__main__":
    main()
