"""From a config to all that training, and its proof, begin with."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console

from windownet.data import sources, tags
from windownet.data.batches import Encoded, Epochs, Windows, encode
from windownet.data.sentences import Sentence
from windownet.data.sources import Splits
from windownet.data.vocabulary import Normalization, Vocabulary
from windownet.errors import InputError
from windownet.model.initializers import Initializers
from windownet.model.network import WindowNetwork
from windownet.optim import by_path, schedules
from windownet.schema.config import Config
from windownet.schema.training import OptimizerConfig
from windownet.tagger import artifact, tagger
from windownet.train import word_table
from windownet.train.word_table import WordTable

# jax counts them in int32.
_MOST_STEPS = 2**31 - 1


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
      config: the whole config.
      splits: the labelled sentences.
      vocabulary: the words of training, and those that only the file of vectors has.
      tags: L tags by number, in the network's scheme.
      network: the network, without parameters.
      train: the training data, encoded.
      epochs: its batches, each of all windows of a step.
      words: the word table's first values and what training may do to it.
    """

    config: Config
    splits: Splits
    vocabulary: Vocabulary
    tags: tuple[str, ...]
    network: WindowNetwork
    train: Encoded
    epochs: Epochs
    words: WordTable

    def encode(self, sentences: Sequence[Sentence]) -> Encoded:
        """Sentences as the network takes them, without their tags."""
        return encode([s.words for s in sentences], self.vocabulary, self.config.model.window // 2)


def prepare(config: Config, console: Console | None = None, *, vectors: bool = True) -> Prepared:
    """Read the data and the word vectors, build the vocabulary and encode the training part.

    Args:
      config: the whole config.
      console: where to show how reading goes.
      vectors: whether to read the word vectors; without them the vocabulary is of the words of training alone.

    Raises:
      InputError: the data or the vectors are missing or malformed, there is no mention to learn, or
        a step has more batches than the data, the run more steps than 32 bits count, or a pattern of parameters
        matches none.
    """
    if not vectors:
        config = config.model_copy(update={"words": config.words.model_copy(update={"vectors": ""})})
    splits = sources.load(config.data)
    types = {span.type for sentence in splits.train for span in tags.spans(sentence.tags)}
    if not types:
        raise InputError(
            f"data.train: required at least one mention in its {len(splits.train)} sentences, got only O; "
            "set data.tag_column, data.scheme or data.drop_types to what the file has"
        )
    names = tuple(tags.labels(types, config.model.scheme))
    seen = Vocabulary.build(
        (sentence.words for sentence in splits.train),
        Normalization(config.features.case, config.features.digits),
        config.features.min_count,
    )
    vocabulary = word_table.extend(config, seen, console)
    numbers = {tag: number for number, tag in enumerate(names)}
    train = encode(
        [sentence.words for sentence in splits.train],
        vocabulary,
        config.model.window // 2,
        ([numbers[tag] for tag in tags.convert(sentence.tags, config.model.scheme)] for sentence in splits.train),
    )
    windows = Windows(train, len(vocabulary), config.model.window, _step_size(config, len(train.positions)))
    epochs = Epochs(windows, config.train.steps_per_call, config.train.seed, config.regularization.word_dropout)
    if config.train.epochs > (most := _MOST_STEPS // epochs.steps):
        raise InputError(
            f"train.epochs: required at most {most:,}, as an epoch has {epochs.steps:,} steps and a run at most "
            f"{_MOST_STEPS:,}, got {config.train.epochs:,}"
        )
    if share := schedules.others(config, config.train.epochs * epochs.steps).get(schedules.WORD_DROPOUT):
        epochs = epochs.dropping([float(share(epoch * epochs.steps)) for epoch in range(config.train.epochs)])
    counts = tuple(np.bincount(train.tags, minlength=len(names)).tolist())
    network = dataclasses.replace(
        artifact.network(config, len(vocabulary), len(names)), initializers=Initializers(config.init, counts)
    )
    _patterns_match(config, network)
    occurrences = np.bincount(train.words[train.positions], minlength=len(vocabulary))
    words = word_table.build(config, vocabulary, occurrences, console)
    return Prepared(config, splits, vocabulary, names, network, train, epochs, words)


def _step_size(config: Config, words: int) -> int:
    # More windows than there are would be filled up with nothing, and could be more than memory holds.
    size, parts = min(config.train.batch_size, words), config.train.accumulate
    if parts > (most := -(-words // size)):
        raise InputError(
            f"train.accumulate: required at most {most:,}, the batches of {size:,} "
            f"in the {words:,} training words, got {parts:,}"
        )
    return size * parts


def _patterns_match(config: Config, network: WindowNetwork) -> None:
    params = jax.eval_shape(network.init, jax.random.key(0))
    by_path.require_matches("optimizer.rates", config.optimizer.rates, params)
    # The default ones are for every network, and one without a slope has none to leave alone.
    own = set(config.optimizer.undecayed) - set(OptimizerConfig.model_fields["undecayed"].default)
    by_path.require_matches("optimizer.undecayed", sorted(own), params)


def unseen_types(prepared: Prepared) -> dict[str, dict[str, int]]:
    """Mentions in dev and test of types that training never saw, counted: part -> type -> mentions."""
    parts = {"dev": prepared.splits.dev, "test": prepared.splits.test}
    found = {part: tagger.unseen_types(sentences, prepared.tags) for part, sentences in parts.items()}
    return {part: counts for part, counts in found.items() if counts}
