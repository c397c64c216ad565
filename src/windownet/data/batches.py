"""Sentences encoded once, and the fixed-shape batches of windows that are cut from them.

Axes: B windows in a batch, W window width 2C+1, U word rows that a batch may touch, K batches in a call, T tokens,
S sentences.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from windownet.data.features import capitalization
from windownet.data.vocabulary import PADDING, RARE, Vocabulary


class Batch(NamedTuple):
    """Windows as the network takes them, on the host or on a device; a stack of batches has a leading axis K.

    Attributes:
      rows: int32 [U], the rows of the word table that occur, each once; padded with V, the row that does not exist.
      words: int32 [B, W], positions in `rows`.
      capitals: int32 [B, W], capitalization classes.
      tags: int32 [B], numbers of the middle words' tags.
      mask: bool [B], False where a window only fills the batch up.
    """

    rows: Any
    words: Any
    capitals: Any
    tags: Any
    mask: Any


class Encoded(NamedTuple):
    """A data set as flat arrays, with C words of padding around every sentence.

    Attributes:
      words: int32 [N], rows of the word table.
      capitals: int32 [N], capitalization classes.
      tags: int32 [T], tag numbers of the words, without the padding; zeros where the sentences bear none.
      positions: int64 [T], where each word stands in the arrays of N.
      offsets: int64 [S + 1], sentence s has words offsets[s] .. offsets[s + 1] - 1 of T.
    """

    words: np.ndarray
    capitals: np.ndarray
    tags: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray


def encode(
    sentences: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    radius: int,
    tags: Iterable[Sequence[int]] = (),
) -> Encoded:
    """Encode S sentences for windows of `radius` C words on each side."""
    lengths = np.array([len(words) for words in sentences], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Neighbouring sentences share the padding between them.
    positions = np.arange(offsets[-1]) + radius * (1 + np.repeat(np.arange(len(sentences)), lengths))
    flat = [word for words in sentences for word in words]
    length = offsets[-1] + radius * (len(sentences) + 1)
    words, capitals = np.full(length, PADDING, np.int32), np.zeros(length, np.int32)
    words[positions] = vocabulary.encode(flat)
    capitals[positions] = capitalization(flat)
    numbers = np.fromiter((tag for sentence in tags for tag in sentence), np.int32)
    return Encoded(words, capitals, numbers if numbers.size else np.zeros(len(flat), np.int32), positions, offsets)


def distinct(ids: np.ndarray, scratch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ones of some ids, int32 [U], and where each id stands among them, int32 of `ids`' shape.

    Args:
      ids: row numbers below V, of any shape.
      scratch: int32 [V], of anything; changed.
    """
    # Each id's last occurrence speaks for it: linear, where np.unique sorts, and without a pass over V rows.
    flat = ids.reshape(-1)
    occurrence = np.arange(flat.size, dtype=np.int32)
    scratch[flat] = occurrence
    touched = flat[np.take(scratch, flat, mode="clip") == occurrence]
    scratch[touched] = np.arange(touched.size, dtype=np.int32)
    # `take` with `clip` checks no index: a third of the time for some thousand ids.
    return touched, np.take(scratch, ids, mode="clip")


class Windows:
    """Cuts batches of B windows out of an encoded data set; every one has the same shapes."""

    def __init__(self, encoded: Encoded, vocabulary_size: int, window: int, batch_size: int) -> None:
        self.encoded = encoded
        self.batch_size = batch_size
        self._around = np.arange(window) - window // 2
        self._padding_row = vocabulary_size
        # Whole sentences are cut only at a batch's two ends, so beside its B middle words a batch can touch just
        # the context beyond those ends and the padding row.
        self._slots = min(batch_size + window, vocabulary_size)
        self._slot_of_row = np.zeros(vocabulary_size, np.int32)

    def batch(self, tokens: np.ndarray, words: np.ndarray | None = None) -> Batch:
        """The windows around at most B tokens that follow each other in their sentences, int64 [<= B].

        `words`, int32 [N], stand in for the data set's own.
        """
        return Batch(*(array[0] for array in self.stack([tokens], words)))

    def stack(self, parts: Sequence[np.ndarray], words: np.ndarray | None = None) -> Batch:
        """The batches of K parts of the data set, each as `batch` takes it; every array has a leading axis K."""
        # All batches at once, but for their rows: one by one, numpy's calls take as long as what they do.
        tokens = np.zeros((len(parts), self.batch_size), np.int64)
        mask = np.zeros(tokens.shape, bool)
        for part, its_tokens, its_mask in zip(parts, tokens, mask, strict=True):
            its_tokens[: len(part)], its_mask[: len(part)] = part, True
        places = np.where(mask, self.encoded.positions[tokens], 0)[..., None] + self._around * mask[..., None]
        ids = np.take(self.encoded.words if words is None else words, places)
        rows = np.full((len(parts), self._slots), self._padding_row, np.int32)
        slots = np.empty_like(ids)
        for n, its_ids in enumerate(ids):
            touched, slots[n] = distinct(its_ids, self._slot_of_row)
            rows[n, : touched.size] = touched
        tags = np.where(mask, self.encoded.tags[tokens], np.int32(0))
        return Batch(rows, slots, np.take(self.encoded.capitals, places), tags, mask)

    def in_order(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Every token once, in order, with its batch."""
        for start in range(0, len(self.encoded.positions), self.batch_size):
            tokens = np.arange(start, min(start + self.batch_size, len(self.encoded.positions)))
            yield tokens, self.batch(tokens)


class Epochs:
    """Shuffled batches of the training data: a function of seed and epoch alone, in stacks of K.

    The windows are spread evenly over the steps, so that every stack has K batches and none is empty (where B is 1, a
    few may be); that makes at most one step more for each call than the data would fill. With `word_dropout`, that
    share of the words is the rare one in all of an epoch's windows; several are of one epoch each.
    """

    def __init__(
        self, windows: Windows, steps_per_call: int, seed: int, word_dropout: float | Sequence[float] = 0.0
    ) -> None:
        full = -(-len(windows.encoded.positions) // windows.batch_size)
        self.calls = -(-full // steps_per_call)
        self.steps_per_call = -(-full // self.calls)
        self.steps = self.calls * self.steps_per_call
        self._windows = windows
        self._seed = seed
        self._word_dropout = word_dropout

    def seeded(self, seed: int) -> "Epochs":
        """The same windows in another order."""
        return Epochs(self._windows, self.steps_per_call, seed, self._word_dropout)

    def dropping(self, word_dropout: float | Sequence[float]) -> "Epochs":
        """The same order with another share of words dropped."""
        return Epochs(self._windows, self.steps_per_call, self._seed, word_dropout)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The stacks of one epoch, from number `first` on: every array with a leading axis K."""
        order = self._order(epoch)
        bounds = self._bounds(len(order))
        words = self._words(epoch)
        for call in range(first, self.calls):
            steps = range(call * self.steps_per_call, (call + 1) * self.steps_per_call)
            yield self._windows.stack([order[bounds[step] : bounds[step + 1]] for step in steps], words)

    def sentences(self, epoch: int, step: int) -> list[int]:
        """Which sentences, by number, the windows of one step of one epoch came from."""
        order = self._order(epoch)
        bounds = self._bounds(len(order))
        tokens = order[bounds[step] : bounds[step + 1]]
        found = np.searchsorted(self._windows.encoded.offsets, tokens, side="right") - 1
        return [int(sentence) for sentence in dict.fromkeys(found.tolist())]

    def _words(self, epoch: int) -> np.ndarray | None:
        share = self._word_dropout if isinstance(self._word_dropout, float) else self._word_dropout[epoch - 1]
        if not share:
            return None
        encoded = self._windows.encoded
        words = encoded.words.copy()
        dropped = np.random.default_rng([self._seed, epoch, 1]).random(len(encoded.positions)) < share
        words[encoded.positions[dropped]] = RARE
        return words

    def _bounds(self, tokens: int) -> list[int]:
        return [step * tokens // self.steps for step in range(self.steps + 1)]

    def _order(self, epoch: int) -> np.ndarray:
        offsets = self._windows.encoded.offsets
        shuffled = np.random.default_rng([self._seed, epoch]).permutation(len(offsets) - 1)
        lengths = np.diff(offsets)[shuffled]
        starts = np.repeat(offsets[shuffled] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        return np.asarray(starts + np.arange(offsets[-1]))
