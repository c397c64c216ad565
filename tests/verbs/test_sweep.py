"""The verb sweep, as a person meets it."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from windownet import experiment
from windownet.cli import main

TEXT = "ann B-PER\nmet O\nbob B-PER\n\nrome B-LOC\nslept O\n\n" * 8


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "train.conll").write_text(TEXT, encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        f'[data]\nroot = "{tmp_path}"\ntrain = "train.conll"\ndev = "train.conll"\n'
        "[model]\nword_width = 4\nhidden = [4]\n[train]\nepochs = 2\nbatch_size = 8\n"
    )
    return tmp_path / "c.toml"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)], env={"COLUMNS": "150"})


def test_every_combination_in_one_table(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws a figure")
    files = "--json", tmp_path / "runs.json", "--figure", tmp_path / "f.png"
    result = sweep(config, "train.seed=0..2", "optimizer.learning_rate=1e-9,0.05", "model.hidden=[3],[4,5]", *files)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    assert [line.split("│")[1:4] for line in lines] == [
        [f" {rate:>23} ", f" {hidden:>12} ", "    3 "] for rate in ("1e-09", "0.05") for hidden in ("[3]", "[4, 5]")
    ]
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert len(runs) == 12
    assert runs[0]["settings"] == {"train.seed": 0, "optimizer.learning_rate": 1e-9, "model.hidden": [3]}
    assert len(runs[0]["dev_f1"]) == 2
    best = [max(run["dev_f1"]) for run in runs]
    taught = [f1 for f1, run in zip(best, runs, strict=True) if run["settings"]["optimizer.learning_rate"] > 0.01]
    assert sum(taught) / len(taught) > 60 > 30 > (sum(best) - sum(taught)) / (len(best) - len(taught))
    row = [f1 for f1, run in zip(best, runs, strict=True) if list(run["settings"].values())[1:] == [0.05, [3]]]
    assert f" {sum(row) / 3:.2f} ± " in lines[2]
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_a_value_may_hold_commas_of_its_own(config: Path) -> None:
    curves = '{"optimizer.weight_decay" = {name = "linear", final = 0.5}, "optimizer.b1" = {}}'
    result = sweep(config, f"schedule.others={curves},{{}}", "optimizer.weight_decay=0.1")
    assert result.exit_code == 0, result.output
    lines = [line.split("│")[1:4] for line in result.stdout.splitlines() if line.startswith("│")]
    assert len([line for line in lines if line[2].strip() == "1"]) == 2
    assert any(line[0].strip() == "{}" for line in lines)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.seeds=0..2"], "did you mean train.seed?"),
        (["train.seed=3..1"], "required a range that climbs"),
        (["train.seed"], "required KEY=VALUES, such as"),
        (["train.seed=1,1"], "required values that differ, got '1' twice"),
        (["train.seed=0..99", "train.epochs=1..200"], "at most 10,000 runs, got 20,000"),
        (["train.epochs=1,0"], "train.epochs: required a value greater than or equal to 1, got 0"),
        (["train.seed=1", "train.seed=2"], "required each key once"),
    ],
)
def test_bad_input_is_one_line(config: Path, settings: list[str], message: str) -> None:
    result = sweep(config, *settings)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_matplotlib_is_missed_before_the_runs(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise AssertionError("the runs came first")

    monkeypatch.setattr(experiment, "run", run)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = sweep(config, "train.seed=0,1", "--figure", tmp_path / "f.png")
    assert (result.exit_code, result.stderr) == (
        2,
        "windownet: --figure: required matplotlib, which is not installed; install windownet[bench], or leave "
        "--figure out\n",
    )
    assert not (tmp_path / "f.png").exists()


def test_files_are_tried_before_the_runs_and_kept_until_after_them(config: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("[1]")
    missing = sweep(config, "train.seed=0,1", "--json", tmp_path / "old.json", "--figure", tmp_path / "no" / "f.png")
    assert missing.exit_code == 2
    assert "cannot be written" in missing.stderr
    assert (tmp_path / "old.json").read_text() == "[1]"
