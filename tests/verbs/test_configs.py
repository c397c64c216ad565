"""The verbs about configs, as a person meets them."""

import errno
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from windownet import config as config_module
from windownet.cli import main
from windownet.schema.pretrain import PretrainConfig
from windownet.settings import presets
from windownet.train import rate_curve
from windownet.verbs import rate_chart


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path):
    (tmp_path / "a.toml").write_text('[data]\nsource = "demo"\n[train]\nepochs = 4\n')
    return tmp_path / "a.toml"


@pytest.mark.parametrize("preset", [None, *presets.names()])
def test_init_writes_a_config_and_never_over_another(tmp_path, preset):
    arguments = ("init", tmp_path / "new.toml", *(("--preset", preset) if preset else ()))
    assert invoke(*arguments).exit_code == 0
    text = (tmp_path / "new.toml").read_text()
    assert config_module.load(tmp_path / "new.toml")
    assert text.count("#") > 5
    (tmp_path / "new.toml").write_text("mine")
    result = invoke(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"windownet: {tmp_path / 'new.toml'}: required a file that does not exist yet")
    assert (tmp_path / "new.toml").read_text() == "mine"


def test_init_answers_what_it_cannot_do(tmp_path):
    result = invoke("init", tmp_path / "none" / "new.toml")
    assert (result.exit_code, result.stderr) == (
        2,
        f"windownet: {tmp_path / 'none' / 'new.toml'}: cannot be written: No such file or directory; name another "
        "file\n",
    )
    assert "required one of cs224d, cs224n-a3, senna-wll" in invoke("init", tmp_path / "b", "--preset", "x").stderr
    assert not (tmp_path / "b").exists()


def test_init_leaves_nothing_where_the_disk_is_full(tmp_path, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(self, *arguments, **options):
        if self.name != "new.toml":
            return own(self, *arguments, **options)
        own(self, *arguments, **options).close()
        return Full()

    own = Path.open
    monkeypatch.setattr(Path, "open", opened)
    result = invoke("init", tmp_path / "new.toml")
    message = f"windownet: {tmp_path / 'new.toml'}: cannot be written: No space left on device; name another file\n"
    assert (result.exit_code, result.stderr) == (2, message)
    assert not list(tmp_path.iterdir())


def test_config_prints_what_trains_the_same(config, tmp_path):
    result = invoke("config", config, "train.epochs=7", "optimizer.momentum=0.5")
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: optimizer.momentum = 0.5 has no effect with optimizer.name = 'adam'; it is for momentum, nesterov\n"
    )
    (tmp_path / "b.toml").write_text(result.stdout)
    again = config_module.load(tmp_path / "b.toml")
    assert again == config_module.load(config, ["train.epochs=7", "optimizer.momentum=0.5"])
    assert invoke("config", tmp_path / "b.toml").stdout == result.stdout
    assert invoke("config", config, "train.epoch=7").exit_code == 2


def test_configs_of_word_vectors_are_printed_and_told_from_those_of_taggers(config, tmp_path):
    (tmp_path / "v.toml").write_text('[text]\nsource = "demo"\n')
    result = invoke("config", tmp_path / "v.toml", "pretrain.width=7", "text.files=[a.txt, 2017]")
    assert result.exit_code == 0
    (tmp_path / "w.toml").write_text(result.stdout)
    again = config_module.load_as(PretrainConfig, tmp_path / "w.toml")
    assert (again.pretrain.width, again.text.source, again.text.files) == (7, "demo", ("a.txt", "2017"))
    assert invoke("lint", tmp_path / "v.toml").stderr == (
        f"windownet: {tmp_path / 'v.toml'}: text: required a section of a tagger's config, got one of a config of "
        "word vectors; `windownet pretrain` takes that\n"
    )


def test_diff_of_word_vectors_and_of_two_kinds(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    vectors = tmp_path / "v.toml"
    vectors.write_text('[text]\nsource = "demo"\n[pretrain]\nobjective = "ranking"\n')
    (run / "config.toml").write_text('[text]\nsource = "demo"\n[pretrain]\nwindow = 5\n')
    other = invoke("diff", run, vectors)
    assert other.exit_code == 1
    cells = [re.findall(r"[^│\s]+", line) for line in other.stdout.splitlines() if line.startswith("│")]
    assert cells == [
        ["pretrain.objective", '"skipgram"', '"ranking"'],
        ["pretrain.learning_rate", "0.5", "0.2"],
        ["pretrain.accumulator", "10.0", "0.01"],
        ["pretrain.block", "8192", "2048"],
    ]
    assert (invoke("diff", vectors, vectors).exit_code, invoke("diff", vectors, vectors).stdout) == (0, "")
    for pair, kinds in (((config, vectors), ("train", "pretrain")), ((vectors, config), ("pretrain", "train"))):
        mixed = invoke("diff", *pair)
        assert (mixed.exit_code, mixed.stdout, mixed.stderr) == (
            2,
            "",
            f"windownet: {pair[1]}: required a config of `windownet {kinds[0]}`, as {pair[0]} is, got one of "
            f"`windownet {kinds[1]}`; name two of one kind\n",
        )


def test_diff_answers_as_diff_does(config, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text(invoke("config", config).stdout)
    same = invoke("diff", config, run)
    assert (same.exit_code, same.stdout) == (0, "")
    (run / "config.toml").write_text(invoke("config", config, "train.seed=5", "data.train=[x]").stdout)
    other = invoke("diff", config, run)
    assert other.exit_code == 1
    cells = [re.findall(r"[^│\s]+", line) for line in other.stdout.splitlines() if line.startswith("│")]
    assert cells[-2:] == [["data.train", '"train"', '"[x]"'], ["train.seed", "0", "5"]]
    trouble = invoke("diff", config, tmp_path / "none")
    assert (trouble.exit_code, trouble.stdout) == (2, "")


def test_schedule_draws_the_run_of_the_config(config):
    result = invoke("schedule", config, "train.batch_size=10000", "schedule.name=linear", "schedule.warmup=0.25")
    assert (result.exit_code, result.stderr) == (0, "")
    # 57,730 words make 6 batches of 10,000.
    assert result.stdout.startswith("linear: 24 steps, 6 an epoch\n")
    rows = [re.findall(r"[^│]+", line) for line in result.stdout.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert rows == [
        ["0", "1", "0", "first"],
        ["6", "2", "0.001", "25 %, warm-up is over, highest"],
        ["12", "3", "0.0006667", "50 %"],
        ["18", "4", "0.0003333", "75 %"],
        ["23", "4", "5.556e-05", "last"],
    ]
    heights = [line[10:].ljust(24) for line in result.stdout.splitlines()[1:9]]
    columns = ["".join(column) for column in zip(*heights, strict=True)]
    assert columns[6] == "█" * 8
    assert columns[0].strip() == ""
    filled = [len(column.strip()) for column in columns]
    assert filled[:7] == sorted(filled[:7])
    assert filled[6:] == sorted(filled[6:], reverse=True)


def test_schedule_says_what_it_cannot_know(config):
    result = invoke("schedule", config, "train.batch_size=10000", "schedule.name=plateau", "schedule.warmup=0.5")
    head, note, *_ = result.stdout.splitlines()
    assert head == "plateau: 24 steps, 6 an epoch"
    assert note == "its rate falls where dev scores no longer rise; this is its warm-up and peak"
    assert re.search(r"0 │ +1 │ +0 │ first .* 23 │ +4 │ +0.001 │ last", result.stdout, re.DOTALL)


def test_schedule_prints_other_numbers_beside_the_rate(config):
    others = '{"optimizer.b1" = {name = "linear"}, "regularization.word_dropout" = {name = "linear", final = 0.5}}'
    sections = ["train.batch_size=10000", "regularization.word_dropout=0.4", f"schedule.others={others}"]
    result = invoke("schedule", config, *sections)
    rows = [re.findall(r"[^│]+", line) for line in result.stdout.splitlines() if line.startswith("│")]
    # Words are dropped anew every epoch, of 6 steps.
    assert [[cell.strip() for cell in row[2:5]] for row in rows] == [
        ["0.001", "0.9", "0.4"],
        ["0.001", "0.675", "0.35"],
        ["0.001", "0.45", "0.3"],
        ["0.001", "0.225", "0.25"],
        ["0.001", "0.0375", "0.25"],
    ]


def test_schedule_without_data_draws_a_thousand_steps(config, tmp_path):
    result = invoke("schedule", config, "data.source=columns", f"data.root={tmp_path}")
    assert result.exit_code == 0
    assert result.stdout.startswith("constant: 1,000 steps, 250 an epoch\n")
    assert re.match(r"warning: .*train: required a file, found nothing there.*; drawn for a run of", result.stderr)


def test_schedule_and_gradcheck_need_no_word_vectors(config, tmp_path):
    absent = f"words.vectors={tmp_path / 'absent.txt'}"
    given, plain = invoke("schedule", config, absent), invoke("schedule", config)
    assert (given.exit_code, given.stdout, given.stderr) == (0, plain.stdout, "")
    small = ["model.word_width=4", "model.window=3", "model.hidden=[4]", "data.limit=20"]
    assert invoke("gradcheck", config, absent, *small).exit_code == 0


def test_schedule_in_an_encoding_without_blocks_and_as_a_file(config, tmp_path):
    png = tmp_path / "a.png"
    command = [sys.executable, "-m", "windownet", "schedule", str(config), "train.batch_size=10000"]
    script = "import sys; sys.modules['matplotlib.figure'] = None; from windownet.cli import main; main(sys.argv[1:])"
    command[1:3] = ["-c", script]
    done = subprocess.run(
        [*command, "--png", png], capture_output=True, text=True, check=False, env={"PYTHONIOENCODING": "ascii"} | env()
    )
    assert "#" * 24 in done.stdout
    assert (done.returncode, done.stderr) == (
        2,
        "windownet: --png: required matplotlib, which is not installed; install windownet[figures], "
        "or leave --png out\n",
    )
    pytest.importorskip("matplotlib")
    assert invoke(*command[3:], "--png", png).exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "cannot be written" in invoke(*command[3:], "--png", tmp_path / "none" / "a.png").stderr
    other = invoke(*command[3:], "--png", tmp_path / "a.pdf")
    line = f"windownet: --png {tmp_path}/a.pdf: required a name that ends in .png, got '.pdf'; name another file\n"
    assert (other.exit_code, other.stdout, other.stderr) == (2, "", line)


def env():
    import os

    return {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "PYTHONUTF8")}


def test_a_peak_of_one_step_is_drawn_whole():
    rates = np.full(1000, 0.1)
    rates[567] = 1.0
    chart = [line for _, line in rate_chart._chart(rates, " 12345678")]
    # The highest of its column's sixteen or so, and ten times as high as the columns beside it.
    assert [line.strip() for line in chart[: len(chart) // 2]] == ["8"] * (len(chart) // 2)


def test_the_marks_of_a_short_run_stand_side_by_side():
    short = config_module.parse({"data": {"source": "demo"}, "train": {"epochs": 1}}, "test")
    assert rate_curve.of(short, 1).marks == {0: "first, last"}
    assert rate_curve.of(short, 2).marks == {0: "first", 1: "last"}
    assert rate_curve.of(short, 8).marks == {0: "first", 2: "25 %", 4: "50 %", 6: "75 %", 7: "last"}
