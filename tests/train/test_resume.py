"""A run that was cut off and resumed is, bit for bit, the run that never was."""

import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from windownet import checkpoint, config, resume, run_folder
from windownet.data import prefetch as prefetch_module
from windownet.errors import InputError, Terminated
from windownet.train import checkpoints, environment, loop
from windownet.train.prepare import Prepared, prepare

PEOPLE, PLACES = ("Anna", "Tom", "Mary", "Lee"), ("Oslo", "Paris", "Berlin")
TIMES = {"time", "seconds", "tokens_per_second"}
DATA = ("train", "dev", "test", "vocabulary", "tags", "vectors")


def make(folder: Path, **sections: dict[str, object]) -> Prepared:
    rows = (f"{PEOPLE[n % 4]} B-PER\nLee I-PER\nsaw O\n{PLACES[n % 3]} B-LOC\n. O\n\n" for n in range(24))
    (folder / "train.conll").write_text("".join(rows), encoding="utf-8")
    tree: dict[str, Any] = {
        "data": {"root": str(folder), "train": "train.conll", "dev": "train.conll"},
        "model": {"hidden": [8], "word_width": 4, "window": 3},
        "regularization": {"input_dropout": 0.2},
        "optimizer": {"learning_rate": 0.02},
        "train": {"epochs": 4, "batch_size": 12, "steps_per_call": 2, "checkpoint_every": 0},
    }
    for name, section in sections.items():
        tree.setdefault(name, {}).update(section)
    return prepare(config.parse(tree, "test"))


class Dies(BaseException):
    """As a process does: nothing in the run catches it."""


class At:
    """Does something when the run has written so many records, or the one of an epoch with its dev scores."""

    def __init__(self, record: int | str, act: Any) -> None:
        self._left = record
        self._act = act
        self.told: list[str] = []

    def begin(self, folder: Path, step: int) -> None:
        self.told.append(f"begin {folder.name} {step}")

    def record(self, record: Mapping[str, Any]) -> None:
        if isinstance(self._left, int):
            self._left -= 1
        if self._left in (0, f"epoch {record.get('epoch')}") and (self._left == 0 or record["kind"] == "epoch"):
            self._act()

    def end(self) -> None:
        self.told.append("end")


def die() -> None:
    raise Dies


def run(
    prepared: Prepared, folder: Path, *, resume: bool = False, at: At | None = None, level: Any = "info"
) -> tuple[loop.Result, str]:
    if not resume:
        run_folder.create(folder, prepared.config.to_toml())
    text = io.StringIO()
    console = Console(file=text, width=300)
    result = loop.train(prepared, folder, console, resume=resume, level=level, loggers=[at] if at else [])
    return result, text.getvalue()


def cut_off(prepared: Prepared, folder: Path, record: int | str, *, resume: bool = False) -> None:
    with pytest.raises(Dies):
        run(prepared, folder, resume=resume, at=At(record, die))


def outcome(folder: Path) -> dict[str, Any]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]
    # A whole model in a file's bytes: the weights, and with them config, words and tags by their checksums.
    return {
        "records": records,
        **{name: (folder / name / "model.safetensors").read_bytes() for name in ("model", "last")},
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(make(folder), folder / "run")
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died in its second epoch."""
    folder = tmp_path_factory.mktemp("cut")
    cut_off(make(folder), folder / "run", 10)
    return folder


def copied(cut: Path, tmp_path: Path) -> Path:
    shutil.copytree(cut / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {
            "optimizer": {"name": "momentum", "rows": "replay"},
            "words": {"anchor": 0.1},
            "train": {"batch_size": 5, "accumulate": 2},
            "schedule": {
                "name": "cosine",
                "warmup": 0.2,
                "others": {key: {"name": "linear"} for key in ("words.anchor", "optimizer.momentum")},
            },
        },
        # The second and the third resume are where the table thaws: what is compiled there nothing compiled before.
        {"words": {"unfreeze_after": 1}, "train": {"epochs": 4, "steps_per_call": 3}},
        # The first epoch's F1 is 100.
        {"schedule": {"name": "plateau", "patience": 1}},
    ],
    ids=["adam", "replay", "unfreeze", "plateau"],
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, sections: dict[str, Any]) -> None:
    prepared = make(tmp_path, **sections)
    run(prepared, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    calls = prepared.epochs.calls
    assert calls >= 4
    folder = tmp_path / "cut"
    # In the middle of each of the first three epochs and once at the next call, and behind the last call.
    for n, record in enumerate((2, calls + 1, 1, calls + 3, "epoch 4")):
        cut_off(prepared, folder, record, resume=n > 0)
    assert not (folder / "model").exists() or len(outcome(folder)["records"]) < len(expected["records"])
    _, text = run(prepared, folder, resume=True)
    assert "going on after step" in text
    assert outcome(folder) == expected
    assert expected["records"][-1]["compilations"] == (2 if "unfreeze_after" in sections.get("words", {}) else 1)
    # Finished, it needs no checkpoint.
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.toml", "environment.json", "metrics.jsonl", "model", "last", ".lock"}


def test_what_was_told_of_later_steps_is_void(cut: Path, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "epo')
    logger = At(0, None)
    run(make(cut), folder, resume=True, at=logger)
    steps = [record["step"] for record in outcome(folder)["records"] if record["kind"] == "step"]
    assert steps == sorted(set(steps))
    (last,) = checkpoint.found(cut / "run" / "checkpoints")[:1]
    assert logger.told == [f"begin run {int(last.stem)}", "end"]


def test_damage_costs_one_checkpoint_and_no_bit(cut: Path, whole: Path, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    newest, before = checkpoint.found(folder / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    _, text = run(make(cut), folder, resume=True)
    assert f"warning: {newest}: required a whole checkpoint, got a damaged one (its checksum differs); going on" in text
    assert f"going on after step {int(before.stem)}, in epoch 2; {before}" in text
    assert outcome(folder)["records"] == outcome(whole / "run")["records"]


def test_before_the_first_checkpoint_a_run_begins_anew(whole: Path, tmp_path: Path) -> None:
    prepared = make(tmp_path, train={"checkpoint_every": 1e9})
    cut_off(prepared, tmp_path / "run", 1)
    _, text = run(prepared, tmp_path / "run", resume=True)
    assert f"{tmp_path / 'run'}: there is no checkpoint yet; beginning with the first step" in text
    assert outcome(tmp_path / "run")["records"] == outcome(whole / "run")["records"]


def test_epochs_without_a_checkpoint_are_told_and_trained_again(whole: Path, tmp_path: Path) -> None:
    prepared = make(tmp_path, train={"checkpoint_every": 1e9})
    cut_off(prepared, tmp_path / "run", "epoch 2")
    (tmp_path / "run" / "environment.json").write_text("")
    _, text = run(prepared, tmp_path / "run", resume=True)
    assert "there is no checkpoint (train.checkpoint_every = 1e+09 s), though epochs were finished; all 2 are" in text
    assert outcome(tmp_path / "run")["records"] == outcome(whole / "run")["records"]


def test_without_a_checkpoint_data_must_be_those_of_the_run_too(tmp_path: Path) -> None:
    prepared = make(tmp_path, train={"checkpoint_every": 1e9})
    cut_off(prepared, tmp_path / "run", 2)
    path = tmp_path / "run" / "environment.json"
    then = json.loads(path.read_text())
    path.write_text(json.dumps({**then, "data": {**then["data"], "dev": "0"}}))
    with pytest.raises(InputError, match=rf"{path}: required the dev data \(data\.dev\) that the run began with, got"):
        run(prepared, tmp_path / "run", resume=True)
    assert json.loads(path.read_text())["data"]["dev"] == "0"
    path.write_text(json.dumps({"seed": 0}))
    with pytest.raises(InputError, match=rf"{path}: required the fingerprints of the run's data, got a file without"):
        run(prepared, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"train": {"batch_size": 13}},
            r"required train.batch_size = 12, .* got 13; leave the config as",
        ),
        ({"model": {"hidden": [8, 8]}}, r"required model.hidden = \[8\], as the run began with, got \[8, 8\]"),
        ({"train": {"seed": 1}}, r"required train.seed = 0, as the run began with, got 1"),
    ],
)
def test_a_run_of_another_config_is_refused(cut: Path, tmp_path: Path, sections: Any, message: str) -> None:
    folder = copied(cut, tmp_path)
    with pytest.raises(InputError, match=rf"0000000\d{{3}}.safetensors: {message}"):
        run(make(cut, **sections), folder, resume=True)


def test_a_run_of_a_version_without_a_field_is_told(cut: Path) -> None:
    newest = checkpoint.found(cut / "run" / "checkpoints")[0]
    then, now = ({"optimizer": fields} for fields in ({"b1": 0.9}, {"b1": 0.9, "new": 1}))
    message = rf"{newest}: required a run that this version of windownet began, got one without optimizer.new; go on"
    with pytest.raises(InputError, match=message):
        resume.require_same_config(newest, then, now, ())


def test_the_order_of_patterns_counts(tmp_path: Path) -> None:
    rates = {"words": 0.1, "*": 2.0}
    cut_off(make(tmp_path, optimizer={"rates": rates}), tmp_path / "run", 2)
    turned = make(tmp_path, optimizer={"rates": dict(reversed(rates.items()))})
    message = f"required optimizer.rates = {rates}, as the run began with, got {turned.config.optimizer.rates}; leave"
    with pytest.raises(InputError, match=re.escape(message)):
        run(turned, tmp_path / "run", resume=True)
    # The file keeps the order, or nobody could go on.
    assert list(config.load(tmp_path / "run" / "config.toml").optimizer.rates) == list(rates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: e["versions"].update(jax="0.0.1"),
            r"required jax = '\S+', .* got '0.0.1'; install that",
        ),
        (lambda e: e["versions"].update(windownet="9"), r"required windownet = '\S+', as the run began with, got '9'"),
        (
            lambda e: e["device"].update(kind="Nonesuch 9000"),
            r"required device.kind = 'cpu', .* got 'Nonesuch 9000'; go on",
        ),
        (
            lambda e: e["device"].update(xla_flags="--xla_nonesuch"),
            r"required device.xla_flags = '.*', as the run began with, got '--xla_nonesuch'; go on",
        ),
        *(
            (
                lambda e, part=part: e["data"].update({part: "0"}),
                rf"required the {part} .*\(\w+\.\w+.*\) that .* got other",
            )
            for part in DATA
        ),
    ],
    ids=["jax", "windownet", "device", "flags", *DATA],
)
def test_a_run_in_another_environment_is_refused(
    cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    folder, prepared = copied(cut, tmp_path), make(cut)
    now = environment.describe(prepared)
    change(now)
    monkeypatch.setattr(environment, "describe", lambda _: now)
    with pytest.raises(InputError, match=message):
        run(prepared, folder, resume=True)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("jax_threefry_partitionable", False),
        ("jax_default_prng_impl", "rbg"),
        ("jax_default_matmul_precision", "highest"),
        ("jax_enable_x64", True),
        ("jax_disable_jit", True),
        ("jax_disable_most_optimizations", True),
    ],
)
def test_a_setting_of_jax_that_changes_bits_is_refused(cut: Path, tmp_path: Path, name: str, other: Any) -> None:
    folder, prepared, usual = copied(cut, tmp_path), make(cut), jax.config.values[name]
    message = rf"required device.{name} = {usual!r}, as the run began with, got {other!r}; go on with the same device"
    try:
        jax.config.update(name, other)
        with pytest.raises(InputError, match=message):
            run(prepared, folder, resume=True)
    finally:
        jax.config.update(name, usual)


def test_the_data_s_content_counts_and_not_its_place(cut: Path, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    prepared = make(moved, train={"keep_checkpoints": 1})
    with pytest.raises(Dies):
        run(prepared, folder, resume=True, at=At(3, die))
    assert len(checkpoint.found(folder / "checkpoints")) == 1
    (moved / "train.conll").write_text((moved / "train.conll").read_text().replace("Tom", "Tim"))
    changed = prepare(prepared.config)
    with pytest.raises(InputError, match=r"required the train data \(data.train\) that the run began with, got other"):
        run(changed, folder, resume=True)


def test_what_was_changed_is_what_is_blamed(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("oslo 1 2 3 4\nlima 4 3 2 1\n")
    prepared = make(tmp_path, words={"vectors": str(vectors)})
    began = environment.fingerprints(prepared)
    vectors.write_text("oslo 1 2 3 4\nbob 1 1 1 1\nlima 4 3 2 1\n")
    with pytest.raises(InputError, match=r"required the vectors \(words.vectors\) that"):
        environment.require_same_data(tmp_path, began, environment.fingerprints(prepare(prepared.config)))
    vectors.write_text("oslo 1 2 3 4\nlima 4 3 2 1\n")
    data = tmp_path / "train.conll"
    data.write_text(data.read_text().replace("Tom", "Tim", 1))
    with pytest.raises(InputError, match=r"required the train data \(data.train\) that"):
        environment.require_same_data(tmp_path, began, environment.fingerprints(prepare(prepared.config)))


def test_another_processor_is_warned_of(cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, prepared = copied(cut, tmp_path), make(cut)
    now = environment.describe(prepared)
    now["device"]["cores"] = 4096
    monkeypatch.setattr(environment, "describe", lambda _: now)
    _, text = run(prepared, folder, resume=True)
    assert "warning: the run began on another machine (device.cores: " in text


def test_a_half_deleted_run_is_refused_before_anything_is_trained(cut: Path, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    shutil.rmtree(folder / "model")
    with pytest.raises(InputError, match=r"model: required the model of epoch 1, .* found nothing there; restore"):
        run(make(cut), folder, resume=True)
    folder = copied(cut, tmp_path / "again")
    (folder / "environment.json").unlink()
    for content in (b"", None):
        (folder / "metrics.jsonl").unlink() if content is None else (folder / "metrics.jsonl").write_bytes(content)
        before = files(folder)
        with pytest.raises(
            InputError, match=r"metrics.jsonl: required the [\d,]+ bytes .* got 0; restore it, or begin"
        ):
            run(make(cut), folder, resume=True)
        assert files(folder) == before


def files(folder: Path) -> dict[Path, bytes]:
    # The lock names the last process that took it.
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("lost", [True, False])
def test_the_environment_stays_that_of_the_beginning(
    cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    folder, prepared = copied(cut, tmp_path), make(cut)
    path = folder / "environment.json"
    first = path.read_text()
    if lost:
        path.unlink()
    now = environment.describe(prepared)
    now["device"]["cores"] = 4096
    monkeypatch.setattr(environment, "describe", lambda _: now)
    _, text = run(prepared, folder, resume=True)
    assert path.read_text() == first
    assert (f"warning: {path}: it was lost, and is written anew from the checkpoint" in text) == lost


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_between_calls(whole: Path, tmp_path: Path, number: int) -> None:
    prepared = make(tmp_path, train={"checkpoint_every": 1e9})
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(prepared, tmp_path / "run", at=At(9, lambda: os.kill(os.getpid(), number)))
    assert isinstance(caught.value, Terminated) == (number == signal.SIGTERM)
    (saved,) = checkpoint.found(tmp_path / "run" / "checkpoints")
    folder = tmp_path / "run"
    assert str(caught.value) == (
        f"interrupted in epoch 2; epoch 1, the last one finished, is kept in {folder / 'last'}, epoch 1, the best, in "
        f"{folder / 'model'}; go on after step {int(saved.stem)} with `windownet train --resume {folder}`"
    )
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    run(prepared, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run")["records"] == outcome(whole / "run")["records"]


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one was not heard")

    with pytest.raises(KeyboardInterrupt, match=r"interrupted in epoch 1; no epoch was finished, so no model is kept$"):
        run(make(tmp_path, train={"checkpoint_every": 1e9}), tmp_path / "run", at=At(2, press_twice))


def test_a_full_disk_stops_the_run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = make(tmp_path)
    saved = []
    sync = checkpoint.sync

    def full(path: Path) -> None:
        sync(path)
        saved.append(path)
        if path.name == ".new" and len(saved) > 20:
            raise OSError(28, "No space left on device")

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "sync", full)
        with pytest.raises(InputError) as caught:
            run(prepared, folder)
    # What a checkpoint counts on is on the disk before it.
    assert saved[:3] == [folder / "metrics.jsonl", folder / "checkpoints" / ".new", folder / "checkpoints"]
    newest = checkpoint.found(folder / "checkpoints")[0]
    message = str(caught.value)
    assert message.startswith(f"{folder}: cannot be written: No space left on device; epoch 1, ")
    assert message.endswith(f"; go on after step {int(newest.stem)} with `windownet train --resume {folder}`")
    assert not (folder / "checkpoints" / ".new").exists()
    run(prepared, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run")["records"] == outcome(whole / "run")["records"]


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    prepared = make(tmp_path)
    moved = At("epoch 2", lambda: (tmp_path / "run").rename(tmp_path / "moved"))
    message = (
        rf"{tmp_path / 'run'}: required the run's folder, found nothing there: it was moved or deleted in epoch \d"
    )
    with pytest.raises(InputError, match=message):
        run(prepared, tmp_path / "run", at=moved)
    (tmp_path / "moved").rename(tmp_path / "run")
    run(prepared, tmp_path / "run", resume=True)


def test_a_backward_clock_does_no_harm(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9

    def backwards() -> float:
        nonlocal now
        now -= 3600
        return now

    monkeypatch.setattr(time, "time", backwards)
    # One that stands still gives no division by zero.
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    result, _ = run(make(tmp_path), tmp_path / "run")
    assert result.seconds == 0
    assert outcome(tmp_path / "run")["records"] == outcome(whole / "run")["records"]
    times = [json.loads(line)["time"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert times == sorted(times, reverse=True)


def test_checkpoints_come_at_their_time_and_no_clock_moves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    _, text = run(make(tmp_path, train={"checkpoint_every": 5}), tmp_path / "run", level="debug")
    saved = [int(line.split(".safetensors")[0][-10:]) for line in text.splitlines() if " MB in " in line]
    assert len(saved) >= 3
    assert saved == sorted(saved)


def test_how_batches_are_prepared_makes_no_difference(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, prefetch in (("none", iter), ("far", lambda items: prefetch_module.prefetch(items, 50))):
        monkeypatch.setattr(loop, "prefetch", prefetch)
        (tmp_path / name).mkdir()
        run(make(tmp_path / name), tmp_path / name / "run")
        assert outcome(tmp_path / name / "run")["records"] == outcome(whole / "run")["records"]


def test_a_run_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    told = r"required a run folder that can be written, got 'Is a directory' for"
    with pytest.raises(InputError, match=told), run_folder.locked(tmp_path):
        pass


def test_one_process_writes_a_run(cut: Path, tmp_path: Path) -> None:
    folder = copied(cut, tmp_path)
    prepared = make(cut)
    before = sorted(tmp_path.rglob("*"))
    with run_folder.locked(folder):
        for attempt in (
            lambda: run(prepared, folder, resume=True),
            lambda: run_folder.create(folder, prepared.config.to_toml(), replace=True),
        ):
            with pytest.raises(InputError) as caught:
                attempt()
            assert str(caught.value) == (
                f"{folder}: required a run folder that no other process writes, got one whose lock, "
                f"{folder / '.lock'}, process {os.getpid()} holds; wait for it or end it"
            )
    assert sorted(tmp_path.rglob("*")) == before


def test_an_environment_tells_what_a_run_ran_on(whole: Path) -> None:
    found = json.loads((whole / "run" / "environment.json").read_text())
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["device"]["kind"] == jax.devices()[0].device_kind
    assert found["seed"] == 0
    assert set(found["data"]) == set(DATA)
    assert found["data"]["vectors"] is None
    assert found == environment.describe(make(whole))


def test_every_field_that_may_change_is_one(whole: Path) -> None:
    fields = resume.flatten(make(whole).config.model_dump(mode="json"))
    assert set(checkpoints.FREE) <= set(fields)
