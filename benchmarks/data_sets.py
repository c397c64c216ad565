"""Train on the embedded corpus and every real data set by the command line, and evaluate again what was kept."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _report

TESTS = {
    "demo": "test",
    "wnut17": "emerging.test.annotated",
    "btc": "btc.test",
    "uner_ewt": "en_ewt-ud-test.iob2",
    "ncbi_disease": "test.tsv",
    "bc5cdr": "test.tsv",
}


def windownet(*arguments: str) -> str:
    command = [sys.executable, "-m", "windownet", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in _report.available():
            if name not in TESTS:
                continue
            run = Path(folder, name)
            start = time.perf_counter()
            config = str(_report.ROOT / "configs" / f"{name}.toml")
            windownet("train", config, *settings, "--run-dir", str(run))
            seconds = time.perf_counter() - start
            end = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
            file = TESTS[name] if name == "demo" else str(_report.DATA / name / TESTS[name])
            again = json.loads(windownet("evaluate", str(run), file, "--json"))
            same = again == end["test"]
            f1 = end["test"]["f1"]
            target, reached = ("above 85", f1 > 85) if name == "demo" else ("evaluate gives it again", True)
            rows.append(_report.row(f"{name}: dev F1", end["dev"]["f1"], "%", "-", None, "-", True))
            rows.append(_report.row(f"{name}: test F1", f1, "%", "-", None, target, same and reached))
            target, reached = ("under 90 s", seconds < 90) if name == "demo" else ("-", True)
            rows.append(_report.row(f"{name}: whole command", seconds, "s", "-", None, target, reached))
            rows.append(_report.row(f"{name}: training", end["tokens_per_second"], "tokens/s", "-", None, "-", True))
    _report.write(rows, args)


if __name__ == "__main__":
    main()
