"""What `windownet runs` lists, and the verbs of a run that was cut off."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from windownet import run_folder
from windownet.cli import main
from windownet.train import checkpoints
from windownet.train.log import RunLog

CONFIG = """
[data]
source = "demo"
train = "dev"
dev = "dev"
[model]
window = 3
word_width = 4
hidden = [8]
[train]
epochs = 2
batch_size = 512
"""


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def epoch(number: int, f1: float) -> dict[str, Any]:
    return {"kind": "epoch", "epoch": number, "step": 8 * number, "loss": 0.1, "dev": {"f1": f1}, "best": True}


def write(folder: Path, records: list[dict[str, Any]], epochs: int = 3) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f"[train]\nepochs = {epochs}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / ".lock").write_text("1\n")
    return folder


def test_the_best_run_comes_first(tmp_path: Path) -> None:
    end = {"kind": "end", "seconds": 61.5, "tokens_per_second": 30_100, "dev": {"f1": 80.0}, "test": {"f1": 70.0}}
    write(tmp_path / "a", [epoch(1, 60.0)])
    write(tmp_path / "b", [epoch(1, 80.0), epoch(2, 75.0), {**end, "best_epoch": 1}])
    begun = write(tmp_path / "c", [])
    with (write(tmp_path / "d", [epoch(1, 65.0)]) / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "epo')
    (tmp_path / "d" / "checkpoints").mkdir()
    (tmp_path / "d" / "checkpoints" / "0000000008.safetensors").write_bytes(b"")
    # Neither a run of a tagger: word vectors, and a note.
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "config.toml").write_text("[pretrain]\nepochs = 1\n")
    (tmp_path / "notes.txt").write_text("b was good")
    with run_folder.locked(begun):
        found = [json.loads(line) for line in invoke("runs", tmp_path, "--json").stdout.splitlines()]
        table = invoke("runs", tmp_path).stdout
    told = [(Path(run["folder"]).name, run["state"], run["dev_f1"], run["epoch"]) for run in found]
    assert told == [
        ("b", "finished", 80.0, 2),
        ("d", "resumable", 65.0, 1),
        ("a", "cut off", 60.0, 1),
        ("c", "running", None, 0),
    ]
    assert (found[0]["test_f1"], found[0]["best_epoch"], found[0]["seconds"]) == (70.0, 1, 61.5)
    head, below, *rows = (
        [cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in table.splitlines() if line[0] in "┃│"
    )
    assert [" ".join(words).strip() for words in zip(head, below, strict=True)] == [
        "run",
        "state",
        "dev F1",
        "test F1",
        "best epoch",
        "epochs",
        "seconds",
        "tokens/s",
    ]
    assert rows == [
        ["b", "finished", "80.00", "70.00", "1", "2/3", "61.5", "30,100"],
        ["d", "resumable", "65.00", "-", "1", "1/3", "-", "-"],
        ["a", "cut off", "60.00", "-", "1", "1/3", "-", "-"],
        ["c", "running", "-", "-", "-", "0/3", "-", "-"],
    ]
    assert invoke("runs", tmp_path / "b", "--json").stdout.count("\n") == 1


def test_what_is_no_folder_of_runs_is_said(tmp_path: Path) -> None:
    assert "no tagger's run in it; `windownet train CONFIG` makes one" in invoke("runs", tmp_path).stderr
    result = invoke("runs", tmp_path / "none")
    assert (result.exit_code, "required a folder with run folders in it, found nothing there" in result.stderr) == (
        2,
        True,
    )


EPOCH = json.dumps({"kind": "epoch", "epoch": 1, "dev": {"f1": 50.0}})
METRICS = {
    '{"kind": x}': "required a JSON object, got '{\"kind\": x}'",
    "[[1, 2]]": "required a JSON object, got '[[1, 2]]'",
    '{"kind": "epo': 'required a JSON object, got \'{"kind": "epo\'',
    b'{"kind": "\xff"}': 'required a JSON object, got \'{"kind": "\\\\xff"}\'',
    '{"kind": "epoch"}': "required a whole number for epoch, got None",
    EPOCH.replace(": 1", ": [1]"): "required a whole number for epoch, got [1]",
    EPOCH.replace(": 1", ": 1.5"): "required a whole number for epoch, got 1.5",
    EPOCH.replace("50.0", '"high"'): "required a number for dev.f1, got 'high'",
    EPOCH.replace("50.0", "true"): "required a number for dev.f1, got True",
    EPOCH.replace("50.0", "NaN"): "required a number for dev.f1, got nan",
    EPOCH.replace('{"f1": 50.0}', "3"): "required a number for dev.f1, got None",
    '{"kind": "end", "test": {"f1": []}, "seconds": 3.0}': "required a number for test.f1, got []",
    '{"kind": "end", "seconds": "3"}': "required a number for seconds, got '3'",
    '{"kind": "end", "seconds": 3.0, "tokens_per_second": {}}': "required a number for tokens_per_second, got {}",
}


@pytest.mark.parametrize("line", METRICS)
def test_a_run_with_an_odd_record_is_passed_over(tmp_path: Path, line: str | bytes) -> None:
    write(tmp_path / "good", [epoch(1, 60.0)])
    odd = write(tmp_path / "stray", []) / "metrics.jsonl"
    odd.write_bytes(EPOCH.encode() + b"\n\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    for more in ((), ("--json",)):
        result = invoke("runs", tmp_path, *more)
        assert ("good" in result.stdout, "stray" in result.stdout, result.exit_code) == (True, False, 0), result.output
        assert result.stderr == f"warning: {odd}:3: {METRICS[line]}; mend the line, or delete the run\n"
    alone = invoke("runs", odd.parent)
    assert (alone.exit_code, alone.stderr) == (2, result.stderr.replace("warning: ", "windownet: "))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"train = 3", "required a section [train], got 3; mend it, or delete the run"),
        (b'[train]\nepochs = "3"', "required a whole number for train.epochs, got '3'; mend it, or delete the run"),
        (b"[train\n", "required TOML; Expected ']'"),
        (b"# \xe9", "required UTF-8 text, got byte 0xe9"),
        (None, "required a config file, got a directory; name a .toml file"),
    ],
)
def test_a_run_with_an_odd_config_is_passed_over(tmp_path: Path, config: bytes | None, message: str) -> None:
    write(tmp_path / "good", [epoch(1, 60.0)])
    odd = write(tmp_path / "odd", [epoch(1, 70.0)]) / "config.toml"
    odd.unlink()
    if config is None:
        odd.mkdir()
    else:
        odd.write_bytes(config)
    result = invoke("runs", tmp_path, "--json")
    assert [Path(json.loads(line)["folder"]).name for line in result.stdout.splitlines()] == ["good"]
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    place = f"{odd}:1" if "UTF-8" in message else odd
    assert result.stderr.startswith(f"warning: {place}: {message}")


@pytest.mark.parametrize("lost", ["config.toml", "metrics.jsonl"])
def test_a_run_that_lost_a_file_is_told(tmp_path: Path, lost: str) -> None:
    write(tmp_path / "good", [epoch(1, 60.0)])
    odd = write(tmp_path / "odd", [epoch(1, 70.0)])
    (odd / lost).unlink()
    assert invoke("runs", tmp_path).stderr == ""
    (odd / "model").mkdir()
    # A model alone is no run.
    (tmp_path / "alone" / "model").mkdir(parents=True)
    result = invoke("runs", tmp_path)
    assert ("good" in result.stdout, result.exit_code) == (True, 0)
    assert (
        result.stderr == f"warning: {odd / lost}: required in a run folder, found none; restore it, or delete the run\n"
    )


def test_where_all_runs_are_odd_nothing_else_is_said(tmp_path: Path) -> None:
    odd = write(tmp_path / "odd", []) / "metrics.jsonl"
    odd.unlink()
    odd.mkdir()
    result = invoke("runs", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"warning: {odd}: cannot be read: Is a directory\n"


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("longest", ["k-plateau-seed1", "a " + "very-" * 20 + "long one"])
def test_the_names_of_runs_are_never_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, longest: str
) -> None:
    end = {"kind": "end", "seconds": 86_400.5, "tokens_per_second": 130_100, "test": {"f1": 70.25}}
    for name in ("k-plateau-seed0", longest):
        write(tmp_path / name, [epoch(100, 80.0), end], 100)
    monkeypatch.setenv("COLUMNS", str(columns))
    table = invoke("runs", tmp_path).stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "100/100" in line]
    figures = ["finished", "80.00", "70.25", "100", "100/100", "86400.5", "130,100"]
    assert rows == [[name, *figures] for name in sorted(("k-plateau-seed0", longest))]
    # Where names are not too long for it, the place is enough.
    assert (max(map(len, table.splitlines())) <= columns) == (len(longest) + 60 < columns)


def test_runs_needs_no_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", [epoch(1, 60.0)])
    code = "import sys; sys.modules['jax'] = None; from windownet.cli import main; main()"

    command = [sys.executable, "-c", code, "runs", str(tmp_path), "--json"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("60.0") == 1


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was asked to end by SIGTERM."""
    (tmp_path / "tiny.toml").write_text(CONFIG)
    steps = RunLog.steps

    def asked(self: RunLog, **figures: Any) -> None:
        steps(self, **figures)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(RunLog, "steps", asked)
        result = invoke("train", tmp_path / "tiny.toml", "--run-dir", tmp_path / "run")
    assert result.exit_code == 143
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("windownet: ")]
    assert line.endswith(f" with `windownet train --resume {tmp_path / 'run'}`")
    assert "Traceback" not in result.output
    return tmp_path / "run"


def test_a_run_is_resumed_to_its_end_and_then_says_so(cut: Path) -> None:
    refused = {
        ("train.epochs=3",): "argument 'train.epochs=3': required with --resume nothing but what no ",
        (cut / "config.toml",): f"argument '{cut / 'config.toml'}': required with --resume nothing but",
        ("--replace",): f"--resume {cut}: required without --run-dir and --replace",
    }
    for arguments, message in refused.items():
        result = invoke("train", "--resume", cut, *arguments)
        assert (result.exit_code, result.stderr.startswith(f"windownet: {message}")) == (2, True), result.stderr
    with run_folder.locked(cut):
        result = invoke("train", "--resume", cut)
    assert (result.exit_code, "required a run folder that no other process writes" in result.stderr) == (2, True)
    result = invoke("train", "--resume", cut, "train.checkpoint_every=7", "--quiet")
    assert (result.exit_code, result.stdout.splitlines()[-1][:6]) == (0, "dev F1")
    # The tagger of this tiny run finds nothing, which is a warning; --quiet leaves nothing else.
    assert all(line.startswith("warning: ") for line in result.stderr.splitlines()), result.stderr
    again = invoke("train", "--resume", cut)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout.startswith(f"{cut}: dev F1 ")
    assert again.stdout.endswith("; the run has finished, nothing is left to do\n")
    # Who wants more of it is not told that all is done.
    more = invoke("train", "--resume", cut, "train.epochs=9")
    assert (more.exit_code, "argument 'train.epochs=9': required with --resume nothing but" in more.stderr) == (2, True)


def test_a_record_that_was_cut_short_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", [epoch(1, 60.0)])
    with (folder / "metrics.jsonl").open("a") as file:
        # It ends as a record does.
        file.write('{"kind": "end", "best_epoch": 1, "dev": {"f1": 60.0}')
    assert run_folder.end_of(folder) is None
    assert run_folder.epoch_of(folder / "model") == 1
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n")
    result = invoke("train", "--resume", folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{folder / 'metrics.jsonl'}:2: required a JSON object, got" in result.stderr


def test_what_cannot_be_resumed_is_said_in_a_line(cut: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, came in (
        (tmp_path / "none", "nothing there"),
        (empty, "no config.toml in it"),
        (cut / "config.toml", "a file"),
    ):
        result = invoke("train", "--resume", folder)
        assert result.exit_code == 2
        assert result.stderr == (
            f"windownet: {folder}: required a run folder, found {came}; `windownet train CONFIG` makes one\n"
        )
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").touch()
    for folder in (model, empty):
        (folder / "config.toml").write_bytes((cut / "config.toml").read_bytes())
    for folder, came in (
        (model, "a model (model.safetensors in it), which is whole as it is; name the folder of the run "),
        (empty, "no metrics.jsonl in it; restore it, or begin a new run\n"),
    ):
        before = sorted(folder.iterdir())
        result = invoke("train", "--resume", folder)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"windownet: --resume {folder}: required a run folder, found {came}")
        assert sorted(folder.iterdir()) == before
    assert set(checkpoints.FREE) >= {"train.checkpoint_every", "data.root"}


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_word_vectors_goes_on_with_its_own_verb(tmp_path: Path, finished: bool) -> None:
    folder = tmp_path / "vectors"
    (tmp_path / "vectors.toml").write_text(
        '[text]\nsource = "demo"\nmax_words = 20\n[pretrain]\nwidth = 2\nwindow = 1\nblock = 64\n'
    )
    assert invoke("pretrain", tmp_path / "vectors.toml", "--run-dir", folder).exit_code == 0
    if not finished:
        for name in ("metrics.jsonl", "vectors.txt", "vectors.safetensors"):
            (folder / name).unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    result = invoke("train", "--resume", folder)
    its_own = f"pretrain --resume {folder}"
    assert (result.exit_code, result.stdout, result.stderr) == (
        2,
        "",
        f"windownet: --resume {folder}: required a run folder, a tagger's, got one of word vectors; "
        f"`windownet {its_own}` goes on with it\n",
    )
    for verb in (["evaluate", folder, "dev"], ["tag", folder], ["drift", folder]):
        result = invoke(*verb)
        required = "a run or model of a tagger, found one of word vectors" if finished else "a run or model folder, "
        assert (result.exit_code, f"{folder}: required {required}" in result.stderr) == (2, True), verb
    listed = invoke("runs", tmp_path)
    assert (listed.exit_code, listed.stderr) == (
        0,
        f"{tmp_path}: no tagger's run in it; `windownet train CONFIG` makes one\n",
    )
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before
    result = invoke(*its_own.split(" "))
    assert ("its vectors are written; the run has finished" in result.stdout) == finished
    assert result.exit_code == 0, result.output


def test_a_tagger_s_run_goes_on_with_train(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    folder = write(tmp_path / "run", [epoch(1, 60.0)])
    result = invoke("pretrain", "--resume", folder)
    assert (result.exit_code, result.stderr) == (
        2,
        f"windownet: --resume {folder}: required a run folder, one of word vectors, got a tagger's; "
        f"`windownet train --resume {folder}` goes on with it\n",
    )
