"""A run of `pretrain`: encode the text, train, keep checkpoints, write the vectors."""

import math
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from windownet import checkpoint, config as config_module, machine
from windownet.byte_bar import byte_bar
from windownet.checkpoint import Checkpoint
from windownet.data import demo, vectors
from windownet.data.prefetch import prefetch
from windownet.data.vocabulary import Normalization
from windownet.errors import InputError
from windownet.interrupts import Interrupts
from windownet.metrics import METRICS
from windownet.pretrain import text as text_module
from windownet.pretrain.log import PretrainLog
from windownet.pretrain.step import State, Step
from windownet.pretrain.stream import Stack, Stream
from windownet.pretrain.text import Text
from windownet.resume import CONFIG, require_run, require_same_config
from windownet.run_folder import CHECKPOINTS, TEXT, VECTORS
from windownet.schema.pretrain import PretrainConfig, PretrainSection

_KEPT = 2
# Of a million words of an encyclopaedia, 100 blocks of 8192 were just enough for numbers to come together, and no more.
_ENOUGH_BLOCKS = 100
# jax counts them in int32.
_MOST_BLOCKS = 2**31 - 1
# What sub-sampling is to leave of the words at the least, lest it be what there is too little for.
_LEAST_LEFT = 0.02
# Fields that no bit of a run depends on; the text of a run that has begun is in its folder.
FREE = ("text.root", "pretrain.checkpoint_seconds")


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      folder: the run folder.
      words: V, how many words have a vector.
      width: D.
      seconds: wall time of this run, from reading to writing; of the part after it was resumed, if it was.
      words_per_second: words trained a second, those of the text that sub-sampling and vocabulary left; without the
        calls that compiled; None where there was no other.
      raw_words_per_second: words of the text a second, in the same time.
    """

    folder: Path
    words: int
    width: int
    seconds: float
    words_per_second: float | None
    raw_words_per_second: float | None


def is_finished(folder: Path) -> bool:
    """Whether the vectors of the run in a folder are written, which is the last thing that a run does.

    Raises:
      InputError: there is no run in it, or one of a tagger.
    """
    require_run(folder, "pretrain")
    return not (folder / TEXT).exists() and all((folder / name).exists() for name in VECTORS)


class RefusedTextError(InputError):
    """The text cannot be used as the config has it, so its run left nothing that another could go on with."""


def require_text(config: PretrainConfig) -> None:
    """Raise `InputError` unless there is text, and the beginning of each of its files can be read."""
    if config.text.source == "files":
        if not config.text.files:
            raise InputError("text.files: required the names of files, got none; name one")
        text_module.require_readable(_files(config))
    elif config.text.files:
        raise InputError(
            f"text.files: required none with text.source=demo, got {config.text.files[0]!r}; set text.source=files to "
            "read it"
        )


def _files(config: PretrainConfig) -> list[Path]:
    return [Path(config.text.root, name) for name in config.text.files]


def pretrain(config: PretrainConfig, folder: Path, console: Console, *, resume: bool = False) -> Result:
    """Run `pretrain` in a folder of its own.

    Args:
      config: the run's.
      folder: a run folder that `run_folder.create` made.
      console: where to show how it goes.
      resume: go on from the last checkpoint, if there is one.

    Raises:
      RefusedTextError: the text cannot be used, or is of more blocks than can be counted.
      InputError: the folder is no run's of this config, the loss is not finite, or the folder can no longer be written.
      KeyboardInterrupt: its text says what is kept.
    """
    require_run(folder, "pretrain")
    run = _Run(config, folder, PretrainLog(folder / METRICS, console))
    try:
        return run.run(resume)
    except KeyboardInterrupt as error:
        raise type(error)(f"interrupted; {run.what_is_kept()}") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}; {run.what_is_kept()}") from error


def _few_blocks(settings: PretrainSection, stream: Stream) -> str:
    blocks = stream.expected_blocks
    if blocks >= _ENOUGH_BLOCKS:
        return ""
    if stream.left < _LEAST_LEFT:
        return (
            f"sub-sampling leaves {stream.left:.1g} of the words, too few to learn anything of; raise "
            f"pretrain.subsample, now {settings.subsample:g}, or set 0, which leaves all"
        )
    block = max(64, int(stream.expected_words / _ENOUGH_BLOCKS) // 64 * 64)
    advice = [f"pretrain.block={block}"] if block < settings.block else []
    if stream.expected_words < _ENOUGH_BLOCKS * block:
        advice.append(f"pretrain.epochs={math.ceil(_ENOUGH_BLOCKS * block * settings.epochs / stream.expected_words)}")
    return (
        f"the run has {blocks} block{'s'[: blocks > 1]} of {settings.block:,} words, after which vectors are little "
        f"but the random ones that they begin as; {_ENOUGH_BLOCKS} or more are wanted: set {' and '.join(advice)}, or "
        "give more text"
    )


class _Run:
    def __init__(self, config: PretrainConfig, folder: Path, log: PretrainLog) -> None:
        self._config = config
        self._folder = folder
        self._log = log
        self._machine = machine.describe()
        self._kept = 0
        self._words = self._seconds = 0.0
        self._traces = 0

    def run(self, resume: bool) -> Result:
        start = time.perf_counter()
        # Between making the folder and locking it another process may have replaced what is in it.
        require_same_config(
            self._folder / CONFIG,
            config_module.load_as(PretrainConfig, self._folder / CONFIG).model_dump(mode="json"),
            self._config.model_dump(mode="json"),
            FREE,
        )
        found = self._load() if resume else None
        checkpoint.cut_back(self._folder / METRICS, 0 if found is None else found.about["metrics_bytes"])
        text = self._text(resume, found is None)
        settings = self._config.pretrain
        stream = Stream(
            text,
            radius=settings.window,
            block=settings.block,
            steps=settings.steps_per_call,
            epochs=settings.epochs,
            subsample=settings.subsample,
            seed=settings.seed,
        )
        if stream.expected_blocks > _MOST_BLOCKS:
            raise RefusedTextError(
                f"pretrain.epochs: required at most {_MOST_BLOCKS:,} blocks in all, got {stream.expected_blocks:,} of "
                f"{settings.block:,} words; lower pretrain.epochs, now {settings.epochs:,}, or raise pretrain.block"
            )
        if advice := _few_blocks(settings, stream):
            self._log.warn(advice)
        step = Step(settings, text.counts, stream.expected_blocks)
        state = step.init()
        done = 0
        if found is not None:
            state, done = found.into(state), found.step
            self._kept = done
            self._log.say(f"going on after {done * settings.steps_per_call:,} blocks")
            self._log.record("resume", step=done * settings.steps_per_call)
        with self._log.training(stream.share(done * settings.steps_per_call * settings.block)):
            state, loss = self._train(step, state, stream, done)
        raw_share = text.all_words * settings.epochs / max(stream.expected_words, 1)
        return self._finish(text, state, loss, time.perf_counter() - start, raw_share)

    def _load(self) -> Checkpoint | None:
        if (found := checkpoint.load(self._folder / CHECKPOINTS, self._log.warn)) is not None:
            require_same_config(found.path, found.about["config"], self._config.model_dump(mode="json"), FREE)
            for warning in machine.require_same(found.path, found.about["machine"], self._machine):
                self._log.warn(warning)
        return found

    def _text(self, resume: bool, record: bool) -> Text:
        start = time.perf_counter()
        text = text_module.load(self._folder / TEXT) if resume else None
        if text is None:
            try:
                text = self._read()
            except InputError as error:
                raise RefusedTextError(str(error)) from error
            seconds = time.perf_counter() - start
            self._log.say(
                f"{text.all_words:,} words, {len(text.words):,} of them have a vector; read in {seconds:.1f} s"
            )
        if record:
            seconds = time.perf_counter() - start
            self._log.record("text", all_words=text.all_words, vectors=len(text.words), seconds=round(seconds, 2))
        return text

    def _read(self) -> Text:
        require_text(self._config)
        if self._config.text.source == "demo":
            sentences = (" ".join(sentence.words) for sentence in demo.sentences("train"))
            pieces = iter([("the embedded corpus", "\n".join(sentences).encode() + b"\n")])
            return self._encode(pieces)
        with byte_bar(self._log.console) as progress:
            return self._encode(text_module.in_background(text_module.read(_files(self._config), progress)))

    def _encode(self, pieces: text_module.Pieces) -> Text:
        settings = self._config.text
        return text_module.encode(
            pieces,
            self._folder / TEXT,
            Normalization(settings.case, settings.digits),
            min_count=settings.min_count,
            max_words=settings.max_words,
        )

    def _train(self, step: Step, state: State, stream: Stream, done: int) -> tuple[State, float | None]:
        settings = self._config.pretrain
        saved = self._clock = time.perf_counter()
        # One call stays in flight: its loss is fetched when the next one has been given to the device.
        in_flight: tuple[int, Stack, jax.Array] | None = None
        stack = None
        with Interrupts() as interrupts:
            for stack in prefetch(stream.stacks(done)):
                state, loss = step(state, stack.blocks)
                if in_flight is not None:
                    self._fetch(*in_flight, step.traces)
                done += 1
                in_flight = (done, stack, loss)
                if interrupts.asked or time.perf_counter() - saved >= settings.checkpoint_seconds:
                    self._fetch(*in_flight, step.traces)
                    in_flight = None
                    self._save(state, done)
                    saved = self._clock = time.perf_counter()
                    if interrupts.asked:
                        raise interrupts.error("")
        if in_flight is not None:
            self._fetch(*in_flight, step.traces)
        if stack is None:
            return state, None
        return state, self._finite(step.loss(state, stack.blocks), done * settings.steps_per_call)

    def _save(self, state: State, done: int) -> None:
        told = self._folder / METRICS
        about = {
            "metrics_bytes": told.stat().st_size,
            "config": self._config.model_dump(mode="json"),
            "machine": self._machine,
        }
        checkpoint.save(state, done, about, self._folder / CHECKPOINTS, keep=_KEPT, beside=[told])
        self._kept = done

    def _fetch(self, done: int, stack: Stack, loss: jax.Array, traces: int) -> None:
        step = done * self._config.pretrain.steps_per_call
        value = self._finite(loss, step)
        now = time.perf_counter()
        elapsed, self._clock = now - self._clock, now
        # The next call, compiled or not, is given to the device before this one's loss is fetched.
        if traces == self._traces:
            self._words += stack.words
            self._seconds += elapsed
        self._traces = traces
        self._log.step(step=step, loss=value, share=stack.share, words_per_second=stack.words / elapsed)

    def _finite(self, loss: jax.Array, step: int) -> float | None:
        value = float(loss)
        if np.isinf(value):
            raise InputError(f"step {step}: {self._why_stopped('losses', str(value))}")
        return None if np.isnan(value) else value

    def _finish(self, text: Text, state: State, loss: float | None, seconds: float, raw_share: float) -> Result:
        matrix = np.asarray(state.params["words"])
        if not np.isfinite(matrix).all():
            raise InputError(self._why_stopped("vectors", "some that are not"))
        vectors.write_safetensors(self._folder / VECTORS[1], text.words, matrix)
        vectors.write_word2vec_text(self._folder / VECTORS[0], text.words, matrix)
        # The text is as long as the run, a checkpoint larger than the vectors; with these written both have served.
        shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)
        shutil.rmtree(self._folder / TEXT)
        speed = self._words / self._seconds if self._seconds else None
        raw_speed = None if speed is None else speed * raw_share
        result = Result(self._folder, len(matrix), matrix.shape[1], seconds, speed, raw_speed)
        self._log.end(
            vectors=result.words,
            width=result.width,
            seconds=round(seconds, 2),
            loss=loss,
            words_per_second=speed,
            raw_words_per_second=None if raw_speed is None else round(raw_speed),
        )
        return result

    def _why_stopped(self, what: str, came: str) -> str:
        rate = self._config.pretrain.learning_rate
        return f"required finite {what}, got {came}; lower pretrain.learning_rate, now {rate:g}, and begin anew"

    def what_is_kept(self) -> str:
        command = f"`windownet pretrain --resume {shlex.quote(str(self._folder))}`"
        if not self._kept:
            return f"no checkpoint was written yet, so {command} begins anew"
        blocks = self._kept * self._config.pretrain.steps_per_call
        return f"the checkpoint after {blocks:,} blocks is kept in {self._folder / CHECKPOINTS}; go on with {command}"
