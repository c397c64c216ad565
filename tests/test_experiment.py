"""Many runs in one program are the runs one by one."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from windownet import config, experiment, run_folder
from windownet.errors import InputError
from windownet.schema.config import Config
from windownet.train import accumulate, loop
from windownet.train.prepare import prepare
from windownet.train.stopping import rate_factor

TRAIN = [
    "ann B-PER|met O|bob B-PER|in O|rome B-LOC",
    "carl B-PER|left O|oslo B-LOC",
    "they O|met O|in O|lima B-LOC",
    "rome B-LOC|slept O",
] * 8


@pytest.fixture
def base(tmp_path: Path) -> Config:
    text = "".join(sentence.replace("|", "\n") + "\n\n" for sentence in TRAIN)
    (tmp_path / "train.conll").write_text(text, encoding="utf-8")
    (tmp_path / "dev.conll").write_text(text.replace("bob", "rome"), encoding="utf-8")
    tree: dict[str, Any] = {
        "data": {"root": str(tmp_path), "train": "train.conll", "dev": "dev.conll", "test": "dev.conll"},
        "model": {"hidden": [8], "word_width": 6},
        "regularization": {"hidden_dropout": 0.2},
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "train": {"epochs": 3, "batch_size": 16, "steps_per_call": 3},
    }
    return config.parse(tree, "test")


def losses_of_epochs(folder: Path) -> list[float]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "epoch"]


def test_runs_whose_rows_have_no_closed_form_are_replayed(base: Config) -> None:
    base = config.change(base, {"optimizer.weight_decay": 0.95})
    few, all_rows = (
        experiment.run(
            config.change(base, {"optimizer.rows": rows}), [{"optimizer.learning_rate": r} for r in (0.1, 1)]
        )
        for rows in ("exact", "dense")
    )
    for one, other in zip(few, all_rows, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-3)


def test_every_seed_is_scored_on_the_same_sentences_where_some_are_held_out(base: Config) -> None:
    base = config.change(base, {"data.dev": "", "data.dev_share": 0.3})
    dev = [prepare(config.change(base, {"train.seed": seed})).splits.dev for seed in (3, 4)]
    assert dev[0] == dev[1]
    both = experiment.run(base, experiment.grid({"train.seed": [3, 4]}))
    assert both[1].dev == experiment.run(base, [{"train.seed": 4}])[0].dev


def test_outcomes_are_those_of_single_runs(base: Config, tmp_path: Path) -> None:
    rates, decays = [0.003, 0.03], [0.0, 0.5]
    settings = experiment.grid(
        {
            "train.seed": [3, 4],
            "optimizer.learning_rate": rates,
            "optimizer.weight_decay": decays,
            "words.update": ["freeze", "fine-tune"],
        }
    )
    outcomes = experiment.run(base, settings)
    assert [dict(outcome.settings) for outcome in outcomes] == settings
    for n in (5, 10):
        changed = config.change(base, settings[n])
        folder = tmp_path / f"run{n}"
        run_folder.create(folder, changed.to_toml())
        result = loop.train(prepare(changed), folder, Console(file=io.StringIO()))
        assert outcomes[n].best_epoch == result.best_epoch
        assert outcomes[n].test == result.test
        assert outcomes[n].dev[result.best_epoch - 1] == result.dev
        assert outcomes[n].losses == pytest.approx(losses_of_epochs(folder), rel=1e-4)
    losses = {round(outcome.losses[-1], 5) for outcome in outcomes}
    assert len(losses) >= 14


def test_runs_that_differ_only_in_what_varies_share_a_program(base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    program = experiment._Program
    monkeypatch.setattr(
        experiment, "_Program", lambda configs, *rest: made.append(len(configs)) or program(configs, *rest)
    )
    settings = experiment.grid({"train.epochs": [1, 2], "train.seed": [0, 1], "init.table_bound": [0.1, 0.2]})
    outcomes = experiment.run(base, settings)
    assert made == [4, 4]
    assert [len(outcome.dev) for outcome in outcomes] == [1] * 4 + [2] * 4


def test_each_run_begins_with_first_values_of_its_own(base: Config, tmp_path: Path) -> None:
    firsts = [("uniform", 0.3), ("zeros", 0.05), ("orthogonal", 0.05)]
    settings = [
        {"train.seed": seed, "init.weights": weights, "init.weight_bound": bound, "init.output_bias": "log_odds"}
        for seed in (3, 4)
        for weights, bound in firsts
    ]
    base = config.change(base, {"train.epochs": 2, "words.anchor": 0.1, "train.average": 0.5})
    outcomes = experiment.run(base, settings)
    assert len({outcome.losses for outcome in outcomes}) == 6
    for n in (1, 3):
        changed = config.change(base, settings[n])
        folder = tmp_path / f"run{n}"
        run_folder.create(folder, changed.to_toml())
        result = loop.train(prepare(changed), folder, Console(file=io.StringIO()))
        assert outcomes[n].losses == pytest.approx(losses_of_epochs(folder), rel=1e-6)
        assert (outcomes[n].test, outcomes[n].best_epoch) == (result.test, result.best_epoch)


def test_scored_now_and_then_and_at_the_end(base: Config) -> None:
    (outcome,) = experiment.run(base, [{"train.epochs": 5, "train.average": 0.5}], every=2)
    assert len(outcome.dev) == 3
    assert len(outcome.losses) == 5
    best = int(np.argmax([scores.f1 for scores in outcome.dev]))
    assert outcome.best_epoch == (2, 4, 5)[best]


def test_batches_that_make_a_step_together_are_one_larger_batch(
    base: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, mean = [], accumulate.mean
    monkeypatch.setattr(accumulate, "mean", lambda *arguments: parts.append(arguments[-1]) or mean(*arguments))
    base = config.change(base, {"regularization.hidden_dropout": 0.0, "words.anchor": 0.1, "words.unfreeze_after": 1})
    # 112 words make six steps of 18 or 19 windows: the third batch of each is shorter than the others.
    settings = [{"train.batch_size": 24}, {"train.batch_size": 8, "train.accumulate": 3}]
    whole, parted = experiment.run(base, settings)
    assert parted.losses == pytest.approx(whole.losses, rel=1e-4)
    assert (parted.dev, parted.test) == (whole.dev, whole.test)
    assert whole.dev[-1].f1 > 50
    assert set(parts) == {1, 3}
    parts.clear()
    changed = config.change(base, settings[1])
    run_folder.create(tmp_path / "run", changed.to_toml())
    prepared = prepare(changed)
    assert loop.train(prepared, tmp_path / "run", Console(file=io.StringIO())).test == parted.test
    assert set(parts) == {3}
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert steps[-1] == 3 * prepared.epochs.steps == 3 * 6


def test_fewer_sentences(base: Config) -> None:
    all_words, some = (experiment.run(base, [{"data.limit": limit, "train.epochs": 1}])[0].words for limit in (0, 5))
    assert (all_words, some) == (112, 5 + 4 + 5 + 2 + 3)


def test_wrong_settings_are_named(base: Config) -> None:
    with pytest.raises(InputError, match=r"settings: optimizer.learning_rat: unknown key; did you mean optimizer"):
        experiment.run(base, [{"optimizer.learning_rat": 1.0}])
    with pytest.raises(InputError, match=r"settings: optimiser: unknown key; did you mean optimizer"):
        experiment.run(base, [{"optimiser.name": "adam"}])
    with pytest.raises(InputError, match=r"settings: train.seed: required a value greater than or equal to 0, got -1"):
        experiment.run(base, [{"train.seed": -1}])
    with pytest.raises(InputError, match=r"train.patience: required 0 for runs that are computed together, .* got 3"):
        experiment.run(base, [{}, {"train.patience": 3}])


@pytest.mark.parametrize("every", [0, -1])
def test_epochs_between_scores_are_refused_before_anything_trains(
    base: Config, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    def epochs(_: object) -> None:
        raise AssertionError("it trained first")

    monkeypatch.setattr(experiment._Program, "epochs", epochs)
    with pytest.raises(InputError, match=rf"^every: required 1 or more epochs .*, got {every}; 1 scores each epoch$"):
        experiment.run(base, [{}], every=every)


def test_numbers_of_numpy_are_taken(base: Config) -> None:
    ranges = {
        "train.seed": np.arange(2),
        "optimizer.learning_rate": np.float32([0.5]),
        "optimizer.fan_in_rates": [np.True_],
    }
    shapes = {"train.epochs": [np.int32(1)], "model.hidden": [np.array([3]), [np.int64(4)]]}
    outcomes = experiment.run(base, experiment.grid({**ranges, **shapes}))
    assert [json.loads(json.dumps(outcome.settings)) for outcome in outcomes] == [
        {
            "train.seed": seed,
            "optimizer.learning_rate": 0.5,
            "optimizer.fan_in_rates": True,
            "train.epochs": 1,
            "model.hidden": hidden,
        }
        for seed in (0, 1)
        for hidden in ([3], [4])
    ]


def test_a_rate_falls_with_the_dev_scores_of_each_run_and_other_numbers_by_curves(base: Config, tmp_path: Path) -> None:
    changes = {"schedule.name": "plateau", "schedule.patience": 1, "schedule.factor": 0.1, "train.epochs": 6}
    falls = {"name": "linear"}
    changes["schedule.others"] = {"optimizer.weight_decay": falls, "regularization.hidden_dropout": falls}
    varied = ((0.02, 0.1), (0.2, 0.9))
    settings = [{**changes, "optimizer.learning_rate": r, "optimizer.weight_decay": d} for r, d in varied]
    outcomes = experiment.run(base, settings)
    f1 = [[scores.f1 for scores in outcome.dev] for outcome in outcomes]
    changed = config.change(base, settings[1])
    factors = [[rate_factor(run[:epoch], changed.schedule) for epoch in range(6)] for run in f1]
    # What one run's scores say is not what the other's do.
    assert factors[0] != factors[1]
    assert factors[1][-1] < 1
    run_folder.create(tmp_path / "run", changed.to_toml())
    loop.train(prepare(changed), tmp_path / "run", Console(file=io.StringIO()))
    records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [epoch["loss"] for epoch in epochs] == pytest.approx(outcomes[1].losses, rel=1e-3)
    assert [epoch["dev"]["f1"] for epoch in epochs] == f1[1]
    with pytest.raises(InputError, match=r"^schedule.name: required every = 1 with 'plateau', .* got 2; score every"):
        experiment.run(base, settings, every=2)


def test_interval() -> None:
    mean, half = experiment.interval([1.0, 2.0, 3.0])
    # Student's t of 2 degrees of freedom at 97.5 %: 4.303 (any table of it).
    assert (mean, half) == (2.0, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))
    assert math.isnan(experiment.interval([1.0])[1])
    rng = np.random.default_rng(0)
    covered = [abs((i := experiment.interval(rng.normal(size=5)))[0]) < i[1] for _ in range(400)]
    assert 0.91 < np.mean(covered) < 0.98
