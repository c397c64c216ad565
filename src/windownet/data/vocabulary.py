"""Words to row numbers of the word table."""

import collections
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

PADDING, RARE = 0, 1
_RESERVED = ("<padding>", "<rare>")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"[+-]?\d[\d.,:/-]*")
# A stream of text has no end of new words; the memory of them must have one.
_REMEMBERED = 1_000_000


@dataclass(frozen=True, slots=True)
class Normalization:
    """How a word is rewritten before it is looked up.

    Attributes:
      case: "lower" or "keep".
      digits: "keep"; "zero", each digit becomes 0; "number", a word of digits and their punctuation becomes NUMBER
        (Collobert et al. 2011, section 6).
    """

    case: str
    digits: str

    def __call__(self, word: str) -> str:
        """The word as it is looked up."""
        if self.digits == "number" and _NUMBER.fullmatch(word):
            return "NUMBER"
        if self.case == "lower":
            word = word.lower()
        return _DIGIT.sub("0", word) if self.digits == "zero" else word


class Vocabulary:
    """The words that have a row of their own, by row; row 0 is padding, row 1 any other word."""

    def __init__(self, words: Sequence[str], normalization: Normalization) -> None:
        """Make one of all its words in the order of their rows, the two reserved ones first.

        Raises:
          ValueError: the reserved ones are not first, or a word occurs twice.
        """
        if tuple(words[:2]) != _RESERVED or len(set(words)) != len(words):
            raise ValueError(f"a vocabulary must begin with {', '.join(_RESERVED)} and name no word twice")
        self.words = tuple(words)
        self.normalization = normalization
        # A text may well hold the word <padding>; it is a word like any other.
        self._rows = {word: row for row, word in enumerate(words) if row > RARE}
        # What a word as written leads to; words repeat, so most look-ups end here.
        self._known: dict[str, int] = {}

    @classmethod
    def build(
        cls, sentences: Iterable[Sequence[str]], normalization: Normalization, min_count: int = 1
    ) -> "Vocabulary":
        """Collect the words seen at least `min_count` times, most frequent first, ties in the order of letters."""
        counts = collections.Counter(word for words in sentences for word in words)
        normalized: collections.Counter[str] = collections.Counter()
        for word, count in counts.items():
            normalized[normalization(word)] += count
        # The file of a vocabulary has a word a line, so a word of two lines, as a table may hold, can have no row.
        kept = [
            word
            for word, count in normalized.items()
            if count >= min_count and word not in _RESERVED and "\n" not in word
        ]
        return cls([*_RESERVED, *sorted(kept, key=lambda word: (-normalized[word], word))], normalization)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """Row numbers, int32 [T], of T words."""
        known = self._known
        if len(known) >= _REMEMBERED:
            known.clear()
        for word in words:
            if word not in known:
                known[word] = self._row(self.normalization(word))
        return np.fromiter((known[word] for word in words), np.int32, len(words))

    def _row(self, word: str) -> int:
        # A vocabulary that keeps case may still know a word in lower case alone, as files of vectors often do. What
        # stands for a number is no word that has a lower case.
        if word in self._rows or self.normalization.case == "lower" or word == self.normalization("0"):
            return self._rows.get(word, RARE)
        return self._rows.get(word.lower(), RARE)
