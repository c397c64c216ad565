"""A whole run on a tiny corpus: what it keeps, what it records, what it says."""

import io
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from windownet import config, run_folder
from windownet.data import scores
from windownet.data.batches import Encoded
from windownet.errors import InputError
from windownet.tagger import artifact
from windownet.tagger.tagger import Predictor, Tagger, score
from windownet.train import loop
from windownet.train.levels import Level
from windownet.train.log import RunLog
from windownet.train.prepare import Prepared, prepare, unseen_types

SENTENCES = [
    "Ann B-PER|met O|Bob B-PER|in O|Rome B-LOC",
    "Bob B-PER|left O|Rome B-LOC|for O|New B-LOC|York I-LOC",
    "they O|slept O",
    "Ann B-PER|wrote O|to O|Carl B-PER|Young I-PER",
]


def write(path: Path, sentences: list[str]) -> None:
    path.write_text("".join(sentence.replace("|", "\n") + "\n\n" for sentence in sentences), encoding="utf-8")


def make(folder: Path, **sections: dict[str, object]) -> Prepared:
    write(folder / "train.conll", SENTENCES * 5)
    write(folder / "dev.conll", SENTENCES)
    write(folder / "test.conll", [*SENTENCES, "Acme B-ORG|met O|Ann B-PER"])
    tree = {
        "data": {"root": str(folder), "train": "train.conll", "dev": "dev.conll", "test": "test.conll"},
        "model": {"hidden": [16], "word_width": 8},
        "optimizer": {"learning_rate": 0.02},
        "train": {"epochs": 8, "batch_size": 8, "steps_per_call": 4},
    }
    for name, section in sections.items():
        tree.setdefault(name, {}).update(section)
    return prepare(config.parse(tree, "test"))


def run(prepared: Prepared, folder: Path) -> tuple[loop.Result, str]:
    run_folder.create(folder, prepared.config.to_toml())
    text = io.StringIO()
    return loop.train(prepared, folder, Console(file=text, width=200)), text.getvalue()


def test_a_run(tmp_path: Path) -> None:
    prepared = make(tmp_path)
    result, text = run(prepared, tmp_path / "run")
    assert result.dev.f1 == 100
    assert result.test is not None
    assert result.test.by_type["ORG"].gold == 1
    assert result.test.by_type["ORG"].correct == 0
    assert unseen_types(prepared) == {"test": {"ORG": 1}}

    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [record for record in records if record["kind"] == "epoch"]
    steps = [record for record in records if record["kind"] == "step"]
    assert [record["epoch"] for record in epochs] == list(range(1, 9))
    assert len(steps) == 8 * prepared.epochs.calls
    assert [record["step"] for record in steps][-1] == 8 * prepared.epochs.steps
    assert records[-1]["compilations"] == 1
    assert records[-1]["dev"]["f1"] == 100
    assert text.count("epoch ") == 8
    assert "compiled" not in text

    # The best model is the first epoch of the best dev F1, the last is the last; both score as recorded.
    f1 = [record["dev"]["f1"] for record in epochs]
    assert result.best_epoch == 1 + int(np.argmax(f1))
    for name, expected in ((run_folder.BEST, max(f1)), (run_folder.LAST, f1[-1])):
        tagger = Tagger(artifact.load(tmp_path / "run" / name))
        dev = prepared.splits.dev
        assert score(dev, tagger.tag([s.words for s in dev])).f1 == expected
    assert config.load(tmp_path / "run/config.toml") == prepared.config


def test_no_speed_counts_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def now() -> float:
        clock[0] += 0.001
        return clock[0]

    class SlowlyCompiled(loop.Step):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            traces = self.traces
            came = super().__call__(*arguments, **options)
            clock[0] += 1e6 * (self.traces - traces)
            return came

    monkeypatch.setattr(time, "perf_counter", now)
    monkeypatch.setattr(loop, "Step", SlowlyCompiled)
    # An epoch is one call. The first one compiles, and the second, in which the table begins to move, again.
    sections: dict[str, dict[str, object]] = {"train": {"epochs": 4, "steps_per_call": 99}}
    result, text = run(make(tmp_path, words={"unfreeze_after": 1}, **sections), tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    speeds = [record["tokens_per_second"] for record in records if record["kind"] != "step"]
    assert speeds[:2] == [None, None]
    assert min(*speeds[2:], result.tokens_per_second or 0) > 1000
    assert len(speeds) == 5
    assert [line.split("tokens/s")[0].split()[-1] == "-" for line in text.splitlines()] == [True, True, False, False]

    result, _ = run(make(tmp_path, train={"epochs": 1, "steps_per_call": 99}), tmp_path / "single")
    assert result.tokens_per_second is None


def test_a_model_that_only_says_o_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_outside(self: object, params: object, encoded: Encoded) -> np.ndarray:
        return np.zeros(len(encoded.positions), np.int32)

    monkeypatch.setattr(Predictor, "__call__", only_outside)
    _, text = run(make(tmp_path, train={"epochs": 1}), tmp_path / "run")
    assert "tokens/s  best, only O" in text
    assert "warning: the model predicts only O on dev, which has 8 mentions" in text


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    prepared = make(tmp_path, optimizer={"name": "sgd", "learning_rate": 1e38})
    with pytest.raises(InputError, match=r"step \d+ of epoch 1: required a finite loss, got (nan|inf)") as caught:
        run(prepared, tmp_path / "run")
    message = str(caught.value)
    assert "training sentences of data.train, of lines" in message
    assert "no epoch was finished" in message
    assert "optimizer.learning_rate, now 1e+38" in message


def test_data_without_a_mention_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.conll", ["nothing O|here O"] * 3)
    tree = {"data": {"root": str(tmp_path), "train": "train.conll"}}
    with pytest.raises(InputError, match=r"data.train: required at least one mention .* got only O"):
        prepare(config.parse(tree, "test"))


def test_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = run_folder.create_next(Path("configs/demo.toml"), "")
    assert first == Path("runs/demo")
    # An empty one may be another process's that is about to fill it.
    Path("runs/demo-2").mkdir()
    assert run_folder.create_next(Path("configs/demo.toml"), "") == Path("runs/demo-3")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    Path("runs").symlink_to("a disk that is not mounted")
    with pytest.raises(InputError, match="runs/demo: required a folder that can be written, got 'File exists'"):
        run_folder.create_next(Path("configs/demo.toml"), "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--replace"):
        run_folder.check(first, replace=False)
    assert run_folder.check(first, replace=True) == first
    with pytest.raises(InputError, match="another process has filled by now"):
        run_folder.create(first, "")
    (first / "model").mkdir()
    for _ in range(2):
        # Neither of the two that come now has a model: the one that has is what is kept.
        run_folder.create(first, "", replace=True)
        assert (run_folder.replaced(first) / "model").is_dir()
        assert (first / "metrics.jsonl").read_text() == ""
        (first / "metrics.jsonl").write_text("{}\n")
    (first / ".lock").write_text(f"{10**12}\n")
    with run_folder.locked(first):
        assert (first / ".lock").read_text() == f"{os.getpid()}\n"
    other = tmp_path / "precious"
    other.mkdir()
    (other / "letter").write_text("dear", encoding="utf-8")
    with pytest.raises(InputError, match="required a run folder"):
        run_folder.check(other, replace=True)
    with pytest.raises(InputError, match="can be written"):
        run_folder.create(other / "letter" / "run", "")


@pytest.mark.parametrize("epochs", [9, 5, 4])
def test_patience_stops_a_run_that_gets_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    plateau = {"name": "plateau", "patience": 2}
    prepared = make(tmp_path, train={"epochs": epochs, "patience": 2}, schedule=plateau)
    figures = iter([30.0, 60.0, 50.0, 60.0, 99.0])

    class Scored:
        predicts_only_outside, gold = False, 8

        def __init__(self) -> None:
            self.f1 = next(figures, 0.0)

        def to_json(self) -> dict[str, float]:
            return {"f1": self.f1}

    monkeypatch.setattr(loop, "score", lambda *_: Scored())
    result, text = run(prepared, tmp_path / "run")
    assert result.best_epoch == 2
    # With four epochs there is none left that could be left out.
    assert [line for line in text.splitlines() if line.startswith(("epoch 4/", "epoch 5/", "stopped"))][1:] == [
        "stopped: epoch 2 was the last with a better dev F1"
    ] * (epochs > 4)
    # Nor is there a rate that falls for an epoch that never comes.
    assert "from epoch 5 on" not in text


def test_the_rate_falls_where_dev_scores_do_not_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = {"name": "plateau", "patience": 2, "factor": 0.5, "warmup": 0.1, "final": 0.2}
    schedule["others"] = {"optimizer.clip_norm": {"name": "linear", "final": 0.5}}
    sections = {"schedule": schedule, "train": {"epochs": 10, "steps_per_call": 100}, "log": {"statistics": True}}
    prepared = make(tmp_path, **sections, optimizer={"name": "sgd", "learning_rate": 0.5, "clip_norm": 1e-3})
    figures = iter([30.0, 60.0, 50.0, 60.0, 99.0, 99.0, 1.0, 1.0, 1.0, 1.0])

    class Scored:
        predicts_only_outside, gold, f1 = False, 8, 0.0

        def to_json(self) -> dict[str, float]:
            return {"f1": self.f1}

    def scored(*_: Any) -> Scored:
        found = Scored()
        found.f1 = next(figures, 0.0)
        return found

    monkeypatch.setattr(loop, "score", scored)
    _, text = run(prepared, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    told = [record["statistics"] for record in records if record["kind"] == "step"]
    rates = [statistics["rate"] for statistics in told]
    assert rates == pytest.approx([0.5 * x for x in (rates[0] / 0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2)])
    bounds = [statistics["scheduled/optimizer.clip_norm"] for statistics in told]
    last_steps = np.arange(1, 11) * prepared.epochs.steps - 1
    assert bounds == pytest.approx(1e-3 * (1 - 0.5 * last_steps / (10 * prepared.epochs.steps)))
    # An update of SGD is the rate times a gradient of one length.
    steps = [np.sqrt(sum(statistics[name] ** 2 for name in statistics if "update" in name)) for statistics in told]
    assert steps == pytest.approx(np.multiply(bounds, rates), rel=1e-3)
    assert 0 < rates[0] < 0.5
    assert [line for line in text.splitlines() if "the rate" in line] == [
        f"the best dev F1 is still {best}: from epoch {epoch} on the rate is {factor} of its schedule's"
        for best, epoch, factor in (
            ("60.00, that of epoch 2", 5, 0.5),
            ("99.00, that of epoch 5", 8, 0.25),
            ("99.00, that of epoch 5", 10, 0.2),
        )
    ]


def test_the_average_is_what_is_scored_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(loop.Step):
        weights: list[np.ndarray]

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            state, losses = super().__call__(*arguments, **options)
            Seen.weights.append(np.array(state.params["output"]["w"]))
            return state, losses

    monkeypatch.setattr(loop, "Step", Seen)
    kept, scored = [], []
    for name, decay in (("plain", 0.0), ("averaged", 0.9)):
        (tmp_path / name).mkdir()
        Seen.weights = []
        prepared = make(tmp_path / name, train={"epochs": 2, "average": decay}, optimizer={"name": "sgd"})
        run(prepared, tmp_path / name / "run")
        kept.append(artifact.load(tmp_path / name / "run/last").params)
        scored.append(Seen.weights)
    # The same steps were taken; what was kept lies behind the last one.
    assert (scored[0][-1] == scored[1][-1]).all()
    assert (kept[0]["output"]["w"] == scored[0][-1]).all()
    start, end = scored[0][0], scored[0][-1]
    behind = np.linalg.norm(end - kept[1]["output"]["w"])
    assert 0.01 * np.linalg.norm(end - start) < behind < np.linalg.norm(end - start)
    assert not np.allclose(kept[0]["words"], kept[1]["words"])


def test_the_end_is_on_the_disk_before_the_checkpoints_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, bytes]] = []

    def note(what: Path) -> None:
        done.append((what.name, what.read_bytes() if what.is_file() else b""))

    metrics = tmp_path / "run" / "metrics.jsonl"
    monkeypatch.setattr("windownet.checkpoint.sync", note)
    monkeypatch.setattr("windownet.train.checkpoints.Checkpoints.delete", lambda _: note(tmp_path))
    run(make(tmp_path, train={"epochs": 1}), tmp_path / "run")
    assert done[-2:] == [("metrics.jsonl", metrics.read_bytes()), (tmp_path.name, b"")]


def test_a_run_trains_in_its_own_folder_alone_and_once(tmp_path: Path) -> None:
    prepared, other = make(tmp_path), make(tmp_path, optimizer={"learning_rate": 0.5})
    console, folder = Console(file=io.StringIO()), tmp_path / "run"
    run_folder.create(folder, prepared.config.to_toml())
    for resume in (False, True):
        with pytest.raises(InputError, match=r"run.config.toml: .* optimizer.learning_rate = 0.5, got 0.02; make"):
            loop.train(other, folder, console, resume=resume)
    loop.train(prepared, folder, console)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for resume, message in ((False, "in which nothing has trained"), (True, "got one that has finished")):
        with pytest.raises(InputError, match=message):
            loop.train(prepared, folder, console, resume=resume)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with pytest.raises(InputError, match=r"found no config.toml in it"):
        loop.train(prepared, tmp_path, console)


def test_a_model_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    # One step, whose loss is that of the first weights.
    sections = {"optimizer": {"name": "sgd", "learning_rate": 3e38}, "regularization": {"l2": 5.0}}
    prepared = make(tmp_path, **sections, train={"epochs": 1, "batch_size": 512})
    with pytest.raises(InputError, match=r"epoch 1: required finite parameters .* in .*hidden.0.w.* no model is kept"):
        run(prepared, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


class Told:
    """A logger that notes its calls, and raises in one of them."""

    def __init__(self, fails: str = "", error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._fails, self._error = fails, error

    def begin(self, folder: Path, step: int) -> None:
        self._note("begin")

    def record(self, record: dict[str, Any]) -> None:
        assert record.pop("kind")
        self._note("record")

    def end(self) -> None:
        self._note("end")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self._fails and self._error is not None:
            raise self._error


@pytest.mark.parametrize("fails", ["begin", "record", "end"])
@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), ValueError("no")])
def test_what_a_logger_raises_comes_out_as_it_is(tmp_path: Path, fails: str, error: Exception) -> None:
    prepared = make(tmp_path, train={"epochs": 1}, log={"tensorboard": True})
    run_folder.create(tmp_path / "run", prepared.config.to_toml())
    loggers = [Told(), Told(fails, error), Told()]
    with pytest.raises(type(error)) as raised:
        loop.train(prepared, tmp_path / "run", Console(file=io.StringIO()), loggers=loggers)
    assert raised.value is error
    first, failing, last = (logger.calls for logger in loggers)
    assert (first[0], first[-1]) == ("begin", "end")
    assert ("end" in failing) == (fails != "begin")
    assert ("end" in last) == ("begin" in last) == (fails != "begin")


def test_a_run_that_cannot_be_made_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"
    run_folder.create(old, "[train]\nepochs = 3\n")
    (old / "model").mkdir()

    def full(path: Path, text: str, **_: Any) -> int:
        with path.open("w") as file:
            file.write("")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    for folder, replace in ((old, True), (tmp_path / "new", False)):
        with pytest.raises(InputError, match="can be written, got 'No space left on device'"):
            run_folder.create(folder, "", replace=replace)
    assert (old / "config.toml").read_text() == "[train]\nepochs = 3\n"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]

    class KilledError(BaseException):
        pass

    def killed(path: Path, text: str, **_: Any) -> int:
        path.open("w").close()
        raise KilledError

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KilledError):
        run_folder.create(tmp_path / "killed", "[train]\nepochs = 3\n")
    with pytest.raises(InputError, match=r"found no config.toml in it"):
        run_folder.end_of(tmp_path / "killed")
    assert (old / "model").is_dir()

    # What was killed while it was made stands in nobody's way, under its name or any other.
    monkeypatch.undo()
    assert run_folder.check(tmp_path / "killed", replace=False) == tmp_path / "killed"
    run_folder.create(tmp_path / "killed", "[train]\nepochs = 4\n")
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["config.toml", "metrics.jsonl"]
    (tmp_path / "killed" / "config.toml").unlink()
    (tmp_path / "killed" / "metrics.jsonl").write_text("x")
    with pytest.raises(InputError, match="required a folder that does not exist yet"):
        run_folder.check(tmp_path / "killed", replace=False)


@pytest.mark.parametrize("level", ["info", "warning"])
def test_a_bar_says_where_a_run_is(tmp_path: Path, level: Level) -> None:
    told = io.StringIO()
    log = RunLog(tmp_path / "metrics.jsonl", Console(file=told, force_terminal=True, width=150), level)
    guess = scores.score([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    with log.progress(calls=9, done=2):
        log.steps(epoch=4, step=40, loss=0.12345, tokens_per_second=12_345.6, statistics={})
        log.epoch(epoch=4, epochs=9, step=40, loss=0.1, tokens_per_second=None, dev=guess, best=False)
    lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.getvalue()).splitlines() if "━" in line]
    if level == "warning":
        assert lines == []
        return
    assert lines[-1].startswith("epoch 4 ")
    assert "3/9 loss 0.1235  dev F1 66.67  12,346 tokens/s" in lines[-1]
