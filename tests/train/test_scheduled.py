"""Numbers that change from step to step: each step is the one of a plain training that has that step's numbers."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from windownet import config
from windownet.data.batches import Batch
from windownet.data.vocabulary import RARE
from windownet.model.network import WindowNetwork
from windownet.optim.build import build_rowwise
from windownet.schema.config import Config
from windownet.train import scheduled
from windownet.train.prepare import prepare
from windownet.train.step import Training, TrainState

STEPS = 4
BEGIN = {"input_dropout": 0.8, "hidden_dropout": 0.7, "label_smoothing": 0.6, "l2": 0.5, "anchor": 3.0, "momentum": 0.9}
KEYS = [f"regularization.{field}" for field in list(BEGIN)[:4]] + ["words.anchor", "optimizer.momentum"]
NETWORK = WindowNetwork(9, 5, 3, 3, 4, 2, (6,), "tanh", *(list(BEGIN.values())[:4]))


def stack(steps: int) -> Batch:
    rng = np.random.default_rng(0)
    rows = np.stack([np.append(rng.permutation(9)[:5], 9) for _ in range(steps)]).astype(np.int32)
    words = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
    capitals = rng.integers(0, 5, (steps, 8, 3)).astype(np.int32)
    tags = rng.integers(0, 3, (steps, 8)).astype(np.int32)
    return Batch(rows, words, capitals, tags, np.ones((steps, 8), bool))


def make(others: dict[str, Any], momentum: float = BEGIN["momentum"]) -> Config:
    tree: dict[str, Any] = {
        "regularization": {field: BEGIN[field] for field in list(BEGIN)[:4]},
        "words": {"anchor": BEGIN["anchor"]},
        "optimizer": {"name": "momentum", "learning_rate": 0.1, "momentum": momentum, "rows": "dense"},
        "schedule": {"others": others},
    }
    return config.parse(tree, "test")


def compiled(function: Any, *static: int) -> Any:
    # Compiling is what takes the time here.
    return jax.jit(function, static_argnums=static, compiler_options={"xla_backend_optimization_level": 0})


def begun(training: Training) -> TrainState:
    state = compiled(training.init)(jax.random.key(0))
    # Away from its start, so that the anchor pulls.
    return state._replace(params={**state.params, "words": state.params["words"] + 0.3})


@pytest.mark.parametrize("frozen", [False, True])
def test_each_step_has_its_own_numbers(frozen: bool) -> None:
    curve, shares = {"name": "linear", "final": 0.1, "warmup": 1 / STEPS}, (0.0, 1.0, 0.7, 0.4)
    batches = stack(STEPS)
    changing = scheduled.of(make(dict.fromkeys(KEYS, curve)), NETWORK, STEPS)
    _, found = compiled(changing.steps, 2)(begun(changing), batches, frozen)

    state, expected = begun(Training(NETWORK, build_rowwise(make({}), STEPS), BEGIN["anchor"])), []
    for n, share in enumerate(shares):
        now = {field: number * share for field, number in BEGIN.items()}
        optimizer, anchor = build_rowwise(make({}, momentum=now.pop("momentum")), STEPS), now.pop("anchor")
        plain = Training(dataclasses.replace(NETWORK, **now), optimizer, anchor)
        state, (loss,) = compiled(plain.steps, 2)(state, Batch(*(array[n : n + 1] for array in batches)), frozen)
        expected.append(float(loss))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_moving_average_has_the_decay_of_each_step() -> None:
    tree = {
        "optimizer": {"name": "sgd", "learning_rate": 0.5},
        "schedule": {"others": {"train.average": {"name": "linear", "final": 0.4, "warmup": 1 / STEPS}}},
        "train": {"average": 0.9},
    }
    training = scheduled.of(config.parse(tree, "test"), dataclasses.replace(NETWORK, l2=0.0), STEPS)
    batches, run, settle = stack(STEPS), compiled(training.steps, 2), compiled(training.settle, 1)
    state = begun(training)
    weights = expected = 0.0
    for n, decay in enumerate((0.0, 0.9, 0.72, 0.54)):
        state, _ = run(state, Batch(*(array[n : n + 1] for array in batches)), False)
        expected = decay * expected + (1 - decay) * np.asarray(settle(state, False).params["words"], np.float64)
        weights = decay * weights + 1 - decay
        np.testing.assert_allclose(settle(state, False).result["words"], expected / weights, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(state.result["words"]) - np.asarray(state.params["words"])).max() > 1e-3


@pytest.mark.parametrize(("name", "kind"), [("momentum", "replay"), ("adam", "exact")])
def test_missed_rows_are_settled_at_the_rate_of_their_epoch(name: str, kind: str) -> None:
    def table(rows: str) -> np.ndarray:
        tree = {
            "optimizer": {"name": name, "learning_rate": 0.1, "rows": rows},
            "schedule": {"name": "plateau"},
        }
        training = scheduled.of(config.parse(tree, "test"), WindowNetwork(9, 5, 3, 3, 4, 2, (), "tanh"), 3 * STEPS)
        assert isinstance(training, scheduled.Scheduled)
        run, settle, scale = compiled(training.steps, 2), compiled(training.settle, 1), compiled(training.scale_rate)
        state = begun(training)
        for factor in (1.0, 0.3, 0.1):
            state = scale(state, factor)
            state = settle(run(state, stack(STEPS), False)[0], False)
        return np.asarray(state.params["words"])

    np.testing.assert_allclose(table(kind), table("dense"), rtol=1e-5, atol=1e-6)


def test_without_a_curve_a_training_is_a_plain_one() -> None:
    assert type(scheduled.of(make({}), NETWORK, STEPS)) is Training


def test_words_are_dropped_as_each_epoch_has_it(tmp_path: Path) -> None:
    text = "".join(f"Ann{n} B-PER\nsaw{n % 7} O\n\n" for n in range(150))
    (tmp_path / "a.conll").write_text(text * 2, encoding="utf-8")
    tree = {
        "data": {"root": str(tmp_path), "train": "a.conll", "dev": "a.conll"},
        "regularization": {"word_dropout": 0.8},
        "schedule": {"others": {"regularization.word_dropout": {"name": "linear"}}},
        "train": {"epochs": 4, "steps_per_call": 3},
    }
    prepared = prepare(config.parse(tree, "test"))
    shares = []
    for epoch in range(1, 5):
        rare = total = 0
        for stack in prepared.epochs.seeded(5).epoch(epoch):
            ids = np.take_along_axis(stack.rows[:, None, :], stack.words[:, :, 2:3], 2)[..., 0]
            rare += int(((ids == RARE) & stack.mask).sum())
            total += int(stack.mask.sum())
        shares.append(rare / total)
    assert shares == pytest.approx([0.8, 0.6, 0.4, 0.2], abs=0.07)
