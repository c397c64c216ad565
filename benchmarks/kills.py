"""SIGKILL at random moments of a run that writes a checkpoint after every call; then resume, and compare every bit.

    python benchmarks/kills.py --kills 200

A killed run is resumed to its end; its weights, its best weights and its metrics but for times must be those of a run
that nobody killed. Every process is forked from one that has imported all and begun nothing, and finds its programs in
jax's compilation cache: so a kill costs seconds, not a minute.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import jax

import _report

PEOPLE, PLACES = ("Anna", "Tom", "Mary", "Lee"), ("Oslo", "Paris", "Berlin")
CONFIG = """
[data]
train = "train.conll"
dev_share = 0.2
[model]
hidden = [8]
word_width = 8
window = 3
[regularization]
input_dropout = 0.2
[optimizer]
learning_rate = 0.02
[train]
epochs = 4
batch_size = 16
steps_per_call = 2
checkpoint_every = 0
"""
# Of a whole run: its calls, its epochs, its end.
RECORDS = 4 * 8 + 4 + 1
TIMES = ("time", "seconds", "tokens_per_second")


def main() -> None:
    parser = _report.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        assert wait(begin(folder, folder / "warm")) == 0
        assert wait(begin(folder, folder / "whole")) == 0
        expected = result(folder / "whole")
        assert not difference(result(folder / "warm"), expected)
        moments: Counter[str] = Counter()
        same = 0
        while moments.total() < args.kills:
            run = folder / f"run-{moments.total()}"
            if (moment := kill_one(folder, run, draw)) is None:
                shutil.rmtree(run)
                continue
            moments[moment] += 1
            again = "--resume" if (run / "config.toml").exists() else "--run-dir"
            status = wait(begin(folder, run, again))
            if status or (odd := difference(result(run), expected)):
                said = (folder / f"{run.name}.log").read_text(encoding="utf-8")
                print(f"kill {moments.total()}, {moment}: " + (f"exit status {status}\n{said}" if status else odd))
            else:
                same += 1
    found = _report.row("killed, resumed, the same bits", same, "runs", at_least=args.kills)
    places = ", ".join(f"{count} {moment}" for moment, count in moments.most_common())
    _report.write([found], args, more=f"Killed {places}.\n\n")
    sys.exit(not found["ok"])


def prepare(folder: Path) -> None:
    """Write the corpus, and import what every process needs."""
    rows = (f"{PEOPLE[n % 4]} B-PER\nLee I-PER\nsaw O\n{PLACES[n % 3]} B-LOC\n. O\n\n" for n in range(60))
    (folder / "train.conll").write_text("".join(rows), encoding="utf-8")
    (folder / "tiny.toml").write_text(CONFIG, encoding="utf-8")
    jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    import windownet.cli
    import windownet.train.loop  # noqa: F401


def begin(folder: Path, run: Path, option: str = "--run-dir") -> int:
    """Start `windownet train` in a process of its own; returns its number."""
    config = ["tiny.toml", "data.root=."] if option == "--run-dir" else []
    sys.stdout.flush()
    with warnings.catch_warnings():
        # jax warns of every fork; this process has started none of jax's threads.
        warnings.simplefilter("ignore")
        if number := os.fork():
            return number
    os.chdir(folder)
    log = os.open(f"{run.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from windownet.cli import main as command

    try:
        command(["train", *config, option, str(run)])
    except SystemExit as error:
        status = error.code
    os._exit(status if isinstance(status, int) else 0)


def wait(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def kill_one(folder: Path, run: Path, draw: random.Random) -> str | None:
    """Kill a run at a random moment and say where that was; None where it had finished before.

    The moment is a random number of records, since seconds mean little where other work shares the machine, and a
    random part of the time that a call with its checkpoint takes.
    """
    metrics = run / "metrics.jsonl"
    records, behind = draw.randrange(RECORDS), draw.uniform(0, 0.04)
    number = begin(folder, run)
    ended = (0, 0)
    while lines(metrics) < records and (ended := os.waitpid(number, os.WNOHANG)) == (0, 0):
        time.sleep(0.001)
    if ended != (0, 0):
        # Its number may be another process's by now.
        if status := os.waitstatus_to_exitcode(ended[1]):
            raise SystemExit(f"{run}: required a run that goes on until it is killed, got one that ended with {status}")
        return None
    time.sleep(behind)
    os.kill(number, signal.SIGKILL)
    if wait(number) != -signal.SIGKILL or (lines(metrics) and '"end"' in metrics.read_text(encoding="utf-8")):
        return None
    checkpoints = run / "checkpoints"
    if (checkpoints / ".new").exists():
        return "inside the writing of a checkpoint"
    if list(run.glob(".*.new")) or list(run.glob(".*.old")):
        return "inside the writing of a model"
    return "elsewhere behind the first checkpoint" if list(checkpoints.glob("*.*")) else "before the first checkpoint"


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def result(run: Path) -> dict[str, object]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, object] = {name: (run / name / "model.safetensors").read_bytes() for name in ("model", "last")}
    for n, record in enumerate(records):
        found[f"record {n}"] = {key: value for key, value in record.items() if key not in TIMES}
    return found


def difference(came: dict[str, object], required: dict[str, object]) -> str:
    """What is first not as required; empty where all is."""
    for name in [*required, *came]:
        if (a := came.get(name)) != (b := required.get(name)):
            return f"{name} differs" + ("" if isinstance(b, bytes) else f": required {b}, got {a}")
    return ""


if __name__ == "__main__":
    main()
