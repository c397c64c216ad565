import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest
from click.testing import CliRunner

from windownet.cli import main
from windownet.tagger import artifact
from windownet.train import loop

COMMAND = [sys.executable, "-m", "windownet"]
GOOD = "Anna\tB-PER\nsaw\tO\nOslo\tB-LOC\n\nLee\tB-PER\nsaw\tO\nParis\tB-LOC\n\n" * 4
CONFIG = """
[data]
train = "train.conll"
dev = "dev.conll"
test = "test.conll"
separator = "tab"
[features]
min_count = 1
[model]
window = 3
word_width = 4
capitalization_width = 2
hidden = [4]
[train]
epochs = 2
batch_size = 8
"""
BAD_FILES = [
    (None, "", "required a file, found nothing there; check the path"),
    (b"", "", "required at least one sentence, found no sentence in it; check the file"),
    (b"# a\n# b\n", "", "required at least one sentence, found no sentence in it; check the file"),
    (b"\n \n\r\n", "", "required at least one sentence, found no sentence in it; check the file"),
    (b"Anna\tB-PER\nfoo\n", ":2", "required at least 2 columns separated by a tab, got 1 ('foo'); set data.separator"),
    (b"Anna\tB-PER\n\nfoo\tB-\n", ":3", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'B-'; set data.scheme"),
    (b"Anna\tS-PER\n", ":1", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'S-PER', a tag of BIOES; set"),
    (b"Anna\tB-PER\nf\xe9\tO\n", ":2", "required UTF-8, got byte 0xe9 at byte 1 of the line; convert the file"),
    ("Anna\tO\n".encode("utf-16"), ":1", "required UTF-8, got byte 0xff at byte 0 of the line; convert the file"),
    (b"Anna\tB-PER\nf\0o\tO\n", ":2", "required text, got a NUL at character 1 of the line; remove it"),
    (b"Anna\tB-PER\n \tO\n", ":2", "required a word in column 0, got an empty one"),
    ("folder", "", "required a file, got a directory; name a file in it"),
]


def invoke(*arguments, **options):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def answer(result):
    """The one line that the command line answered bad input with."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    *before, last = result.stderr.splitlines()
    assert last.startswith("windownet: ")
    assert "Traceback" not in result.stderr
    assert not [line for line in before if line.startswith("windownet: ")]
    return last.removeprefix("windownet: ")


def put(path, content):
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    return path


def fingerprint(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def corpus(tmp_path):
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}.conll").write_text(GOOD)
    (tmp_path / "tiny.toml").write_text(f"{CONFIG}\n")
    return tmp_path


@pytest.fixture
def train(corpus):
    def run(*arguments, run_dir=corpus / "run"):
        return invoke("train", corpus / "tiny.toml", f"data.root={corpus}", "--run-dir", run_dir, *arguments)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is never changed."""
    folder = tmp_path_factory.mktemp("finished")
    for part in ("train", "dev", "test"):
        (folder / f"{part}.conll").write_text(GOOD)
    (folder / "tiny.toml").write_text(CONFIG)
    result = invoke("train", folder / "tiny.toml", f"data.root={folder}", "--run-dir", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.mark.parametrize(("content", "line", "message"), BAD_FILES)
@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_a_bad_file_is_answered_before_anything_is_written(corpus, train, part, content, line, message):
    file = put(corpus / "bad.conll", content)
    said = answer(train(f"data.{part}=bad.conll", "data.comment=#"))
    if content in (None, "folder"):
        message = f"data.{part}: {message.partition(';')[0]}: {file}; set data.{part} to its name and data.root, now "
        assert said.startswith(message)
    else:
        assert said.startswith(f"{file}{line}: {message}")
    assert not (corpus / "run").exists()


@pytest.mark.parametrize(("content", "line", "message"), BAD_FILES)
def test_evaluate_answers_a_bad_file(finished, tmp_path, content, line, message):
    file = put(tmp_path / "bad.conll", content)
    result = invoke("evaluate", finished, file, "data.comment=#", "--json")
    assert answer(result).startswith(f"{file}{line}: {message}")


@pytest.mark.parametrize(
    ("content", "columns", "line", "message", "rows"),
    [
        (None, False, "", "required a file, found nothing there", 0),
        ("folder", False, "", "required a file, got a directory", 0),
        (b"", False, None, None, 0),
        (b"# a\n", True, None, None, 1),
        (b"Anna\nf\xe9\n", False, ":2", "required UTF-8, got byte 0xe9 at byte 1", 1),
        (b"Anna\n\nf\0o\n", False, ":3", "required text, got a NUL at character 1", 1),
        (b"Anna\tO\n\nfoo\tO\nbar\n", True, ":4", "required at least 2 columns separated by a tab, got 1 ('bar')", 1),
        (b"Anna\tO\n\nf\xe9\tO\n", True, ":3", "required UTF-8", 1),
    ],
)
def test_tag_answers_a_bad_file_and_keeps_what_came_before(finished, tmp_path, content, columns, line, message, rows):
    file = put(tmp_path / "bad", content)
    # The layout's second column is that of the word here, so that a short row lacks it.
    settings = ["--columns", "data.comment=#", "data.word_column=1", "data.tag_column=0"] if columns else []
    result = invoke("tag", finished, file, *settings)
    assert len([row for row in result.stdout.splitlines() if row]) == rows
    if message is None:
        assert (result.exit_code, result.stderr) == (0, "")
    else:
        assert result.exit_code == 2
        assert result.stderr.startswith(f"windownet: {file}{line}: {message}")
        assert result.stderr.count("\n") == 1


def test_a_byte_order_mark_and_carriage_returns_change_nothing(corpus, train, finished):
    for part in ("train", "dev", "test"):
        (corpus / f"{part}.conll").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert train().exit_code == 0
    changed, plain = (fingerprint(run / "model") for run in (corpus / "run", finished))
    assert all(changed[name] == plain[name] for name in ("vocab.txt", "tags.json"))
    assert jnp.array_equal(artifact.load(corpus / "run").params["words"], artifact.load(finished).params["words"])
    scores = invoke("evaluate", finished, corpus / "test.conll", "--json")
    assert json.loads(scores.stdout)["tokens"] == 24


def test_sentences_of_one_token_and_of_20000_are_taken(corpus, train):
    long = "".join(f"w{n % 90}\t{'B-PER' if n % 9 == 0 else 'O'}\n" for n in range(20_000))
    (corpus / "odd.conll").write_text(f"Anna\tB-PER\n\n{long}\nsaw\tO\n")
    settings = ["data.train=odd.conll", "data.dev=odd.conll", "train.epochs=1", "train.batch_size=512"]
    result = train(*settings)
    assert result.exit_code == 0, result.output
    assert "3 training sentences" in result.stderr
    scores = json.loads(invoke("evaluate", corpus / "run", corpus / "odd.conll", "--json").stdout)
    assert (scores["tokens"], scores["gold"]) == (20_002, 2224)
    tagged = invoke("tag", corpus / "run", corpus / "odd.conll", "--columns").stdout.rstrip("\n").split("\n\n")
    assert [sentence.count("\n") + 1 for sentence in tagged[:3]] == [1, 20_000, 1]
    text = " ".join(f"w{n % 90}" for n in range(20_000))
    (record,) = map(json.loads, invoke("tag", corpus / "run", "--format", "jsonl", input=text).stdout.splitlines())
    assert len(record["tags"]) == 20_000


def test_types_that_training_never_saw_are_counted_and_scored_as_errors(corpus, train):
    (corpus / "dev.conll").write_text(GOOD + "Acme\tB-ORG\nInc\tI-ORG\n\nX\tB-EVT\nY\tB-ORG\n\n")
    (corpus / "test.conll").write_text("Acme\tB-ORG\n\n")
    result = train("train.epochs=1")
    assert result.exit_code == 0
    for part, counts in (("dev", "1 EVT, 2 ORG"), ("test", "1 ORG")):
        (warning,) = [line for line in result.stderr.splitlines() if line.startswith(f"warning: {part} has mentions")]
        assert f": {counts};" in warning
    end = json.loads((corpus / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert end["dev"]["gold"] == 16 + 3
    assert {name: figures["recall"] for name, figures in end["test"]["by_type"].items() if figures["gold"]} == {
        "ORG": 0
    }
    assert end["test"]["f1"] == 0


def test_a_run_folder_that_exists_is_refused_unless_it_may_be_replaced(corpus, train, finished):
    run = corpus / "run"
    shutil.copytree(finished, run)
    (run / "mine.txt").write_text("notes")
    before = fingerprint(run)
    assert answer(train()).startswith(f"--run-dir {run}: required a folder that does not exist yet; ")
    # Until the config and all data are known to be good, the old run stays.
    for bad in ("train.epoch=1", "data.train=none.conll", "data.test=none.conll", "data.drop_types=['PER', 'LOC']"):
        answer(train(bad, "--replace"))
    assert fingerprint(run) == before


def test_a_run_is_replaced_when_asked(corpus, train):
    run = corpus / "run"
    run.mkdir()
    (run / "config.toml").write_text("")
    (run / "metrics.jsonl").write_text("of another run")
    assert train("train.epochs=1", "--replace").exit_code == 0
    assert "of another run" not in (run / "metrics.jsonl").read_text()
    assert artifact.load(run).config.train.epochs == 1


RUN = {"config.toml": "# mine\n", "metrics.jsonl": "", ".lock": "1\n", ".model.new/model.safetensors": ""}


@pytest.mark.parametrize(
    ("files", "came"),
    [
        (None, "one without config.toml"),
        ({"thesis.tex": "years of work"}, "thesis.tex in it"),
        (RUN | {".git/HEAD": "x", ".env": "secret"}, ".env, .git in it"),
        (RUN | {"notes.txt": "x"}, "notes.txt in it"),
        ({"config.toml": "# mine\n", ".lock": ""}, "one without metrics.jsonl"),
        ({"metrics.jsonl": "x"}, "one without config.toml"),
    ],
)
def test_only_a_run_is_replaced(corpus, train, files, came):
    place = corpus / "place"
    if files is None:
        place.write_bytes(b"x")
    for name, text in (files or {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    before = fingerprint(corpus)
    message = answer(train("--replace", run_dir=place))
    assert message == f"--replace {place}: required a run folder and nothing else in it, got {came}"
    assert fingerprint(corpus) == before


def test_a_run_behind_a_link_is_replaced_where_it_lies(corpus, train, monkeypatch):
    (corpus / "link").symlink_to(corpus / "target")
    assert train("train.epochs=1", run_dir=corpus / "link").exit_code == 0
    assert train("train.epochs=2", "--replace", run_dir=corpus / "link").exit_code == 0
    monkeypatch.chdir(corpus / "target")
    assert train("train.epochs=3", "--replace", run_dir=".").exit_code == 0
    assert artifact.load(corpus / "link").config.train.epochs == 3
    assert (corpus / "link").is_symlink()
    assert {path.name for path in corpus.iterdir() if path.is_dir()} == {"link", "target"}
    assert invoke("train", "--resume", corpus / "link").stdout.startswith(f"{corpus / 'target'}: dev F1 ")


@pytest.mark.parametrize("place", ["train.conll/run", "/proc/run"])
def test_a_place_that_cannot_be_written_is_answered(corpus, train, place):
    if place.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc to be refused by")
    message = answer(train(run_dir=corpus / place))
    assert message.startswith(f"{corpus / place}: required a folder that can be written, got '")
    assert message.endswith("; name another with --run-dir")


@contextlib.contextmanager
def full_disk(monkeypatch, method, after):
    """The file system fails in the middle of the write that follows `after` good ones."""
    works, calls = getattr(Path, method), []

    def fails(self, *arguments, **options):
        if method == "write_bytes" or "a" in arguments:
            calls.append(self)
        if len(calls) > after:
            if method == "write_bytes":
                works(self, arguments[0][:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return works(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, fails)
        yield
    assert len(calls) > after


@pytest.mark.parametrize(("method", "after"), [("write_bytes", 8 + 4 + 3), ("open", 3)])
def test_a_disk_that_fills_up_leaves_the_last_model_and_names_it(corpus, train, monkeypatch, method, after):
    with full_disk(monkeypatch, method, after):
        message = answer(train("train.epochs=9"))
    run = corpus / "run"
    assert message.startswith(f"{run}: cannot be written: No space left on device; ")
    assert re.search(
        rf"epoch \d, the last one finished, is kept in {run / 'last'}, epoch \d, the best, in {run / 'model'}", message
    )
    for name in ("model", "last"):
        assert artifact.load(run / name).params["words"].shape[1] == 4
    assert invoke("evaluate", run, corpus / "test.conll", "--json").exit_code == 0


def test_a_disk_that_is_full_at_once_is_named_with_what_to_do(corpus, train, monkeypatch):
    with full_disk(monkeypatch, "write_bytes", 1):
        message = answer(train())
    run = corpus / "run"
    assert message == (
        f"{run}: cannot be written: No space left on device; no epoch was finished, so no model is kept; when it can "
        f"be, begin again with `windownet train --resume {run}`"
    )
    assert invoke("train", "--resume", run).exit_code == 0
    assert invoke("evaluate", run, corpus / "test.conll", "--json").exit_code == 0


def test_an_empty_name_is_not_the_current_folder(train):
    refused = train(run_dir="")
    assert refused.exit_code == 2
    assert "Invalid value for '--run-dir': required a file or folder, got an empty name" in refused.stderr


def test_a_blank_at_the_end_of_a_row_is_told_from_a_tag(corpus, train):
    for part in ("train", "dev", "test"):
        (corpus / f"{part}.conll").write_text(GOOD.replace("\t", " ").replace("Oslo B-LOC", "Oslo B-LOC "))
    message = answer(train("data.separator=space"))
    assert message.endswith(
        ", got ''; set data.separator=whitespace, if blanks end its rows, or data.tag_column to its tags"
    )
    assert train("data.separator=whitespace").exit_code == 0


def test_a_part_that_is_not_there_may_be_left_out(corpus, train):
    (corpus / "dev.conll").unlink()
    assert answer(train()).endswith("to the folder that it is in, or leave it out by data.dev=")
    assert train("data.dev=").exit_code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_answered(finished):
    # As people have it: output to a file waits in a buffer, and is written once more at exit.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [*COMMAND, "evaluate", finished, finished.parent / "test.conll"]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=buffered, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "windownet: standard input or output: No space left on device; see what it is connected to\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_run_is_not_lost_where_nobody_can_be_told_of_it(corpus):
    command = [*COMMAND, "train", corpus / "tiny.toml", f"data.root={corpus}", "--run-dir", corpus / "run"]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run([*command, "--quiet"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert artifact.load(corpus / "run")


DEEP = "[" * 5000


@pytest.mark.parametrize("text", ["1" * 5000, DEEP, "{a=" * 5000])
def test_toml_that_python_does_not_read(corpus, text):
    (corpus / "odd.toml").write_text(f"[train]\nepochs = {text}\n")
    assert answer(invoke("config", corpus / "odd.toml")).startswith(f"{corpus / 'odd.toml'}: required TOML; ")
    given = answer(invoke("config", corpus / "tiny.toml", f"train.epochs={text}"))
    assert given.startswith("argument 'train.epochs=")


@pytest.mark.parametrize("verb", ["tag", "evaluate"])
def test_a_damaged_model_is_answered(finished, corpus, verb):
    artifact.save(artifact.load(finished), corpus / "model")
    (corpus / "model" / "vocab.txt").write_text("<padding>\n<rare>\n")
    message = answer(invoke(verb, corpus / "model", corpus / "test.conll"))
    assert message.startswith(f"{corpus / 'model' / 'vocab.txt'}: required the file as it was saved with the model")
    (corpus / "model" / "model.safetensors").unlink()
    message = answer(invoke(verb, corpus / "model", corpus / "test.conll"))
    assert message.startswith(f"{corpus / 'model' / 'model.safetensors'}: required in a model folder, found none")
    message = answer(invoke(verb, corpus / "none", corpus / "test.conll"))
    assert message.startswith(f"{corpus / 'none'}: required a run or model folder, found nothing there")


def test_an_interrupted_run_keeps_the_last_finished_epoch_and_says_so(corpus):
    run = corpus / "run"
    command = [*COMMAND, "train", corpus / "tiny.toml", f"data.root={corpus}", "--run-dir", run, "train.epochs=1000000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        metrics = run / "metrics.jsonl"
        while not (metrics.exists() and '"kind": "epoch", "epoch": 2' in metrics.read_text()):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors
    (kept,) = [line for line in errors.splitlines() if "is kept in" in line]
    epoch = int(re.search(r"interrupted in epoch (\d+); ", kept).group(1)) - 1
    assert epoch >= 2
    assert f"; epoch {epoch}, the last one finished, is kept in {run / 'last'}, epoch " in kept
    for name in ("model", "last"):
        assert artifact.load(run / name).tags[0] == "O"


def test_a_run_that_is_interrupted_before_its_first_step_tells_where_the_old_one_is(corpus, train, monkeypatch):
    def press(prepared):
        raise KeyboardInterrupt

    assert train("train.epochs=1").exit_code == 0
    monkeypatch.setattr("windownet.train.environment.describe", press)
    result = train("--replace")
    old = corpus / ".run.replaced"
    assert (result.exit_code, artifact.load(old).config.train.epochs) == (130, 1)
    assert result.stderr.endswith(f"\nwindownet: interrupted; the run that was to be replaced is in {old}\n")


def test_a_loss_that_is_not_finite_stops_the_run(corpus, train):
    # Units that saturate would hold such a loss finite.
    message = answer(train("optimizer.name=sgd", "optimizer.learning_rate=1e30", "model.nonlinearity=relu"))
    assert re.match(r"step \d+ of epoch 1: required a finite loss, got (nan|inf); ", message)
    assert re.search(r"training sentences of data.train, of lines (\d+, )*(\d+|\.\.\.) \('(Anna|Lee) saw", message)
    assert "no epoch was finished, so no model is kept" in message
    assert "lower optimizer.learning_rate, now 1e+30" in message


def test_a_loss_that_is_not_finite_later_names_the_last_good_model(corpus, train, monkeypatch):
    class Breaks(loop.Step):
        calls = 0

        def __call__(self, state, batches, **options):
            self.calls += 1
            state, losses = super().__call__(state, batches, **options)
            return state, losses.at[1].set(jnp.nan) if self.calls == 3 else losses

    monkeypatch.setattr(loop, "Step", Breaks)
    message = answer(train("train.epochs=5"))
    assert message.startswith("step 2 of epoch 3: required a finite loss, got nan; ")
    run = corpus / "run"
    assert f"epoch 2, the last one finished, is kept in {run / 'last'}, epoch " in message
    assert artifact.load(run / "last").tags[0] == "O"
