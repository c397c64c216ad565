"""Many runs at once: those that differ only in seed, rate or decay share one compiled program, mapped over them.

    outcomes = experiment.run(config, experiment.grid({"train.seed": range(5), "optimizer.learning_rate": [1e-3, 1e-2]}))
    mean, half = experiment.interval([outcome.test.f1 for outcome in outcomes])

Axes: R runs of one program; the others as everywhere.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from windownet import config as config_module
from windownet.config import Config
from windownet.data.batches import Batch, Encoded, Windows
from windownet.data.prefetch import prefetch
from windownet.data.scores import Scores
from windownet.data.sentences import Sentence
from windownet.model.network import Params
from windownet.optim.build import build_rowwise
from windownet.tagger.tagger import by_sentence, score
from windownet.train.prepare import Prepared, prepare
from windownet.train.step import Training, TrainState
from windownet.train.stopping import is_over

# What may differ between the runs of one program: arrays to it, where everything else shapes it.
SEED = "train.seed"
VARIED = (SEED, "optimizer.learning_rate", "optimizer.weight_decay")
_WINDOWS = 1024


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
      settings: what it changed in the config.
      losses: mean loss of each epoch, nats.
      dev: scores on dev after each epoch.
      best_epoch: the epoch of the highest dev F1, from 1; the earlier on a tie.
      test: scores of that epoch on test; None where there is no test part.
      words: T running words that it was trained on.
      notes: what was decided of the word table.
    """

    settings: Mapping[str, Any]
    losses: tuple[float, ...]
    dev: tuple[Scores, ...]
    best_epoch: int
    test: Scores | None
    words: int
    notes: tuple[str, ...]


def grid(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination: {"train.seed": [0, 1], "train.epochs": [5]} -> two settings."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def run(config: Config, settings: Sequence[Mapping[str, Any]], console: Console | None = None) -> list[Outcome]:
    """Train once for each of the settings.

    Args:
      config: what all runs share.
      settings: what each run changes, {"section.key": value}. Runs that differ in nothing but `VARIED` are computed
        together. Sentences held out where there is no dev part are chosen by the first run's seed.
      console: where to show how it goes.

    Returns:
      The outcomes, in the order of `settings`; each is that of `windownet train` with these settings, up to rounding.

    Raises:
      InputError: a setting is wrong, or the data is.
    """
    configs = [config_module.change(config, changes) for changes in settings]
    groups: dict[str, list[int]] = {}
    for number, changed in enumerate(configs):
        same = config_module.change(changed, {key: config_module.value(config, key) for key in VARIED})
        groups.setdefault(same.to_toml(), []).append(number)
    outcomes: dict[int, Outcome] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console or Console(quiet=True), transient=True) as bar:
        task = bar.add_task("runs x epochs", total=sum(c.train.epochs for c in configs))
        for numbers in groups.values():
            program = _Program([configs[n] for n in numbers])
            for _ in program.epochs():
                bar.advance(task, len(numbers))
            for n, outcome in zip(numbers, program.outcomes([settings[n] for n in numbers]), strict=True):
                outcomes[n] = outcome
    return [outcomes[n] for n in range(len(settings))]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, by Student's t; nan for a single value."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


class _Program:
    """R runs that share one program."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self._configs = configs
        self._prepared = prepared = prepare(configs[0])
        self._steps = configs[0].train.epochs * prepared.epochs.steps
        given = {key: [config_module.value(config, key) for config in configs] for key in VARIED}
        self._seeds = given.pop(SEED)
        # What is the same in all runs stays a number that the compiler sees.
        self._values = {key: jnp.asarray(each) for key, each in given.items() if len(set(each)) > 1}
        self._losses: list[np.ndarray] = []
        self._dev: list[list[Scores]] = []
        self._test: list[list[Scores | None]] = []

    def epochs(self) -> Iterator[int]:
        """Train; yields after each epoch."""
        prepared, shuffled = self._prepared, len(set(self._seeds)) > 1
        orders = [prepared.epochs.seeded(seed) for seed in (self._seeds if shuffled else self._seeds[:1])]
        apart = 0 if shuffled else None

        def init(seed: jax.Array, values: Any, pretrained: Any, found: Any) -> TrainState:
            return self._training(values).init(jax.random.key(seed), pretrained, found)

        def steps(state: TrainState, batches: Batch, values: Any, frozen: bool) -> tuple[TrainState, jax.Array]:
            mapped = jax.vmap(lambda s, b, v: self._training(v).steps(s, b, frozen), in_axes=(0, apart, 0))
            return mapped(state, batches, values)

        def settle(state: TrainState, values: Any, frozen: bool) -> TrainState:
            return jax.vmap(lambda s, v: self._training(v).settle(s, frozen))(state, values)

        words = prepared.words
        seeds = jnp.asarray(self._seeds, jnp.uint32)
        state = jax.jit(jax.vmap(init, in_axes=(0, 0, None, None)))(seeds, self._values, words.pretrained, words.found)
        compiled = jax.jit(steps, static_argnames="frozen", donate_argnums=0)
        settled = jax.jit(settle, static_argnames="frozen", donate_argnums=0)
        averaged = jax.jit(jax.vmap(self._training({}).result))
        predict = _Predictor(prepared)
        for epoch in range(1, self._configs[0].train.epochs + 1):
            frozen = epoch <= words.frozen_epochs
            losses = []
            for stack in prefetch(_stacked([order.epoch(epoch) for order in orders], shuffled)):
                state, call = compiled(state, stack, self._values, frozen=frozen)
                losses.append(call)
            state = settled(state, self._values, frozen=frozen)
            self._losses.append(np.concatenate([np.asarray(call) for call in losses], axis=1).mean(axis=1))
            params = state.params if state.average is None else averaged(state)
            self._dev.append(predict.scores(params, prepared.splits.dev))
            test = prepared.splits.test
            self._test.append([*predict.scores(params, test)] if test else [None] * len(self._configs))
            yield epoch

    def outcomes(self, settings: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """How each run ended."""
        for n, changes in enumerate(settings):
            dev = [scores[n] for scores in self._dev]
            f1, patience = [scores.f1 for scores in dev], self._configs[n].train.patience
            # The program goes on for the others; this run would not have.
            dev = dev[: next((k for k in range(1, len(dev)) if is_over(f1[:k], patience)), len(dev))]
            best = max(range(len(dev)), key=lambda epoch: dev[epoch].f1)
            losses = tuple(float(epoch[n]) for epoch in self._losses[: len(dev)])
            words = len(self._prepared.train.positions)
            notes = self._prepared.words.notes
            yield Outcome(dict(changes), losses, tuple(dev), best + 1, self._test[best][n], words, notes)

    def _training(self, values: Mapping[str, jax.Array]) -> Training:
        config = self._configs[0]
        for key, traced in values.items():
            section, _, field = key.partition(".")
            # Not validated: a traced value is no number that the schema knows.
            changed = getattr(config, section).model_copy(update={field: traced})
            config = config.model_copy(update={section: changed})
        return Training(
            self._prepared.network, build_rowwise(config, self._steps), config.words.anchor, config.train.average
        )


class _Predictor:
    """Scores of R models on labelled sentences."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared, network = prepared, prepared.network
        best = lambda params, batch: jnp.argmax(network.scores(params, batch), axis=-1)  # noqa: E731
        self._best = jax.jit(jax.vmap(best, in_axes=(0, None)))
        self._encoded: dict[int, Encoded] = {}

    def scores(self, params: Params, sentences: Sequence[Sentence]) -> list[Scores]:
        prepared = self._prepared
        encoded = self._encoded.setdefault(id(sentences), prepared.encode(sentences))
        windows = Windows(encoded, len(prepared.vocabulary), prepared.config.model.window, _WINDOWS)
        pending = [(len(tokens), self._best(params, batch)) for tokens, batch in windows.in_order()]
        numbers = np.concatenate([np.asarray(best)[:, :count] for count, best in pending], axis=1)
        return [score(sentences, by_sentence(row, encoded, prepared.tags)) for row in numbers]


def _stacked(runs: Sequence[Iterator[Batch]], apart: bool) -> Iterator[Batch]:
    for batches in zip(*runs, strict=True):
        yield Batch(*(np.stack(arrays) for arrays in zip(*batches, strict=True))) if apart else batches[0]
