"""Many runs at once: those that differ in seed, rate, decay or first values alone share a program, mapped over them.

    runs = experiment.grid({"train.seed": range(5), "optimizer.learning_rate": [1e-3, 3e-3]})
    outcomes = experiment.run(config, runs)
    mean, half = experiment.interval([outcome.test.f1 for outcome in outcomes])

Axes: R runs of one program; the others as everywhere.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from windownet import config as config_module
from windownet.data.batches import Batch, Encoded, Windows
from windownet.data.prefetch import prefetch
from windownet.data.scores import Scores
from windownet.data.sentences import Sentence
from windownet.errors import InputError
from windownet.machine import compiler_options
from windownet.model.network import Params, WindowNetwork
from windownet.optim.build import is_replayed
from windownet.schema import keys
from windownet.schema.config import Config
from windownet.schema.network import InitConfig
from windownet.tagger.tagger import by_sentence, score
from windownet.train import scheduled
from windownet.train.cautions import cautions
from windownet.train.prepare import Prepared, prepare
from windownet.train.scheduled import Scheduled
from windownet.train.step import Training, TrainState
from windownet.train.stopping import rate_factor

# What may differ between the runs of one program: arrays to it, where everything else shapes it.
SEED = "train.seed"
VARIED = (SEED, "optimizer.learning_rate", "optimizer.weight_decay")
# What only first values are made by: no step sees it.
INITIAL = tuple(f"init.{field}" for field in InitConfig.model_fields)
_WINDOWS = 1024


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
      settings: what it changed in the config.
      losses: mean loss of each epoch, nats.
      dev: scores on dev after each epoch that was scored.
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


def grid(values: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Every combination: {"train.seed": [0, 1], "train.epochs": [5]} -> two settings."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def run(
    config: Config,
    settings: Sequence[Mapping[str, Any]],
    console: Console | None = None,
    every: int = 1,
    finished: Callable[[Mapping[int, Outcome]], None] | None = None,
) -> list[Outcome]:
    """Train once for each of the settings; what can be refused is refused before the first of them.

    Args:
      config: what all runs share.
      settings: what each run changes, {"section.key": value}, numpy's numbers and arrays too. Runs that differ in
        nothing but `VARIED` and `INITIAL` are computed together.
      console: where to show how it goes, and first each thing to look at before the runs are trusted.
      every: score dev after so many epochs, and after the last.
      finished: is given the outcomes of the runs of a program, by their places in `settings`, as soon as it ends, so
        that these are not lost where a later one fails.

    Returns:
      The outcomes, in the order of `settings`; each is that of `windownet train` with these settings, up to rounding,
      if every epoch is scored. A run whose loss is not finite goes on; `losses` shows it.

    Raises:
      InputError: a setting or `every` is wrong, or the data is; or the rate falls with dev scores that are not taken.
    """
    if every < 1:
        raise InputError(
            f"every: required 1 or more epochs from one score of dev to the next, got {every}; 1 scores each epoch"
        )
    settings = [{key: _plain(value) for key, value in changes.items()} for changes in settings]
    configs = [config_module.change(config, changes) for changes in settings]
    # Whether there is a closed form is for all runs of a program, and hangs on numbers that are its arrays.
    configs = [keys.replace(c, {"optimizer.rows": "replay"}) if _is_replayed(c) else c for c in configs]
    if patience := max((c.train.patience for c in configs), default=0):
        raise InputError(
            f"train.patience: required 0 for runs that are computed together, epoch by epoch, got {patience}; the best "
            "epoch of each is taken in any case"
        )
    if every > 1 and any(c.schedule.name == "plateau" for c in configs):
        raise InputError(
            f"schedule.name: required every = 1 with 'plateau', whose rate hangs on each epoch's dev F1, got {every}; "
            "score every epoch, or choose another schedule"
        )
    groups: dict[str, list[int]] = {}
    for number, changed in enumerate(configs):
        # Not checked: a decay of 0 need not go with what else the run sets.
        same = keys.replace(changed, {key: keys.value(config, key) for key in (*VARIED, *INITIAL)})
        groups.setdefault(same.to_toml(), []).append(number)
    console = console or Console(quiet=True)
    ready = _ready([[configs[n] for n in numbers] for numbers in groups.values()], console)
    outcomes: dict[int, Outcome] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("runs x epochs", total=sum(c.train.epochs for c in configs))
        for numbers in groups.values():
            prepared = ready.pop() if ready else prepare(configs[numbers[0]])
            program = _Program([configs[n] for n in numbers], prepared, every)
            for _ in program.epochs():
                bar.advance(task, len(numbers))
            group = dict(zip(numbers, program.outcomes([settings[n] for n in numbers]), strict=True))
            outcomes |= group
            if finished is not None:
                finished(group)
    return [outcomes[n] for n in range(len(settings))]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, by Student's t; nan for a single value."""
    from scipy import stats  # type: ignore[import-untyped]

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def _plain(value: Any) -> Any:
    # A config is written as TOML and read strictly; neither knows numpy's numbers, of which ranges are made.
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _ready(groups: Sequence[Sequence[Config]], console: Console) -> list[Prepared]:
    # All of them, each with its word table, may be more than memory holds: only the first is kept.
    first: list[Prepared] = []
    lines: dict[str, None] = {}
    for configs in groups:
        prepared = prepare(configs[0])
        told = (cautions(dataclasses.replace(prepared, config=config)) for config in configs)
        lines |= dict.fromkeys((*prepared.words.warnings, *itertools.chain.from_iterable(told)))
        first = first or [prepared]
    for line in lines:
        console.print(f"warning: {line}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    return first


def _is_replayed(config: Config) -> bool:
    return config.optimizer.rows == "exact" and is_replayed(config)


class _Program:
    """R runs that share one program."""

    def __init__(self, configs: Sequence[Config], prepared: Prepared, every: int) -> None:
        self._configs, self._every = configs, every
        self._prepared = prepared
        self._steps = configs[0].train.epochs * prepared.epochs.steps
        given = {key: [keys.value(config, key) for config in configs] for key in VARIED}
        self._seeds = given.pop(SEED)
        # What is the same in all runs stays a number that the compiler sees.
        self._values = {key: jnp.asarray(each) for key, each in given.items() if len(set(each)) > 1}
        self._losses: list[np.ndarray] = []
        self._dev: list[list[Scores]] = []
        self._scored: list[int] = []
        self._best_f1 = np.full(len(configs), -1.0)
        self._best_test: list[np.ndarray | None] = [None] * len(configs)

    def epochs(self) -> Iterator[int]:
        """Train; yields after each epoch."""
        prepared, shuffled = self._prepared, len(set(self._seeds)) > 1
        orders = [prepared.epochs.seeded(seed) for seed in (self._seeds if shuffled else self._seeds[:1])]
        apart = 0 if shuffled else None

        def steps(state: TrainState, batches: Batch, values: Any, frozen: bool) -> tuple[TrainState, jax.Array]:
            mapped: Callable[..., tuple[TrainState, jax.Array]] = jax.vmap(
                lambda s, b, v: self._training(v).steps(s, b, frozen), in_axes=(0, apart, 0)
            )
            return mapped(state, batches, values)

        def settle(state: TrainState, values: Any, frozen: bool) -> TrainState:
            mapped: Callable[..., TrainState] = jax.vmap(lambda s, v: self._training(v).settle(s, frozen))
            return mapped(state, values)

        def scale_rate(state: TrainState, factors: jax.Array, values: Any) -> TrainState:
            mapped: Callable[..., TrainState] = jax.vmap(lambda s, f, v: self._scheduled(v).scale_rate(s, f))
            return mapped(state, factors, values)

        state = self._first()
        compiled: Callable[..., tuple[TrainState, jax.Array]] = jax.jit(
            steps, static_argnames="frozen", donate_argnums=0, compiler_options=compiler_options()
        )
        settled: Callable[..., TrainState] = jax.jit(settle, static_argnames="frozen", donate_argnums=0)
        slowed: Callable[..., TrainState] = jax.jit(scale_rate, donate_argnums=0)
        predict, dev, test = _Predictor(prepared), prepared.splits.dev, prepared.splits.test
        for epoch in range(1, self._configs[0].train.epochs + 1):
            frozen = epoch <= prepared.words.frozen_epochs
            losses = []
            for stack in prefetch(_stacked([order.epoch(epoch) for order in orders], shuffled)):
                state, call = compiled(state, stack, self._values, frozen=frozen)
                losses.append(call)
            state = settled(state, self._values, frozen=frozen)
            self._losses.append(np.concatenate([np.asarray(call) for call in losses], axis=1).mean(axis=1))
            if epoch % self._every and epoch < self._configs[0].train.epochs:
                yield epoch
                continue
            self._scored.append(epoch)
            params = state.result
            self._dev.append([predict.score(dev, row) for row in predict(params, dev)])
            f1 = np.array([scores.f1 for scores in self._dev[-1]])
            better = f1 > self._best_f1
            if test and better.any():
                # Scoring takes longer than predicting: it waits for the epoch that counts.
                rows = predict(params, test)
                self._best_test = [rows[n] if better[n] else old for n, old in enumerate(self._best_test)]
            self._best_f1 = np.maximum(f1, self._best_f1)
            last = epoch == self._configs[0].train.epochs
            if not last and (factors := self._factors(epoch)) != self._factors(epoch - 1):
                state = slowed(state, jnp.asarray(factors, jnp.float32), self._values)
            yield epoch

    def _first(self) -> TrainState:
        words, network = self._prepared.words, self._prepared.network

        def first(seeds: jax.Array, values: Any, pretrained: Any, found: Any, init: InitConfig) -> TrainState:
            drawn = dataclasses.replace(network.initializers, config=init)
            own = dataclasses.replace(network, initializers=drawn)
            mapped: Callable[..., TrainState] = jax.vmap(
                lambda seed, v: self._training(v, own).init(jax.random.key(seed), pretrained, found)
            )
            return mapped(seeds, values)

        compiled: Callable[..., TrainState] = jax.jit(first, static_argnames="init")
        runs: dict[InitConfig, list[int]] = {}
        for n, config in enumerate(self._configs):
            runs.setdefault(config.init, []).append(n)
        seeds, states = np.asarray(self._seeds, np.uint32), []
        for init, numbers in runs.items():
            values = {key: each[np.array(numbers)] for key, each in self._values.items()}
            states.append(compiled(seeds[numbers], values, words.pretrained, words.found, init=init))
        if len(states) == 1:
            return states[0]
        back = np.argsort(list(itertools.chain(*runs.values())))
        together: TrainState = jax.tree.map(lambda *parts: jnp.concatenate(parts)[back], *states)
        return together

    def outcomes(self, settings: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """How each run ended."""
        predict = _Predictor(self._prepared)
        for n, changes in enumerate(settings):
            dev = [scores[n] for scores in self._dev]
            best = max(range(len(dev)), key=lambda epoch: dev[epoch].f1)
            losses = tuple(float(epoch[n]) for epoch in self._losses)
            words = len(self._prepared.train.positions)
            notes = self._prepared.words.notes
            rows = self._best_test[n]
            test = None if rows is None else predict.score(self._prepared.splits.test, rows)
            yield Outcome(dict(changes), losses, tuple(dev), self._scored[best], test, words, notes)

    def _factors(self, epochs: int) -> list[float]:
        scores = [[epoch[n].f1 for epoch in self._dev[:epochs]] for n in range(len(self._configs))]
        return [rate_factor(f1, config.schedule) for f1, config in zip(scores, self._configs, strict=True)]

    def _training(self, values: Mapping[str, jax.Array], network: WindowNetwork | None = None) -> Training:
        return scheduled.of(self._config(values), network or self._prepared.network, self._steps)

    def _scheduled(self, values: Mapping[str, jax.Array]) -> Scheduled:
        return Scheduled(self._config(values), self._prepared.network, self._steps)

    def _config(self, values: Mapping[str, jax.Array]) -> Config:
        return keys.replace(self._configs[0], values)


class _Predictor:
    """Tags of labelled sentences under R models, and their scores."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._best = jax.jit(jax.vmap(prepared.network.best, in_axes=(0, None)))
        self._encoded: dict[int, Encoded] = {}

    def __call__(self, params: Params, sentences: Sequence[Sentence]) -> np.ndarray:
        """Tag numbers, int32 [R, T]."""
        prepared, encoded = self._prepared, self._encode(sentences)
        windows = Windows(encoded, len(prepared.vocabulary), prepared.config.model.window, _WINDOWS)
        pending = [(len(tokens), self._best(params, batch)) for tokens, batch in windows.in_order()]
        return np.concatenate([np.asarray(best)[:, :count] for count, best in pending], axis=1)

    def score(self, sentences: Sequence[Sentence], numbers: np.ndarray) -> Scores:
        """Scores of one model's tag numbers [T]."""
        return score(sentences, by_sentence(numbers, self._encode(sentences), self._prepared.tags))

    def _encode(self, sentences: Sequence[Sentence]) -> Encoded:
        if id(sentences) not in self._encoded:
            self._encoded[id(sentences)] = self._prepared.encode(sentences)
        return self._encoded[id(sentences)]


def _stacked(runs: Sequence[Iterator[Batch]], apart: bool) -> Iterator[Batch]:
    for batches in zip(*runs, strict=True):
        yield Batch(*(np.stack(arrays) for arrays in zip(*batches, strict=True))) if apart else batches[0]
