"""The blocks of a run: the text thinned out, cut into T words, in stacks of K.

What comes is a function of text, settings and seed alone, so a run that is resumed gets what it would have got.

Axes: T words of a block, C words of context on each side, K blocks of a stack, U rows, V words.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from windownet.data.batches import distinct
from windownet.pretrain.block import Block
from windownet.pretrain.text import Text

_SEGMENT = 1 << 20
# U is rounded up to this share of T, for each U is compiled for itself.
_STEPS_OF_ROWS = 4


class Stack(NamedTuple):
    """K blocks.

    Attributes:
      blocks: arrays with a leading axis K.
      words: how many words the blocks hold.
      share: how much of the run's training is done when they are, from 0 to 1.
    """

    blocks: Block
    words: int
    share: float


def keep_probabilities(counts: np.ndarray, subsample: float) -> np.ndarray:
    """With which probability an occurrence of each word stays in the text.

    Mikolov et al. (2013, "Distributed Representations of Words and Phrases and their Compositionality", section 2.3)
    state sqrt(s/f) for a word of share f; their program, which all others follow, keeps sqrt(s/f) + s/f, and so does
    this.

    Args:
      counts: integers [V], all above 0.
      subsample: s; 0 for 1 everywhere.

    Returns:
      float32 [V].
    """
    if not subsample:
        return np.ones(len(counts), np.float32)
    ratio = subsample / (counts / counts.sum())
    kept: np.ndarray = np.minimum(np.sqrt(ratio) + ratio, 1).astype(np.float32)
    return kept


class Stream:
    """The stacks of a run."""

    def __init__(
        self, text: Text, *, radius: int, block: int, steps: int, epochs: int, subsample: float, seed: int
    ) -> None:
        self._numbers = text.numbers
        self._size = len(text.words)
        self._keep = keep_probabilities(text.counts, subsample)
        # Line ends stay, as does the word that no word is.
        self._keep_all = np.append(self._keep, np.float32(1))
        self._counts = text.counts
        self._radius, self._block, self._steps = radius, block, steps
        self._epochs, self._seed = epochs, seed
        self._slot_of_row = np.zeros(self._size, np.int32)

    @property
    def expected_blocks(self) -> int:
        """How many blocks a run is expected to have; what comes differs by chance, some in ten thousand."""
        return max(1, round(self.expected_words / self._block))

    @property
    def expected_words(self) -> float:
        """How many words a run is expected to train."""
        return float((self._counts * self._keep.astype(np.float64)).sum()) * self._epochs

    @property
    def left(self) -> float:
        """What share of the words sub-sampling is expected to leave."""
        return self.expected_words / self._epochs / float(self._counts.sum())

    def share(self, words: float) -> float:
        """How much of a run's training is done after so many words, from 0 to 1."""
        return min(1.0, words / self.expected_words)

    def stacks(self, skip: int = 0) -> Iterator[Stack]:
        """The stacks after the first `skip`, which are read past."""
        size = self._block * self._steps
        radius = self._radius
        words = np.zeros(radius, np.int32)
        lines = np.full(radius, -1, np.int32)
        number = 0
        for more_words, more_lines in self._thinned():
            words, lines = np.concatenate([words, more_words]), np.concatenate([lines, more_lines])
            while len(words) >= size + 2 * radius:
                if number >= skip:
                    yield self._stack(words, lines, size, self.share((number + 1) * size))
                number += 1
                words, lines = words[size:], lines[size:]
        left = len(words) - radius
        if left > 0 and number >= skip:
            room = size + 2 * radius - len(words)
            words = np.concatenate([words, np.zeros(room, np.int32)])
            yield self._stack(words, np.concatenate([lines, np.full(room, -1, np.int32)]), left, 1.0)

    def _thinned(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        line = 0
        for epoch in range(self._epochs):
            for segment, start in enumerate(range(0, len(self._numbers), _SEGMENT)):
                numbers = self._numbers[start : start + _SEGMENT]
                is_end = numbers == self._size
                lines = line + np.cumsum(is_end, dtype=np.int32)
                line = int(lines[-1])
                chance = np.random.default_rng([self._seed, epoch, segment]).random(len(numbers), np.float32)
                stays = (chance < self._keep_all[numbers]) & ~is_end
                yield numbers[stays], lines[stays]

    def _stack(self, words: np.ndarray, lines: np.ndarray, count: int, share: float) -> Stack:
        span = self._block + 2 * self._radius
        starts = range(0, self._block * self._steps, self._block)
        found = [distinct(words[start : start + span], self._slot_of_row) for start in starts]
        unit = max(1, self._block // _STEPS_OF_ROWS)
        height = -(-max(len(rows) for rows, _ in found) // unit) * unit
        rows = np.full((self._steps, height), self._size, np.int32)
        for n, (touched, _) in enumerate(found):
            rows[n, : len(touched)] = touched
        blocks = Block(rows, np.stack([slots for _, slots in found]), np.stack([lines[s : s + span] for s in starts]))
        return Stack(blocks, count, share)
