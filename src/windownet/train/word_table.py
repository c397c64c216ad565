"""The word table of a run: pretrained vectors in its rows, and whether training moves them."""

from dataclasses import dataclass

import numpy as np
from rich.console import Console

from windownet.byte_bar import byte_bar
from windownet.data import vectors
from windownet.data.byte_source import Progress
from windownet.data.vector_file import Options
from windownet.data.vectors import Filled, Match
from windownet.data.vocabulary import RARE, Vocabulary
from windownet.schema.config import Config
from windownet.schema.data import WordsConfig

# Training words from which fine-tuning is ahead of the frozen table, in the mean over three data sets, four draws of
# vectors and five seeds: scripts/freeze_or_finetune.py (docs/measurements.md).
ENOUGH_WORDS = 2_700


@dataclass(frozen=True)
class WordTable:
    """What training begins with, and what it may do to it.

    Attributes:
      pretrained: the file's vectors, float32 [V, D], zeros where it has none; None without a file.
      found: bool [V], whether the file had the row's word; None without a file.
      frozen_epochs: how many epochs, from the first, leave the table as it is.
      notes: lines that tell a person what was decided, and why.
      warnings: lines that a person should act on.
    """

    pretrained: np.ndarray | None
    found: np.ndarray | None
    frozen_epochs: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def extend(config: Config, vocabulary: Vocabulary, console: Console | None) -> Vocabulary:
    """The vocabulary with a row for words that only the file of vectors has, up to words.extra.

    Raises:
      InputError: the file is bad or of another width than model.word_width.
    """
    words = config.words
    if not (words.vectors and words.extra):
        return vocabulary
    width = config.model.word_width
    with byte_bar(console, "word vectors: words") as progress:
        options = _options(words, progress)
        return vectors.extend(vocabulary, words.vectors, words.extra, expected_width=width, **options)


def build(config: Config, vocabulary: Vocabulary, counts: np.ndarray, console: Console | None) -> WordTable:
    """Fill the table and decide what becomes of it.

    Args:
      config: the whole config.
      vocabulary: V words.
      counts: int [V], how often the training data has each of them.
      console: where to show progress.

    Raises:
      InputError: the file is bad or of another width than model.word_width.
    """
    words = config.words
    frozen, notes, warnings = _decide(config, int(counts.sum()))
    if not words.vectors:
        return WordTable(None, None, frozen, tuple(notes), tuple(warnings))
    table = np.zeros((len(vocabulary), config.model.word_width), np.float32)
    with byte_bar(console, "word vectors: numbers") as progress:
        filled = vectors.fill(table, vocabulary, words.vectors, **_options(words, progress))
    found = filled.matches > Match.MISSING
    # Not the rows that training text alone would have: it may hold words too rare for one which the file knows.
    of_training = found[RARE + 1 :][counts[RARE + 1 :] > 0]
    notes.insert(0, f"word vectors: {_matched(filled, of_training, len(vocabulary) - RARE - 1)}")
    if of_training.size and not of_training.any():
        warnings.append(
            f"{words.vectors} has a vector for none of the {of_training.size:,} words of training; "
            "see features.case and features.digits, and whether it is a file for this language"
        )
    if warning := filled.counts.warning():
        warnings.append(f"{words.vectors}: {warning}")
    return WordTable(table, found, frozen, tuple(notes), tuple(warnings))


def _decide(config: Config, words_in_training: int) -> tuple[int, list[str], list[str]]:
    words, epochs, first = config.words, config.train.epochs, config.words.unfreeze_after
    tuned = f"frozen for {first} epoch{'s' if first > 1 else ''}, then fine-tuned" if first else "fine-tuned"
    match words.update:
        case "freeze":
            warnings = [] if words.vectors else ["words.update = 'freeze' without words.vectors: the words stay random"]
            return epochs, ["word table: frozen"], warnings
        case "auto" if not words.vectors:
            return first, [f"word table: {tuned}, as there are no pretrained vectors to keep"], []
        case "auto" if words_in_training < ENOUGH_WORDS:
            frozen = f"frozen for all {epochs} epochs, not only {first}" if first else "frozen"
            reason = f"{words_in_training:,} training words are fewer than {ENOUGH_WORDS:,}"
            return epochs, [f"word table: {frozen}, as {reason}"], []
        case "auto":
            reason = f"{words_in_training:,} training words are {ENOUGH_WORDS:,} or more"
            return first, [f"word table: {tuned}, as {reason}"], []
    return first, [f"word table: {tuned}"] if first else [], []


def _matched(filled: Filled, of_training: np.ndarray, named: int) -> str:
    exact, lower, normalized = (filled.count(match) for match in (Match.EXACT, Match.LOWER, Match.NORMALIZED))
    return (
        f"{int(of_training.sum()):,} of {of_training.size:,} words of training have one, "
        f"{named - of_training.size:,} words beside them; "
        f"{exact:,} matched exactly, {lower:,} in lower case, {normalized:,} normalized"
    )


def _options(words: WordsConfig, progress: Progress | None) -> Options:
    form = None if words.format == "auto" else words.format
    return Options(format=form, skip_bad=words.skip_bad_lines, progress=progress)
