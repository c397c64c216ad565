"""The epochs of a run: train, score on dev, keep the best and the last model."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from windownet import checkpoint, run_folder
from windownet.data.batches import Batch
from windownet.data.prefetch import prefetch
from windownet.data.scores import Scores
from windownet.errors import InputError
from windownet.interrupts import Interrupts
from windownet.metrics import METRICS
from windownet.model.network import Params
from windownet.optim import schedules
from windownet.tagger import artifact
from windownet.tagger.artifact import Artifact
from windownet.tagger.tagger import Predictor, Tagger, by_sentence, score
from windownet.train import environment, scheduled
from windownet.train.checkpoints import Checkpoints, Progress, require_own_folder
from windownet.train.levels import Level
from windownet.train.log import Logger, RunLog
from windownet.train.prepare import Prepared
from windownet.train.scheduled import Scheduled
from windownet.train.statistics import not_finite
from windownet.train.step import Statistics, Step, TrainState
from windownet.train.stopping import is_over, rate_factor
from windownet.train.tensorboard import TensorBoard


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      folder: the run folder.
      best_epoch: the epoch of `model/`, from 1.
      dev: scores of that model on dev.
      test: on test; None where there is no test part.
      seconds: wall time of all epochs, scoring on dev included.
      tokens_per_second: training words a second, without the calls that compiled; None where there was no other.
    """

    folder: Path
    best_epoch: int
    dev: Scores
    test: Scores | None
    seconds: float
    tokens_per_second: float | None


def train(
    prepared: Prepared,
    folder: str | Path,
    console: Console,
    *,
    resume: bool = False,
    level: Level = "info",
    loggers: Sequence[Logger] = (),
) -> Result:
    """Run all epochs and score the best model.

    Args:
      prepared: data and network.
      folder: a run folder that `run_folder.create` made.
      console: where to show how it goes.
      resume: go on from the folder's last checkpoint; where there is none yet, begin anew.
      level: how much to show.
      loggers: who else is told of it.

    Raises:
      InputError: the loss or a parameter is not finite, the folder can no longer be written or is written by another
        process, its config is not that of `prepared`, or there is a run in it that has finished or, without `resume`,
        begun; what was saved so far stands.
      KeyboardInterrupt: its text says what is kept.
    """
    writers = [TensorBoard()] if prepared.config.log.tensorboard else []
    folder = Path(folder)
    return _Run(prepared, folder, RunLog(folder / METRICS, console, level, loggers, writers)).run(resume)


class _Run:
    def __init__(self, prepared: Prepared, folder: Path, log: RunLog) -> None:
        self._prepared = prepared
        self._folder = folder
        self._log = log
        config = prepared.config
        self._epochs = config.train.epochs
        steps = self._epochs * prepared.epochs.steps
        training = scheduled.of(config, prepared.network, steps)
        self._rate = jax.jit(schedules.build(config.schedule, config.optimizer, steps))
        numbers = schedules.others(config, steps)
        self._others = jax.jit(lambda step: {f"scheduled/{key}": number(step) for key, number in numbers.items()})
        self._step = Step(training)
        if isinstance(training, Scheduled):
            self._scale_rate: Callable[..., TrainState] = jax.jit(training.scale_rate, donate_argnums=0)
        self._predict = Predictor(prepared.network)
        self._dev = prepared.encode(prepared.splits.dev)
        self._tokens_a_call = len(prepared.train.positions) / prepared.epochs.calls
        self._began_in = self._environment = environment.describe(prepared)
        self._progress = Progress()
        self._interrupts = Interrupts()
        self._checkpoints = Checkpoints(folder, prepared.config, log)
        self._compiled_before = 0
        self._ran_before: set[bool] = set()
        self._ran: set[bool] = set()

    def run(self, resume: bool) -> Result:
        try:
            with run_folder.locked(self._folder), self._interrupts:
                return self._run(resume)
        except KeyboardInterrupt as error:
            if str(error):
                raise
            error.args = (self._interrupted(),)
            raise
        except OSError as error:
            if error is self._log.foreign:
                raise
            if not self._folder.exists():
                raise InputError(
                    f"{self._folder}: required the run's folder, found nothing there: it was moved or deleted in epoch "
                    f"{self._progress.epoch}; move it back and go on with --resume, or begin again"
                ) from error
            begin = f"; when it can be, begin again with `windownet train --resume {shlex.quote(str(self._folder))}`"
            kept = self._kept() + ("" if self._checkpoints.kept else begin)
            raise InputError(f"{self._folder}: cannot be written: {error.strerror or error}; {kept}") from error

    def _run(self, resume: bool) -> Result:
        if not resume:
            require_own_folder(self._folder, self._prepared.config)
        state, metrics_bytes = self._resumed() if resume else (None, 0)
        begins = state is None
        if state is None:
            state = self._first_state()
        calls = self._prepared.epochs.calls
        self._begin = time.perf_counter()
        self._seconds_before = self._progress.seconds
        done = (self._progress.epoch - 1) * calls + self._progress.calls
        with self._log.telling(self._checkpoints.step, metrics_bytes), self._log.progress(self._epochs * calls, done):
            self._keep_environment(begins)
            while self._progress.epoch <= self._epochs and not self._is_over():
                state = self._one_epoch(state)
            if self._is_over() and self._progress.epoch <= self._epochs:
                self._log.say(f"stopped: epoch {self._progress.best_epoch} was the last with a better dev F1")
            result = self._finish()
        self._checkpoints.delete()
        return result

    def _resumed(self) -> tuple[TrainState | None, int]:
        if (found := self._checkpoints.load(self._environment)) is None:
            return None, 0
        self._progress = progress = Progress(**found.about["progress"])
        self._began_in = found.about["environment"]
        self._compiled_before = progress.compilations
        frozen_epochs = min(self._prepared.words.frozen_epochs, self._epochs)
        if frozen_epochs:
            self._ran_before.add(True)
        if (progress.epoch - 1, progress.calls) > (frozen_epochs, 0):
            self._ran_before.add(False)
        return found.into(jax.eval_shape(self._first_state)), found.about["metrics_bytes"]

    def _keep_environment(self, begins: bool) -> None:
        path = self._folder / run_folder.ENVIRONMENT
        if not begins:
            if path.exists():
                return
            self._log.warn(f"{path}: it was lost, and is written anew from the checkpoint")
        path.write_text(json.dumps(self._began_in, indent=1) + "\n", encoding="utf-8")

    def _first_state(self) -> TrainState:
        return self._step.init(self._prepared.config.train.seed, self._prepared.words)

    def _one_epoch(self, state: TrainState) -> TrainState:
        progress, epoch = self._progress, self._progress.epoch
        tokens, seconds = progress.timed_tokens, progress.timed_seconds
        # One call stays in flight: its losses are fetched when the next one has been given to the device.
        in_flight: tuple[int, jax.Array, Statistics, bool] | None = None
        frozen = self._is_frozen(epoch)
        self._clock = time.perf_counter()
        for call, batches in enumerate(prefetch(self._prepared.epochs.epoch(epoch, progress.calls)), progress.calls):
            traces = self._step.traces
            state, losses, statistics = self._call(state, batches, frozen)
            self._ran.add(frozen)
            if in_flight is not None:
                self._fetch(*in_flight)
            in_flight = (call, losses, statistics, self._step.traces > traces)
            if self._interrupts.asked or self._checkpoints.are_due():
                self._fetch(*in_flight)
                in_flight = None
                self._checkpoint(state)
        if in_flight is not None:
            self._fetch(*in_flight)
        state = self._step.settle(state, frozen=frozen)
        if self._compilations() > self._programs(epoch):
            self._log.warn(f"the training step was compiled {self._compilations()} times, in epoch {epoch} again")
        params = state.result
        # The last step's loss was that of the parameters before it.
        if broken := not_finite(params):
            raise InputError(
                f"epoch {epoch}: required finite parameters behind its last step, got NaN or infinity in "
                f"{', '.join(broken)}; {self._kept()}; {self._advice()}"
            )
        numbers = self._predict(params, self._dev)
        dev = score(self._prepared.splits.dev, by_sentence(numbers, self._dev, self._prepared.tags))
        best = dev.f1 > progress.best_f1
        progress.f1.append(dev.f1)
        self._save(params, run_folder.LAST)
        if best:
            self._save(params, run_folder.BEST)
            progress.best_epoch, progress.best_f1 = epoch, dev.f1
        run_folder.discard_replaced(self._folder)
        self._log.epoch(
            epoch=epoch,
            epochs=self._epochs,
            step=epoch * self._prepared.epochs.steps,
            loss=float(np.mean(progress.losses)),
            tokens_per_second=_speed(progress.timed_tokens - tokens, progress.timed_seconds - seconds),
            dev=dev,
            best=best,
        )
        state = self._with_rate_of_scores(state)
        progress.epoch, progress.calls, progress.losses = epoch + 1, 0, []
        if self._interrupts.asked or self._checkpoints.are_due():
            self._checkpoint(state)
        return state

    def _with_rate_of_scores(self, state: TrainState) -> TrainState:
        f1, schedule = self._progress.f1, self._prepared.config.schedule
        if len(f1) == self._epochs or self._is_over() or rate_factor(f1, schedule) == rate_factor(f1[:-1], schedule):
            return state
        factor, best = rate_factor(f1, schedule), max(f1)
        self._log.say(
            f"the best dev F1 is still {best:.2f}, that of epoch {f1.index(best) + 1}: from epoch {len(f1) + 1} on the "
            f"rate is {factor:g} of its schedule's"
        )
        return self._scale_rate(state, factor)

    def _checkpoint(self, state: TrainState) -> None:
        progress = self._progress
        progress.compilations = self._compilations()
        progress.seconds = self._seconds()
        step = (progress.epoch - 1) * self._prepared.epochs.steps
        step += progress.calls * self._prepared.epochs.steps_per_call
        self._checkpoints.save(state, step, progress, self._environment)
        self._clock = time.perf_counter()
        if self._interrupts.asked:
            raise self._interrupts.error(self._interrupted())

    def _interrupted(self) -> str:
        epoch = self._progress.epoch
        return (
            f"interrupted {f'in epoch {epoch}' if epoch <= self._epochs else 'behind the last epoch'}; {self._kept()}"
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._begin

    def _call(self, state: TrainState, batches: Batch, frozen: bool) -> tuple[TrainState, jax.Array, Statistics]:
        if self._prepared.config.log.statistics:
            return self._step.watched(state, batches, frozen=frozen)
        return *self._step(state, batches, frozen=frozen), {}

    def _fetch(self, call: int, losses: jax.Array, statistics: Statistics, compiled: bool) -> None:
        progress = self._progress
        fetched = np.asarray(losses)
        now = time.perf_counter()
        elapsed, self._clock = max(now - self._clock, 1e-9), now
        if not compiled:
            progress.timed_tokens += self._tokens_a_call
            progress.timed_seconds += elapsed
        first = call * len(fetched)
        if not np.isfinite(fetched).all():
            raise InputError(self._why_stopped(progress.epoch, first + int(np.argmin(np.isfinite(fetched))), fetched))
        step = (progress.epoch - 1) * self._prepared.epochs.steps + first + len(fetched)
        told = {name: float(value) for name, value in jax.device_get(statistics).items()}
        if told:
            told |= {name: float(value) for name, value in self._others(step - 1).items()}
            told["rate"] = float(self._rate(step - 1)) * rate_factor(progress.f1, self._prepared.config.schedule)
        self._log.steps(
            epoch=progress.epoch,
            step=step,
            loss=float(fetched.mean()),
            tokens_per_second=self._tokens_a_call / elapsed,
            statistics=told,
        )
        progress.losses.extend(float(loss) for loss in fetched)
        progress.calls = call + 1

    def _is_frozen(self, epoch: int) -> bool:
        return epoch <= self._prepared.words.frozen_epochs

    def _compilations(self) -> int:
        # What a resumed run compiles again is not counted again.
        return self._compiled_before + self._step.traces - len(self._ran & self._ran_before)

    def _is_over(self) -> bool:
        return bool(self._progress.f1) and is_over(self._progress.f1, self._prepared.config.train.patience)

    def _programs(self, epoch: int) -> int:
        return 2 if 0 < self._prepared.words.frozen_epochs < epoch else 1

    def _save(self, params: Params, name: str) -> None:
        prepared, params = self._prepared, jax.device_get(params)
        artifact.save(Artifact(prepared.config, prepared.vocabulary, prepared.tags, params), self._folder / name)

    def _finish(self) -> Result:
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
        progress = self._progress
        seconds = self._seconds()
        result = Result(
            folder=self._folder,
            best_epoch=progress.best_epoch,
            dev=scores["dev"],
            test=scores.get("test"),
            seconds=seconds,
            tokens_per_second=_speed(progress.timed_tokens, progress.timed_seconds),
        )
        self._log.end(
            best_epoch=result.best_epoch,
            seconds=round(seconds, 2),
            tokens_per_second=None if result.tokens_per_second is None else round(result.tokens_per_second),
            compilations=self._compilations(),
            **{part: figures.to_json() for part, figures in scores.items()},
        )
        # By this record a run is known to have finished, once its checkpoints are gone.
        checkpoint.sync(self._folder / METRICS)
        return result

    def _why_stopped(self, epoch: int, step: int, losses: np.ndarray) -> str:
        numbers = self._prepared.epochs.sentences(epoch, step)
        batch = [self._prepared.splits.train[number] for number in numbers]
        lines = ", ".join(str(sentence.line) for sentence in batch[:5]) + (", ..." if len(batch) > 5 else "")
        loss = losses[~np.isfinite(losses)][0]
        return (
            f"step {step + 1} of epoch {epoch}: required a finite loss, got {loss}; its batch holds {len(batch)} "
            f"training sentences of data.train, of lines {lines} ({' '.join(batch[0].words[:6])!r} ...); "
            f"{self._kept()}; {self._advice()}"
        )

    def _advice(self) -> str:
        return f"lower optimizer.learning_rate, now {self._prepared.config.optimizer.learning_rate:g}"

    def _kept(self) -> str:
        kept = self._checkpoints.kept
        if self._progress.epoch == 1:
            old = run_folder.replaced(self._folder)
            return (
                "no epoch was finished, so no model is kept"
                + (f"; the run that was to be replaced is in {old}" if old.exists() else "")
                + kept
            )
        return (
            f"epoch {self._progress.epoch - 1}, the last one finished, is kept in {self._folder / run_folder.LAST}, "
            f"epoch {self._progress.best_epoch}, the best, in {self._folder / run_folder.BEST}{kept}"
        )


def _speed(tokens: float, seconds: float) -> float | None:
    return tokens / max(seconds, 1e-9) if tokens else None
