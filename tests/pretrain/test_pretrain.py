"""`windownet pretrain`: what it learns and writes, and what is left when it is stopped."""

import io
import itertools
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from windownet import checkpoint, config, machine, run_folder
from windownet.cli import main
from windownet.data import vectors
from windownet.data.neighbours import of_words
from windownet.errors import InputError
from windownet.pretrain import loop
from windownet.pretrain.log import PretrainLog
from windownet.schema.pretrain import PretrainConfig

COMMAND = [sys.executable, "-m", "windownet"]
# Words of a group stand beside those of its own theme, never beside those of another group or beside each other.
GROUPS = {name: [f"{name}{n}" for n in "abcd"] for name in ("river", "metal", "spice")}
CONFIG = """
[text]
files = ["text.txt"]
[pretrain]
width = 12
window = 2
hidden = 16
subsample = 0.0
epochs = 4
block = 256
steps_per_call = 4
learning_rate = 0.3
accumulator = 1.0
"""
RANKING = "pretrain.objective=ranking", "pretrain.learning_rate=0.5", "pretrain.accumulator=0.01"


def a_text():
    rng = np.random.default_rng(0)
    names = list(GROUPS)
    lines = []
    for _ in range(2500):
        group = names[rng.integers(3)]
        themes = [f"{group}-theme-{letter}" for letter in rng.choice(list("xyz"), 2)]
        lines.append(f"{themes[0]} {rng.choice(GROUPS[group])} {themes[1]}")
    return "\n".join(lines)


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "text.txt").write_text(a_text())
    (folder / "tiny.toml").write_text(CONFIG)
    return folder


def run(folder, name, *arguments):
    settings = [f"text.root={folder}"]
    return invoke("pretrain", folder / "tiny.toml", *settings, "--run-dir", folder / name, *arguments)


def resume(folder, *settings):
    return invoke("pretrain", "--resume", folder, *settings)


def records_of(folder, name):
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


def told(result):
    """Share in percent, loss and speed of every line of progress."""
    return re.findall(r"^ *(\d+)%  loss (\S+) +(\S+) words/s$", result.stderr, re.MULTILINE)


@pytest.fixture(scope="module")
def results(folder):
    """A run of each objective that nothing disturbed."""
    found = {"skipgram": run(folder, "skipgram"), "ranking": run(folder, "ranking", *RANKING)}
    assert all(result.exit_code == 0 for result in found.values()), [result.output for result in found.values()]
    return found


@pytest.mark.parametrize("objective", ["skipgram", "ranking"])
def test_words_of_one_company_come_together(folder, results, objective):
    result = results[objective]
    path = folder / objective / "vectors.safetensors"
    found = of_words(path, [word for group in GROUPS.values() for word in group], 3)
    right = [near.word in GROUPS[word[:5]] for word, nearest in found.nearest.items() for near in nearest]
    # By chance 5 of 36 would be.
    assert sum(right) >= 26, found.nearest
    records = records_of(folder, objective)
    losses = [record["loss"] for record in records if record["kind"] == "step"]
    assert losses[-1] < 0.8 * losses[0]
    assert records[0]["all_words"] == 7500 and records[-1]["vectors"] == 21
    assert "7,500 words, 21 of them have a vector" in result.stderr
    assert "21 words, 12 wide" in result.stdout


def test_progress_is_told_by_what_was_trained(folder, results):
    records = records_of(folder, "skipgram")
    steps, end = [record for record in records if record["kind"] == "step"], records[-1]
    # Calls of 1024 words, of four times 7500.
    assert [record["share"] for record in steps] == [min(1, round(n * 1024 / 30000, 4)) for n in range(1, 31)]
    loss_at = {f"{record['share']:.0%}": f"{after['loss']:.4f}" for record, after in itertools.pairwise(steps)}
    lines = told(results["skipgram"])
    assert [int(share) for share, _, _ in lines] == [10, 20, 31, 41, 51, 61, 72, 82, 92, 100]
    assert [loss for _, loss, _ in lines[:-1]] == [loss_at[f"{share}%"] for share, _, _ in lines[:-1]]
    assert lines[-1][1:] == (f"{end['loss']:.4f}", f"{end['words_per_second']:,}")
    assert end["loss"] < 0.8 * steps[0]["loss"]
    # Nothing is sub-sampled, so every word of the four passes was trained.
    assert end["raw_words_per_second"] == pytest.approx(end["words_per_second"], rel=0.01)


def test_a_run_of_one_call_tells_the_loss_that_it_ends_with_and_no_speed(folder):
    result = run(folder, "short", "pretrain.steps_per_call=128")
    assert result.exit_code == 0, result.output
    _, step, end = records_of(folder, "short")
    assert told(result) == [("100", f"{end['loss']:.4f}", "-")]
    assert end["loss"] < 0.8 * step["loss"] and end["words_per_second"] is None
    assert " s  - words/s (- of the text)" in result.stdout


@pytest.mark.parametrize(
    ("given", "has", "advised"),
    [
        (("pretrain.block=8192", "pretrain.epochs=2"), "2 blocks of 8,192", ["pretrain.block=128"]),
        (("pretrain.block=8192", "pretrain.epochs=1"), "1 block of 8,192", ["pretrain.block=64"]),
        (
            ("pretrain.block=64", "pretrain.epochs=1", "pretrain.subsample=0.01"),
            "77 blocks of 64",
            ["pretrain.epochs=2"],
        ),
    ],
)
def test_too_few_blocks_are_warned_of_with_a_cure(folder, given, has, advised):
    result = run(folder, f"few-{has}", *given)
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
    assert f"the run has {has} words" in warning
    assert re.findall(r"pretrain\.\w+=\d+", warning) == advised
    result = run(folder, f"cured-{has}", *given, *advised)
    assert result.exit_code == 0 and "warning:" not in result.stderr


def test_text_that_sub_sampling_takes_away_is_warned_of(folder):
    result = run(folder, "thin", "pretrain.epochs=1", "pretrain.subsample=1e-30")
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
    assert "raise pretrain.subsample, now 1e-30" in warning and "pretrain.epochs" not in warning


def test_more_blocks_than_can_be_counted_are_refused_and_leave_nothing(folder):
    result = run(folder, "endless", "pretrain.epochs=100000000000")
    assert (result.exit_code, (folder / "endless").exists()) == (2, False)
    assert "windownet: pretrain.epochs: required at most 2,147,483,647 blocks in all, got " in result.stderr


def test_a_loss_that_rose_is_warned_of(folder, results):
    result = run(folder, "high", "pretrain.learning_rate=1e8", "pretrain.epochs=1", "pretrain.block=64")
    assert result.exit_code == 0, result.output
    (warning,) = re.findall(
        r"^warning: the last loss, (\S+), is above the first, 4\.1\d+, ", result.stderr, re.MULTILINE
    )
    assert len(warning) < 12 and warning == told(result)[-1][1]
    assert all("warning" not in each.stderr for each in results.values())


def test_without_a_pair_there_is_no_loss(folder):
    (folder / "alone.txt").write_text("a\nb\n" * 5)
    result = run(folder, "alone", "text.files=[alone.txt]")
    assert result.exit_code == 0, result.output
    assert told(result) == [("100", "-", "-")]
    assert [record["loss"] for record in records_of(folder, "alone")[1:]] == [None, None]


@pytest.mark.parametrize("objective", ["skipgram", "ranking"])
def test_files_read_back_alike_and_nothing_else_is_left(folder, results, objective):
    assert {path.name for path in (folder / objective).iterdir()} == {
        ".lock",
        "config.toml",
        "metrics.jsonl",
        "vectors.txt",
        "vectors.safetensors",
    }
    text, tensors = (vectors.read(folder / objective / f"vectors.{form}") for form in ("txt", "safetensors"))
    assert text.words == tensors.words and len(text.words) == 21
    np.testing.assert_array_equal(text.matrix, tensors.matrix)
    assert text.matrix.shape == (21, 12)


def test_an_interrupted_run_goes_on_to_the_same_bits(folder, results, monkeypatch):
    objective = "ranking"
    saved = []

    def save(*arguments, **options):
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(checkpoint_save(*arguments, **options))

    checkpoint_save = checkpoint.save
    settings = (*RANKING, "pretrain.checkpoint_seconds=0")
    name = f"{objective}-resumed"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        result = run(folder, name, *settings)
    assert result.exit_code == 130
    assert result.stderr.startswith(f"writing {folder / name}\n")
    kept = f"interrupted; the checkpoint after 16 blocks is kept in {folder / name / 'checkpoints'}; go on with "
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"windownet: {kept}`windownet pretrain ") and line.endswith("`")
    command = line.partition("`windownet ")[2].rstrip("`").split()
    # The last one is damaged besides, so that the one before has to serve.
    last = max((folder / name / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-1])
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert f"{last}: required a whole checkpoint" in result.stderr
    assert "going on after 12 blocks" in result.stderr
    assert same(folder, name, objective)


def test_a_signal_before_the_first_checkpoint_makes_one(folder, results, monkeypatch):
    told = []

    def step(self, **figures):
        told.append(tell(self, **figures))
        if len(told) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    tell = PretrainLog.step
    with monkeypatch.context() as patch:
        patch.setattr(PretrainLog, "step", step)
        result = run(folder, "asked")
    assert result.exit_code == 143
    # The call that was in flight is kept as well.
    assert "interrupted; the checkpoint after 16 blocks is kept in" in result.stderr
    result = resume(folder / "asked")
    assert result.exit_code == 0, result.output
    assert "going on after 16 blocks" in result.stderr
    assert same(folder, "asked", "skipgram")


def test_a_run_that_has_no_checkpoint_yet_begins_its_metrics_anew(folder, results, monkeypatch):
    def save(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        result = run(folder, "anew", "pretrain.checkpoint_seconds=0")
    assert result.exit_code == 130
    assert f"no checkpoint was written yet, so `windownet pretrain --resume {folder / 'anew'}` begins" in result.stderr
    assert [record["kind"] for record in records_of(folder, "anew")] == ["text", "step"]
    assert resume(folder / "anew").exit_code == 0
    assert same(folder, "anew", "skipgram")


def test_a_folder_that_another_config_has_come_to_is_left_to_it(folder):
    settings = [f"text.root={folder}", "pretrain.seed=1"]
    asked, other = (config.load_as(PretrainConfig, folder / "tiny.toml", settings[:n]) for n in (2, 1))
    run_folder.create(folder / "raced", other.to_toml())
    with pytest.raises(InputError, match=r"config.toml: required pretrain.seed = 0, .* got 1"):
        loop.pretrain(asked, folder / "raced", Console(file=io.StringIO()))
    assert sorted(path.name for path in (folder / "raced").iterdir()) == ["config.toml", "metrics.jsonl"]
    with pytest.raises(InputError, match=r"never made: required a run folder, found nothing there"):
        loop.pretrain(asked, folder / "never made", Console(file=io.StringIO()))


def same(folder, one, other):
    """Whether two runs have the same vectors and recorded the same steps, each once."""
    first, second = ((folder / each / "vectors.safetensors").read_bytes() for each in (one, other))
    kinds, others = (
        [(record["kind"], record.get("step"), record.get("loss")) for record in records_of(folder, each)]
        for each in (one, other)
    )
    return first == second and [kind for kind in kinds if kind[0] != "resume"] == others


def test_a_killed_run_goes_on_to_the_same_bits(folder, results):
    settings = [str(folder / "tiny.toml"), f"text.root={folder}", "pretrain.checkpoint_seconds=0"]
    command = [*COMMAND, "pretrain", *settings, "--run-dir", str(folder / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((folder / "killed").glob("checkpoints/*.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "killed" / "vectors.txt").exists(), "it was done before it was killed: give it more to do"
    result = resume(folder / "killed")
    assert result.exit_code == 0, result.output
    assert "going on after" in result.stderr
    assert same(folder, "killed", "skipgram")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["text.files=[]"], "text.files: required the names of files, got none; name one"),
        (
            ["text.source=demo", "text.files=[a.txt]"],
            "text.files: required none with text.source=demo, got 'a.txt'; set text.source=files to read it",
        ),
        (['text.files=["no.txt"]'], "no.txt: required a file, found nothing there; check the path"),
        (['text.files=["broken.xz"]'], "broken.xz: required a whole xz file, got one that breaks off; fetch it again"),
        (["text.min_count=99999"], "99999 times or more, got none, the most frequent is"),
        (["pretrain.window=0"], "argument 'pretrain.window=0': pretrain.window: required a value greater than"),
        (["pretrain.width=0"], "pretrain.width: required a value greater than or equal to 1, got 0"),
        (["pretrain.widht=3"], "pretrain.widht: unknown key; did you mean pretrain.width?"),
        (["train.epochs=3"], "train: required a section of a config of word vectors, got one of a tagger's config"),
        (["text.files=[no.txt]"], "no.txt: required a file, found nothing there; check the path"),
        (["epochs=3"], "required section.key=value, such as pretrain.epochs=3"),
        (["pretrain.block=100"], "pretrain.block: required a multiple of 64, got 100"),
        (["pretrain.learning_rate=1e38"], "required finite losses, got"),
        (["--resume", "other"], "--resume other: required without --run-dir and --replace; leave them out"),
    ],
)
def test_bad_input_is_one_clear_line(folder, settings, message, request):
    (folder / "broken.xz").write_bytes(lzma.compress(a_text().encode())[:-40])
    result = run(folder, f"bad-{request.node.callspec.indices['settings']}", *settings)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("windownet:")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "settings", [('text.files=["no.txt"]',), ('text.files=["cut.xz"]',), ("text.min_count=99999",)]
)
def test_a_text_that_is_refused_leaves_the_folder_as_it_was(folder, settings, tmp_path):
    # Large enough to break off behind the beginning that is read before.
    packed = lzma.compress(np.random.default_rng(0).bytes(3 << 20).hex().encode(), preset=0)
    (folder / "cut.xz").write_bytes(packed[:-40])
    arguments = ("pretrain", folder / "tiny.toml", f"text.root={folder}", "--run-dir", tmp_path / "run")
    result = invoke(*arguments, *settings)
    assert result.exit_code == 2
    # What the beginnings of the files tell is told before a folder is made.
    assert ("writing" in result.stderr) == ("no.txt" not in settings[0])
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text(CONFIG)
    (tmp_path / "run" / "metrics.jsonl").touch()
    (tmp_path / "run" / "vectors.txt").write_text("kept")
    assert invoke(*arguments, *settings, "--replace").exit_code == 2
    assert (tmp_path / "run" / "vectors.txt").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.fixture(scope="module")
def stopped(folder):
    """A run that a signal stopped at its second checkpoint."""
    saved, save = [], checkpoint.save

    def twice(*given, **options):
        saved.append(save(*given, **options))
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", twice)
        assert run(folder, "stopped", "pretrain.checkpoint_seconds=0").exit_code == 130
    return folder / "stopped"


@pytest.fixture
def copied(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def test_a_run_goes_on_with_its_own_config_and_in_its_own_folder(folder, results, copied):
    # Where the text lies makes no difference any more.
    result = resume(copied, "pretrain.checkpoint_seconds=9", f"text.root={folder / 'gone'}")
    assert result.exit_code == 0, result.output
    assert same(folder, copied, "skipgram")
    result = resume(copied)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{copied}: its vectors are written; the run has finished, nothing is left to do\n"
    result = run(folder, copied)
    assert result.exit_code == 2 and "required a folder that does not exist yet" in result.stderr


def test_another_config_is_refused(copied):
    for settings in (("pretrain.width=13",), ("other.toml", "text.root=x")):
        result = resume(copied, *settings)
        assert result.exit_code == 2
        assert f"argument '{settings[0]}': required with --resume nothing but what no result depends" in result.stderr
    path = copied / "config.toml"
    path.write_text(path.read_text().replace("width = 12", "width = 13"))
    before = {path: path.read_bytes() for path in copied.rglob("*.*") if path.name != ".lock"}
    result = resume(copied)
    assert result.exit_code == 2
    assert "safetensors: required pretrain.width = 12, as the run began with, got 13; leave the" in result.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("part", "name", "status", "told"),
    [
        ("versions", "jaxlib", 2, "required jaxlib = {!r}, as the run began with, got 'other'; install that version"),
        ("device", "jax_enable_x64", 2, "required device.jax_enable_x64 = {!r}, as the run began with, got 'other'"),
        ("device", "cores", 0, "warning: the run began on another machine (device.cores: {!r}, now other)"),
    ],
)
def test_another_machine_is_refused_or_told(copied, monkeypatch, part, name, status, told):
    now = machine.describe()
    told = told.format(now[part][name])
    now[part][name] = "other"
    monkeypatch.setattr(machine, "describe", lambda: now)
    result = resume(copied)
    assert result.exit_code == status and told in result.stderr
