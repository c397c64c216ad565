"""The verb sweep, as a person meets it."""

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from windownet import experiment
from windownet.cli import main
from windownet.errors import InputError
from windownet.verbs import picture, written
from windownet.verbs.sweep import Row, draw

TEXT = "ann B-PER\nmet O\nbob B-PER\n\nrome B-LOC\nslept O\n\n" * 8


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "train.conll").write_text(TEXT, encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        f'[data]\nroot = "{tmp_path}"\ntrain = "train.conll"\ndev = "train.conll"\n'
        "[model]\nword_width = 4\nhidden = [4]\n[train]\nepochs = 2\nbatch_size = 8\n"
    )
    return tmp_path / "c.toml"


def sweep(*arguments: object, width: int = 150) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)], env={"COLUMNS": str(width)})


def cells(result: Result) -> list[list[str]]:
    """The table's rows, the header's lines first."""
    return [
        [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]
        for line in result.stdout.splitlines()
        if line.startswith(("│", "┃"))
    ]


def test_every_combination_in_one_table(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws a figure")
    files = "--json", tmp_path / "runs.json", "--figure", tmp_path / "f.png"
    result = sweep(config, "train.seed=0..2", "optimizer.learning_rate=1e-9,0.05", "model.hidden=[3],[4,5]", *files)
    assert result.exit_code == 0, result.output
    rows = cells(result)
    assert rows[:2] == [
        ["optimizer.", "model.", "", "", ""],
        ["learning_rate", "hidden", "runs", "best epoch", "dev F1"],
    ]
    assert [row[:3] for row in rows[2:]] == [[rate, h, "3"] for rate in ("1e-09", "0.05") for h in ("[3]", "[4, 5]")]
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert len(runs) == 12
    assert runs[0]["settings"] == {"train.seed": 0, "optimizer.learning_rate": 1e-9, "model.hidden": [3]}
    assert len(runs[0]["dev_f1"]) == 2
    best = [max(run["dev_f1"]) for run in runs]
    taught = [f1 for f1, run in zip(best, runs, strict=True) if run["settings"]["optimizer.learning_rate"] > 0.01]
    assert sum(taught) / len(taught) > 60 > 30 > (sum(best) - sum(taught)) / (len(best) - len(taught))
    row = [f1 for f1, run in zip(best, runs, strict=True) if list(run["settings"].values())[1:] == [0.05, [3]]]
    assert rows[4][4].startswith(f"{sum(row) / 3:.2f} ± ")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_a_value_may_hold_commas_of_its_own(config: Path) -> None:
    curves = '{"optimizer.weight_decay" = {name = "linear", final = 0.5}, "optimizer.b1" = {}}'
    result = sweep(config, f"schedule.others={curves},{{}}", "optimizer.weight_decay=0.1")
    assert result.exit_code == 0, result.output
    rows = cells(result)
    assert len([row for row in rows if row[1] == "1"]) == 2
    assert any(row[0] == "{}" for row in rows)


def test_keys_of_one_value_are_no_columns_and_nothing_is_cut(config: Path) -> None:
    values = "0.0123456789012345678", "0.02"
    rates = f"optimizer.learning_rate={','.join(values)}"
    result = sweep(config, "train.epochs=1", rates, "optimizer.weight_decay=0.1,0.2", "data.dev=", width=40)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == 'train.epochs = 1, data.dev = ""'
    assert max(map(len, result.stdout.splitlines())) == 40
    columns = ["".join(column) for column in zip(*cells(result), strict=True)]
    shown = "0.012345678901234568"
    assert columns[0] == f"optimizer.learning_rate{shown}{shown}0.020.02"
    assert columns[1] == "optimizer.weight_decay0.10.20.10.2"
    assert columns[2:4] == ["runs1111", "bestepoch1.01.01.01.0"]
    assert "…" not in result.stdout


def test_a_table_is_written_in_any_encoding(config: Path, tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text(f"{TEXT}kiosk B-ö\n", encoding="utf-8")
    arguments = "sweep", str(config), "train.seed=0..1", "train.epochs=1", 'data.drop_types=["ö"]'
    result = CliRunner(charset="ascii").invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert " +- " in result.stdout
    assert "\\xf6" in result.stdout


@pytest.mark.parametrize("second", ["train.accumulate=1,100000", 'optimizer.rates={},{"none.*" = 1.0}'])
def test_what_can_be_refused_is_refused_before_any_run(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    def epochs(_: object) -> Iterator[int]:
        raise AssertionError("a run came first")

    monkeypatch.setattr(experiment._Program, "epochs", epochs)
    result = sweep(config, "train.epochs=1", second, "--json", tmp_path / "new.json")
    assert result.exit_code == 2, result.output
    assert f"{second.partition('=')[0]}: required " in result.stderr
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 2)]
)
def test_runs_that_finished_are_told_when_a_later_one_fails(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    epochs, file = experiment._Program.epochs, tmp_path / "old.json"

    def failing(program: experiment._Program) -> Iterator[int]:
        if program._configs[0].model.hidden == (5,):
            raise error
        return epochs(program)

    monkeypatch.setattr(experiment._Program, "epochs", failing)
    file.write_text("[1]")
    result = sweep(config, "train.epochs=1", "model.hidden=[5],[4]", "--json", file)
    assert (result.exit_code, result.stdout, file.read_text()) == (code, "", "[1]")
    result = sweep(config, "train.epochs=1", "model.hidden=[4],[5],[6]", "train.seed=0,1", "--json", file)
    assert result.exit_code == code
    assert [row[:2] for row in cells(result)[2:]] == [["[4]", "2"]]
    assert [run["settings"]["train.seed"] for run in json.loads(file.read_text())] == [0, 1]
    assert "2 of 6 runs finished; these are told\nwindownet: " in result.stderr


def test_runs_are_in_the_file_when_a_later_one_is_killed(config: Path, tmp_path: Path) -> None:
    # As kill -9 has it: nothing of the process comes after.
    script = (
        "import os, sys\n"
        "from windownet import experiment\n"
        "from windownet.cli import main\n"
        "epochs = experiment._Program.epochs\n"
        "def killed(program):\n"
        "    return os._exit(9) if program._configs[0].model.hidden == (5,) else epochs(program)\n"
        "experiment._Program.epochs = killed\n"
        "main(sys.argv[1:])\n"
    )
    file, values = tmp_path / "runs.json", ["train.epochs=1", "model.hidden=[4],[5]", "train.seed=0,1"]
    file.write_text("[1]")
    file.chmod(0o600)
    (tmp_path / "link.json").symlink_to(file)
    command = [sys.executable, "-c", script, "sweep", config, *values, "--json", tmp_path / "link.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, ""), done.stderr
    assert [run["settings"] for run in json.loads(file.read_text())] == [
        {"train.epochs": 1, "model.hidden": [4], "train.seed": seed} for seed in (0, 1)
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*json*")) == ["link.json", "runs.json"]


def test_a_file_stays_whole_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_text(self: Path, text: str, **_: object) -> None:
        self.write_bytes(text[:2].encode())
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    (tmp_path / "a.json").write_text("[1]")
    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(InputError, match=r"a.json: cannot be written: No space left on device; name another file$"):
        written.write(tmp_path / "a.json", "[1, 2]")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"[1]"]


def test_where_the_file_cannot_be_written_the_runs_go_on_and_are_told(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.json"

    def write(file: Path, text: str) -> None:
        raise InputError(f"{file}: cannot be written: No space left on device; name another file")

    monkeypatch.setattr(written, "write", write)
    drawn = tmp_path / "drawn.svg"
    result = sweep(config, "train.epochs=1", "model.hidden=[4],[5]", "--json", file, "--figure", drawn)
    assert result.exit_code == 2
    assert drawn.stat().st_size
    assert [row[:1] for row in cells(result)[2:]] == [["[4]"], ["[5]"]]
    *warnings, last = [line for line in result.stderr.splitlines() if "cannot be written" in line]
    assert all(line.endswith("the runs go on, and it is tried again behind the last") for line in warnings)
    assert (len(warnings), last) == (
        2,
        f"windownet: {file}: cannot be written: No space left on device; name another file",
    )


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this system does not name what is open")
def test_a_pipe_gets_all_runs_once(config: Path) -> None:
    end, pipe = os.pipe()
    assert sweep(config, "train.epochs=1", "model.hidden=[4],[5]", "--json", f"/dev/fd/{pipe}").exit_code == 0
    os.close(pipe)
    with open(end, encoding="utf-8") as reader:  # noqa: PTH123
        assert len(json.load(reader)) == 2


def test_cautions_come_once_each_before_the_runs(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(_: object) -> Iterator[int]:
        raise InputError("the first run")

    monkeypatch.setattr(experiment._Program, "epochs", epochs)
    several = "init.weights=uniform,zeros", "optimizer.weight_decay=0.0,0.1", "train.seed=0,1", "model.hidden=[3],[4]"
    result = sweep(config, "optimizer.momentum=0.5", "words.update=freeze", *several)
    lines = [line for line in result.stderr.splitlines() if line]
    starts = (
        "warning: words.update = 'freeze' without words.vectors",
        "warning: optimizer.momentum = 0.5 has no effect with optimizer.name = 'adam'",
        "warning: optimizer.weight_decay = 0.1 is decoupled",
        "warning: optimizer.weight_decay = 0.1 does nothing to the word table, which stays frozen",
        "warning: init.weights = 'zeros' gives all units of a layer the same gradient",
        "windownet: the first run",
    )
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 6, lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.seeds=0..2"], "did you mean train.seed?"),
        (["train.seed=3..1"], "required a range that climbs"),
        (["train.seed"], "required KEY=VALUES, such as"),
        (["=1"], "required KEY=VALUES, such as"),
        (["train.epochs="], "train.epochs: required an integer, got ''"),
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
        "windownet: --figure: required matplotlib, which is not installed; install windownet[figures], or leave "
        "--figure out\n",
    )
    assert not (tmp_path / "f.png").exists()


def row(rate: float, width: int, test: tuple[float, float] | None) -> Row:
    return Row({"rate": rate, "only": 1, "width": width}, 2, (10 * rate, 1.0), test, 1.0, 0)


def test_a_figure_has_a_line_for_each_setting_and_a_bar_for_each_interval() -> None:
    figures = pytest.importorskip("matplotlib.figure", reason="draws a figure")
    figure = figures.Figure()
    shuffled = [(3.0, 4), (3.0, 5), (0.3, 4), (0.3, 5)]
    draw([row(r, w, (20 * r + w, 2.0 if w == 4 else math.nan)) for r, w in shuffled], ["rate", "only", "width"], figure)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("rate", "test F1", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["width = 4", "width = 5"]
    for bars, width, half in zip(axes.containers, (4, 5), (2.0, 0.0), strict=True):
        assert bars.lines[0].get_xydata().tolist() == [[0.3, 6 + width], [3.0, 60 + width]]
        (lengths,) = bars.lines[2]
        ends = [segment[:, 1].tolist() for segment in lengths.get_segments()]
        assert ends == [[mean - half, mean + half] for mean in (6 + width, 60 + width)]
    figure = figures.Figure()
    draw([row(1.0, 4, (1.0, 1.0)), row(2.0, 4, None)], ["rate", "only"], figure)
    (axes,) = figure.axes
    assert (axes.get_ylabel(), axes.get_xscale(), axes.get_legend()) == ("dev F1", "linear", None)
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 10.0], [2.0, 20.0]]
    figure = figures.Figure()
    draw([row(1.0, 4, None)], ["rate"], figure)
    assert figure.axes[0].get_xlabel() == ""


def test_runs_with_and_without_a_test_part_share_a_table(config: Path) -> None:
    for parts in (",train.conll", "train.conll,"):
        found = sweep(config, "train.epochs=1", f"data.test={parts}")
        assert found.exit_code == 0, found.output
        head, *rows = cells(found)[1:]
        assert head[-2:] == ["dev F1", "test F1"]
        assert sorted(r[-1] == "-" for r in rows) == [False, True]
        assert {len(r) for r in rows} == {len(head)}


@pytest.mark.parametrize(
    ("name", "begin"), [("f", b"\x89PNG"), ("f.PNG", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")]
)
def test_a_figure_is_what_its_suffix_says(tmp_path: Path, name: str, begin: bytes) -> None:
    pytest.importorskip("matplotlib", reason="draws a figure")
    picture.save(picture.blank("--figure", height=3), "--figure", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_figure_of_another_suffix_is_refused_before_the_runs(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise AssertionError("the runs came first")

    monkeypatch.setattr(experiment, "run", run)
    result = sweep(config, "train.seed=0,1", "--figure", tmp_path / "f.jpg")
    assert (result.exit_code, result.stderr) == (
        2,
        f"windownet: --figure {tmp_path}/f.jpg: required a name that ends in .png, .svg or .pdf, got '.jpg'; "
        "name another file\n",
    )
    assert not (tmp_path / "f.jpg").exists()


def test_files_are_tried_before_the_runs_and_kept_until_after_them(config: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("[1]")
    missing = sweep(config, "train.seed=0,1", "--json", tmp_path / "old.json", "--figure", tmp_path / "no" / "f.png")
    assert missing.exit_code == 2
    assert "cannot be written" in missing.stderr
    assert (tmp_path / "old.json").read_text() == "[1]"


def test_runs_that_diverged_are_counted(config: Path) -> None:
    # Units that saturate would hold such a loss finite.
    settings = "optimizer.name=sgd", "model.nonlinearity=relu"
    found = sweep(config, *settings, "train.seed=0..1", "optimizer.learning_rate=0.1,1e30")
    assert found.exit_code == 0, found.output
    told = [cell for row in cells(found) for cell in row]
    assert ("2" in told, "2, 2 diverged" in told) == (True, True), found.stdout
