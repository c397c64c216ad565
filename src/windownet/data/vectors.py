"""Pretrained word vectors: the wanted ones out of a file, into the rows of a vocabulary, and into files.

The formats are those of `windownet.data.vector_file`.

A vocabulary's words are normalized (`Normalization`: case, digits), those of a file are as its makers left them. A row
takes the best vector that the file has for its word, in this order, and of equals the first in the file, which in the
files that people share is the most frequent:

1. exact: the word itself. So vectors of words normalized likewise (`paris`, `0000`) all match.
2. lower: the word in lower case; it finds `paris` for `Paris` where the vocabulary keeps case and the file does not.
3. normalized: a word whose normalization is the word or its lower case; it finds `Paris` for `paris` and `1999` for
   `0000` where the file keeps what the vocabulary does not.
"""

import enum
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Unpack

import numpy as np

from windownet.data.vector_arrays import VECTORS, WORDS
from windownet.data.vector_file import Counts, Options, VectorFile
from windownet.data.vocabulary import RARE, Vocabulary
from windownet.errors import InputError


@dataclass(frozen=True)
class Vectors:
    """Words and their vectors.

    Attributes:
      words: n words in the order of the file, no word twice.
      matrix: their vectors, float32 [n, D].
      counts: what the pass over the file met.
    """

    words: tuple[str, ...]
    matrix: np.ndarray
    counts: Counts


class Match(enum.IntEnum):
    """What of a word a file has, from nothing to the word itself."""

    MISSING = 0
    NORMALIZED = 1
    LOWER = 2
    EXACT = 3


@dataclass(frozen=True)
class Filled:
    """Which rows of a table a file filled.

    Attributes:
      matches: `Match` of each row, uint8 [V]; MISSING for the reserved rows, which have no word.
      counts: what the pass over the file met.
    """

    matches: np.ndarray
    counts: Counts

    def count(self, match: Match) -> int:
        """How many rows matched so."""
        return int((self.matches == match).sum())


def read(
    path: str | Path,
    wanted: Collection[str] | Callable[[str], bool] | None = None,
    *,
    expected_width: int | None = None,
    **options: Unpack[Options],
) -> Vectors:
    """Read the vectors of the wanted words; memory is theirs and some mebibytes, however large the file.

    Args:
      path: the file.
      wanted: the words, or what tells whether a word is one; None: all.
      expected_width: the D that is needed, if any.
      options: format, skip_bad and progress, as `VectorFile` has them.

    Raises:
      InputError: the file is bad; names the line or record.
    """
    accepts = wanted if wanted is None or callable(wanted) else frozenset(wanted).__contains__
    with VectorFile(path, expected_width=expected_width, **options) as file:
        words: list[str] = []
        matrix = np.empty((0, file.width), np.float32)
        for block in file.blocks(accepts):
            begin = len(words)
            words += block.words
            if len(words) > len(matrix):
                # Grown in place, all vectors of a file are never in memory twice.
                matrix.resize((max(len(words), len(matrix) * 5 // 4), file.width), refcheck=False)
            matrix[begin : len(words)] = block.matrix
        matrix.resize((len(words), file.width), refcheck=False)
        return Vectors(tuple(words), matrix, file.counts)


def fill(
    table: np.ndarray,
    vocabulary: Vocabulary,
    path: str | Path,
    **options: Unpack[Options],
) -> Filled:
    """Put the file's vectors into the rows of the words that it has; other rows stay as they are.

    Args:
      table: floats [V, D], changed in place; half filled where an error is raised.
      vocabulary: the V words.
      path: the file.
      options: format, skip_bad and progress, as `VectorFile` has them.

    Raises:
      InputError: the file is bad or its vectors are not D wide.
      ValueError: the table has not a row a word.
    """
    if len(table) != len(vocabulary):
        raise ValueError(f"fill: required a row for each of the {len(vocabulary)} words, got {len(table)}")
    rows = {word: row for row, word in enumerate(vocabulary.words) if row > RARE}
    normalization = vocabulary.normalization
    # Words of a vocabulary that keeps case may share a lower case. What stands for a number is no word that has one.
    rows_of_lower: dict[str, list[int]] = {}
    for word, row in rows.items():
        if word.lower() != word != normalization("0"):
            rows_of_lower.setdefault(word.lower(), []).append(row)
    matches = np.zeros(len(table), np.uint8)

    def candidates(word: str) -> Iterator[tuple[int, Match]]:
        if word in rows:
            yield rows[word], Match.EXACT
        for row in rows_of_lower.get(word, ()):
            yield row, Match.LOWER
        normalized = normalization(word)
        if normalized != word:
            if normalized in rows:
                yield rows[normalized], Match.NORMALIZED
            for row in rows_of_lower.get(normalized, ()):
                yield row, Match.NORMALIZED

    with VectorFile(path, expected_width=table.shape[1], **options) as file:
        for block in file.blocks(lambda word: any(candidates(word))):
            for word, vector in zip(block.words, block.matrix, strict=True):
                for row, match in candidates(word):
                    if match > matches[row]:
                        table[row], matches[row] = vector, match
        return Filled(matches, file.counts)


def extend(
    vocabulary: Vocabulary,
    path: str | Path,
    max_words: int,
    *,
    expected_width: int | None = None,
    **options: Unpack[Options],
) -> Vocabulary:
    """The vocabulary and behind it, normalized, up to `max_words` words that only the file has, the first ones in it.

    Words of the vocabulary keep their rows. A new row's word has a vector in the file, which `fill` finds. The file is
    read only as far as needed.

    Raises:
      InputError: the file is bad.
    """
    known = set(vocabulary.words)
    new: list[str] = []
    normalization = vocabulary.normalization

    def is_new(word: str) -> bool:
        word = normalization(word)
        # The file of a vocabulary has a word a line.
        return word not in known and "\n" not in word

    with VectorFile(path, expected_width=expected_width, **options) as file:
        for block in file.blocks(is_new):
            for word in map(normalization, block.words):
                if word not in known and len(new) < max_words:
                    known.add(word)
                    new.append(word)
            if len(new) == max_words:
                break
    return Vocabulary([*vocabulary.words, *new], normalization)


def write_word2vec_text(path: str | Path, words: Sequence[str], matrix: np.ndarray) -> None:
    """Write word2vec text, header and all; a number of 9 digits reads back as the same float32.

    Args:
      path: the file; one that is there is replaced when the new one is whole.
      words: V words, no word twice.
      matrix: finite floats [V, D].

    Raises:
      InputError: a word cannot stand in such a file: it is empty or holds a blank.
      ValueError: not a row a word, or a word twice, or a number that is not finite.
      OSError: the disk is full or not writable; what was at `path` before is untouched.
    """
    matrix = _checked(words, matrix)
    for word in words:
        if not word or any(blank in word for blank in " \t\n\v\f\r"):
            raise InputError(f"{path}: required words without blanks in word2vec text, got {word!r}; write safetensors")
    numbers = " %.9g" * matrix.shape[1] + "\n"
    with _replacing(Path(path)) as file:
        file.write(b"%d %d\n" % matrix.shape)
        for word, row in zip(words, matrix, strict=True):
            file.write(f"{word}{numbers % tuple(row.tolist())}".encode())


def write_safetensors(path: str | Path, words: Sequence[str], matrix: np.ndarray) -> None:
    """Write tensors `vectors`, float32 [V, D], and `words`, uint8: UTF-8 with a line feed after each word.

    Args, raises: as `write_word2vec_text`; a word may hold any sign but a line feed.
    """
    matrix = _checked(words, matrix)
    for word in words:
        if not word or "\n" in word:
            raise InputError(f"{path}: required words of one line, got {word!r}; leave the word out")
    text = "".join(f"{word}\n" for word in words).encode()
    end = matrix.nbytes + len(text)
    header = {
        VECTORS: {"dtype": "F32", "shape": matrix.shape, "data_offsets": (0, matrix.nbytes)},
        WORDS: {"dtype": "U8", "shape": (len(text),), "data_offsets": (matrix.nbytes, end)},
    }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    # The library's own writer copies the vectors first.
    with _replacing(Path(path)) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.write(matrix.data)
        file.write(text)


def _checked(words: Sequence[str], matrix: np.ndarray) -> np.ndarray:
    if matrix.ndim != 2 or not 0 < len(words) == len(matrix) == len(set(words)):
        raise ValueError(
            f"required words that differ, one for each row of an array [V, D], got {len(words)} words, of which "
            f"{len(set(words))} differ, for {list(matrix.shape)}"
        )
    matrix = np.ascontiguousarray(matrix, "<f4")
    if not np.isfinite(matrix).all():
        raise ValueError("required vectors of finite numbers, got some that are not")
    return matrix


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            yield file
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
