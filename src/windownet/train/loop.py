"""The epochs of a run: train, score on dev, keep the best and the last model."""

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from windownet.data.prefetch import prefetch
from windownet.data.scores import Scores
from windownet.errors import InputError
from windownet.model.network import Params
from windownet.optim.build import build_rowwise
from windownet.tagger import artifact
from windownet.tagger.artifact import Artifact
from windownet.tagger.tagger import Predictor, Tagger, by_sentence, score
from windownet.train import run_folder
from windownet.train.log import RunLog
from windownet.train.prepare import Prepared
from windownet.train.step import Step, Training, TrainState
from windownet.train.stopping import is_over


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      folder: the run folder.
      best_epoch: the epoch of `model/`, from 1.
      dev: scores of that model on dev.
      test: on test; None where there is no test part.
      seconds: wall time of all epochs, scoring on dev included.
      tokens_per_second: training words a second, without the first call, which compiles.
    """

    folder: Path
    best_epoch: int
    dev: Scores
    test: Scores | None
    seconds: float
    tokens_per_second: float


def train(prepared: Prepared, folder: Path, console: Console) -> Result:
    """Run all epochs and score the best model.

    Args:
      prepared: data and network.
      folder: a run folder that `run_folder.create` made.
      console: where to show how it goes.

    Raises:
      InputError: the loss is not finite, or the folder can no longer be written; the models saved so far stand.
      KeyboardInterrupt: its text says which epoch is kept.
    """
    return _Run(prepared, folder, RunLog(folder / run_folder.METRICS, console)).run()


class _Run:
    def __init__(self, prepared: Prepared, folder: Path, log: RunLog) -> None:
        self._prepared = prepared
        self._folder = folder
        self._log = log
        config = prepared.config
        self._epochs = config.train.epochs
        optimizer = build_rowwise(config, self._epochs * prepared.epochs.steps)
        self._step = Step(Training(prepared.network, optimizer, config.words.anchor, config.train.average))
        self._predict = Predictor(prepared.network)
        self._dev = prepared.encode(prepared.splits.dev)
        self._tokens_a_call = len(prepared.train.positions) / prepared.epochs.calls
        self._timed_tokens = 0.0
        self._timed_seconds = 0.0
        self._kept = 0
        self._best_epoch = 0
        self._best_f1 = -1.0
        self._f1: list[float] = []

    def run(self) -> Result:
        epoch = 0
        start = time.perf_counter()
        try:
            state = self._step.init(self._prepared.config.train.seed, self._prepared.words)
            with self._log.progress(self._epochs * self._prepared.epochs.calls):
                for epoch in range(1, self._epochs + 1):
                    state = self._one_epoch(state, epoch)
                    if is_over(self._f1, self._prepared.config.train.patience):
                        self._log.say(f"stopped: epoch {self._best_epoch} was the last with a better dev F1")
                        break
            return self._finish(time.perf_counter() - start)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted in epoch {max(epoch, 1)}; {self._what_is_kept()}") from None
        except OSError as error:
            raise InputError(f"{self._folder}: cannot be written: {error.strerror}; {self._what_is_kept()}") from error

    def _one_epoch(self, state: TrainState, epoch: int) -> TrainState:
        tokens, seconds = self._timed_tokens, self._timed_seconds
        losses: list[float] = []
        # One call stays in flight: its losses are fetched when the next one has been given to the device.
        in_flight: tuple[int, jax.Array] | None = None
        frozen = epoch <= self._prepared.words.frozen_epochs
        self._clock = time.perf_counter()
        for call, batches in enumerate(prefetch(self._prepared.epochs.epoch(epoch))):
            state, call_losses = self._step(state, batches, frozen=frozen)
            if in_flight is not None:
                losses.extend(self._fetch(epoch, *in_flight))
            in_flight = (call, call_losses)
        if in_flight is not None:
            losses.extend(self._fetch(epoch, *in_flight))
        state = self._step.settle(state, frozen=frozen)
        if self._step.traces > self._programs(epoch):
            self._log.warn(f"the training step was compiled {self._step.traces} times, in epoch {epoch} again")
        params = self._step.result(state)
        numbers = self._predict(params, self._dev)
        dev = score(self._prepared.splits.dev, by_sentence(numbers, self._dev, self._prepared.tags))
        best = dev.f1 > self._best_f1
        self._f1.append(dev.f1)
        self._save(params, run_folder.LAST)
        if best:
            self._save(params, run_folder.BEST)
            self._best_epoch, self._best_f1 = epoch, dev.f1
        self._kept = epoch
        run_folder.discard_replaced(self._folder)
        self._log.epoch(
            epoch=epoch,
            epochs=self._epochs,
            step=epoch * self._prepared.epochs.steps,
            loss=float(np.mean(losses)),
            tokens_per_second=(self._timed_tokens - tokens) / max(self._timed_seconds - seconds, 1e-9),
            dev=dev,
            best=best,
        )
        return state

    def _fetch(self, epoch: int, call: int, losses: jax.Array) -> list[float]:
        fetched = np.asarray(losses)
        now = time.perf_counter()
        elapsed, self._clock = now - self._clock, now
        if (epoch, call) != (1, 0) or self._prepared.epochs.calls == 1:
            self._timed_tokens += self._tokens_a_call
            self._timed_seconds += elapsed
        first = call * len(fetched)
        if not np.isfinite(fetched).all():
            raise InputError(self._why_stopped(epoch, first + int(np.argmin(np.isfinite(fetched))), fetched))
        self._log.steps(
            epoch=epoch,
            step=(epoch - 1) * self._prepared.epochs.steps + first + len(fetched),
            loss=float(fetched.mean()),
            tokens_per_second=self._tokens_a_call / elapsed,
        )
        return [float(loss) for loss in fetched]

    def _programs(self, epoch: int) -> int:
        return 2 if 0 < self._prepared.words.frozen_epochs < epoch else 1

    def _save(self, params: Params, name: str) -> None:
        prepared, params = self._prepared, jax.device_get(params)
        artifact.save(Artifact(prepared.config, prepared.vocabulary, prepared.tags, params), self._folder / name)

    def _finish(self, seconds: float) -> Result:
        # The saved model is scored, not the one in memory: what is reported is what a user gets.
        tagger = Tagger(artifact.load(self._folder / run_folder.BEST))
        splits = self._prepared.splits
        scores = {
            part: score(sentences, tagger.tag([s.words for s in sentences]))
            for part, sentences in (("dev", splits.dev), ("test", splits.test))
            if sentences
        }
        for part, figures in scores.items():
            if figures.predicts_only_outside:
                self._log.warn(
                    f"the model predicts only O on {part}, which has {figures.gold} mentions: it found none of them; "
                    "train longer (train.epochs) or with another optimizer.learning_rate"
                )
        result = Result(
            folder=self._folder,
            best_epoch=self._best_epoch,
            dev=scores["dev"],
            test=scores.get("test"),
            seconds=seconds,
            tokens_per_second=self._timed_tokens / max(self._timed_seconds, 1e-9),
        )
        self._log.end(
            best_epoch=result.best_epoch,
            seconds=round(seconds, 2),
            tokens_per_second=round(result.tokens_per_second),
            compilations=self._step.traces,
            **{part: figures.to_json() for part, figures in scores.items()},
        )
        return result

    def _why_stopped(self, epoch: int, step: int, losses: np.ndarray) -> str:
        numbers = self._prepared.epochs.sentences(epoch, step)
        batch = [self._prepared.splits.train[number] for number in numbers]
        lines = ", ".join(str(sentence.line) for sentence in batch[:5]) + (", ..." if len(batch) > 5 else "")
        loss, rate = losses[~np.isfinite(losses)][0], self._prepared.config.optimizer.learning_rate
        return (
            f"step {step + 1} of epoch {epoch}: required a finite loss, got {loss}; its batch holds {len(batch)} "
            f"training sentences of data.train, of lines {lines} ({' '.join(batch[0].words[:6])!r} ...); "
            f"{self._what_is_kept()}; lower optimizer.learning_rate, now {rate:g}"
        )

    def _what_is_kept(self) -> str:
        if not self._kept:
            old = run_folder.replaced(self._folder)
            return "no epoch was finished, so no model is kept" + (
                f"; the run that was to be replaced is in {old}" if old.exists() else ""
            )
        return (
            f"epoch {self._kept}, the last one finished, is kept in {self._folder / run_folder.LAST}, "
            f"epoch {self._best_epoch}, the best, in {self._folder / run_folder.BEST}"
        )
