"""Nearest words by the cosine of their vectors, and by their spelling."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np

from windownet.data.vector_file import Block, Counts, Options, VectorFile
from windownet.data.vectors import read
from windownet.errors import InputError

_BATCH = 1 << 13
# Letters of a word in a table.
_SHOWN = 60


class Neighbour(NamedTuple):
    """A word and how near it is.

    Attributes:
      word: the word.
      cosine: of its vector with the other one, from -1 to 1; 0 where its vector is zero.
    """

    word: str
    cosine: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest words in a file.

    Attributes:
      nearest: for each word asked for, the others, nearest first.
      width: D numbers a word in the file.
      counts: what the pass over the file met.
    """

    nearest: dict[str, list[Neighbour]]
    width: int
    counts: Counts


def of_words(
    path: str | Path,
    words: Sequence[str],
    count: int = 10,
    **options: Unpack[Options],
) -> Neighbours:
    """The nearest words in a file of vectors, read twice and never held: memory is that of its words.

    Args:
      path: the file.
      words: words of the file.
      count: how many neighbours of each.
      options: format, skip_bad and progress, as `VectorFile` has them; progress runs once a pass.

    Raises:
      InputError: the file is bad or lacks one of the words; names the nearest spelling that it has.
    """
    queries = read(path, words, **options)
    if missing := [word for word in dict.fromkeys(words) if word not in queries.words]:
        similar = _similar(path, missing, options)
        came = ", ".join(f"{word!r} ({similar.get(word, 'nothing')} is near it in spelling)" for word in missing)
        counts = queries.counts
        skipped = f" (bad lines skipped, and their words with them: {counts.skipped:,} of {counts.lines:,})"
        raise InputError(
            f"{path}: required words that are in it, got {came}; ask for others{skipped if counts.skipped else ''}"
        )
    for word, vector in zip(queries.words, queries.matrix, strict=True):
        if not vector.any():
            raise InputError(
                f"{path}: required a vector with a direction, got zeros for {word!r}; ask for another word"
            )
    with VectorFile(path, **options) as file:
        found = nearest(queries.words, queries.matrix, file.blocks(), count)
        return Neighbours({word: found[word] for word in dict.fromkeys(words)}, file.width, file.counts)


def nearest(
    words: Sequence[str], vectors: np.ndarray, blocks: Iterable[Block], count: int
) -> dict[str, list[Neighbour]]:
    """The nearest of all words in `blocks` to each of some words.

    Args:
      words: Q words; none is its own neighbour.
      vectors: their vectors, floats [Q, D], none zero.
      blocks: the words to choose from; a block's product with the Q vectors is all that is held of it.
      count: how many neighbours of each, 1 or more.

    Returns:
      word -> its neighbours, nearest first; of equally near ones the first in `blocks`.

    Raises:
      ValueError: none are asked for.
    """
    if count < 1:
        raise ValueError(f"nearest: required a count of 1 or more, got {count}")
    directions = vectors.astype(np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    best: dict[str, list[Neighbour]] = {word: [] for word in words}
    bar = np.full(len(words), -np.inf)
    for block in blocks:
        matrix = block.matrix.astype(np.float64)
        norms = np.linalg.norm(matrix, axis=1)
        cosines = np.clip(matrix @ directions.T / np.where(norms > 0, norms, 1)[:, None], -1, 1)
        for q, word in enumerate(words):
            above = np.flatnonzero(cosines[:, q] > bar[q])
            # One more than count, for the word itself may be among them.
            order = above[np.argsort(-cosines[above, q], kind="stable")[: count + 1]]
            rivals = [Neighbour(block.words[n], float(cosines[n, q])) for n in order if block.words[n] != word]
            best[word] = sorted([*best[word], *rivals], key=lambda neighbour: -neighbour.cosine)[:count]
            if len(best[word]) == count:
                bar[q] = best[word][-1].cosine
    return best


def shown(word: str) -> str:
    """A word as a table shows it: in one line, and no longer than that."""
    text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in word[:_SHOWN])
    return text if len(word) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def edit_distances(word: str, others: Sequence[str]) -> np.ndarray:
    """Levenshtein distances, int16 [n], of a word to n others, all at once."""
    lengths = np.array([len(other) for other in others], int)
    longest = int(lengths.max(initial=1))
    letters = np.array(others, f"U{longest}").view(np.uint32).reshape(len(others), longest).T
    # [j]: the distance of the letters of `word` seen so far to the first j letters of each other.
    distances = np.repeat(np.arange(longest + 1, dtype=np.int16)[:, None], len(others), axis=1)
    for letter in word:
        replaced = distances[:-1] + (letters != ord(letter))
        distances += 1
        for j in range(1, longest + 1):
            distances[j] = np.minimum(np.minimum(distances[j], replaced[j - 1]), distances[j - 1] + 1)
    found: np.ndarray = distances[lengths, np.arange(len(others))]
    return found


def _similar(path: str | Path, words: Sequence[str], options: Options) -> dict[str, str]:
    # Letters that may differ: none in a word of one, at most three in a long one; case never counts.
    nearest_yet = {word: (min(3, (len(word) + 1) // 3) + 1, "") for word in words}
    batch: list[str] = []

    def compare() -> None:
        lowered = [word.lower() for word in batch]
        for word, (bar, _) in nearest_yet.items():
            near = [n for n, other in enumerate(lowered) if abs(len(other) - len(word.lower())) < bar]
            distances = edit_distances(word.lower(), [lowered[n] for n in near])
            if near and distances.min() < bar:
                nearest_yet[word] = (int(distances.min()), batch[near[int(distances.argmin())]])
        batch.clear()

    def take(word: str) -> bool:
        # A word that is missing may stand in a line that was skipped.
        if word not in nearest_yet:
            batch.append(word)
        if len(batch) == _BATCH:
            compare()
        return False

    with VectorFile(path, **options) as file:
        for _ in file.blocks(take):
            pass
    compare()
    return {word: f"{found!r}" for word, (_, found) in nearest_yet.items() if found}
