"""A file of word vectors, opened: its format told by its name and first bytes, and one pass over its words.

| format | what such a file is |
|---|---|
| `glove` | text: a word and its D numbers a line, parted by spaces; the word may hold spaces (GloVe 840B) |
| `word2vec` | the same under a header line `V D`; so is fastText's `.vec` |
| `word2vec-binary` | a header line `V D`, then a word, a space and D little-endian float32 a record |
| `npy` | `NAME.npy`, an array [V, D] of floats, and `NAME.vocab.txt` beside it, a word a line |
| `safetensors` | a tensor `vectors` [V, D], and a tensor `words`: uint8, their UTF-8 with a line feed after each |

A safetensors file without `words` has them in `NAME.vocab.txt` as `.npy` does. The first three may be packed by gzip or
xz. All words are UTF-8. No file is held as a whole: memory is some pieces of a mebibyte and what the caller keeps.
"""

import codecs
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypedDict, get_args

import numpy as np

from windownet.data.byte_source import ByteSource, DamagedError, Progress
from windownet.data.vector_arrays import open_npy, open_safetensors
from windownet.data.vector_formats import (
    BinaryRecords,
    Reading,
    Records,
    TextRecords,
    count_numbers,
    shorten,
    text_width,
)
from windownet.errors import InputError
from windownet.schema.choices import VectorFormat

FORMATS: tuple[VectorFormat, ...] = get_args(VectorFormat)

_WIDEST = 65_536
_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_FOREIGN = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "a pointer to it by Git LFS; fetch the file itself, as by `git lfs pull`",
    ),
    (re.compile(rb"\xba\x16\x4f\x2f"), "a model of fastText; take its .vec file"),
    # The length that begins a safetensors file has zeros in the place of the last byte.
    (
        re.compile(rb"\x80[\x02-\x05][^\0]"),
        "a pickle, which can run code and is not read; save the vectors as text or safetensors",
    ),
)


class Block(NamedTuple):
    """Words and their vectors.

    Attributes:
      words: n words.
      matrix: their vectors, float32 [n, D], all finite.
    """

    words: list[str]
    matrix: np.ndarray


@dataclass(frozen=True)
class Counts:
    """What a pass over a file met.

    Attributes:
      lines: lines, records or rows, one a word; a header is none.
      skipped: bad ones that were left out.
      duplicates: wanted words that came again; the first of each counts.
      first_duplicate: the line, record or row of the first of them; 0 where there is none.
      declared: how many words the header said, where that was wrong.
    """

    lines: int
    skipped: int
    duplicates: int
    first_duplicate: int = 0
    declared: int | None = None

    def warning(self) -> str:
        """What a person should hear of it; empty where all is well."""
        parts = []
        if self.skipped:
            parts.append(f"bad lines skipped: {self.skipped:,} of {self.lines:,}")
        if self.duplicates:
            at = f" ({'the first is ' if self.duplicates > 1 else ''}number {self.first_duplicate:,})"
            parts.append(f"lines that name a word again: {self.duplicates:,}{at}; the first of each word counts")
        if self.declared is not None:
            parts.append(f"words by the header: {self.declared:,}; in the file: {self.lines:,}")
        return "; ".join(parts)


class Options(TypedDict, total=False):
    """How a file is read, as the arguments of `VectorFile` say."""

    format: str | None
    skip_bad: bool
    progress: Progress | None


class VectorFile:
    """A file of word vectors, for one pass over it.

    Args:
      path: the file.
      format: one of `FORMATS`; None: told by the name and the first bytes.
      expected_width: the D that the caller needs, if any.
      skip_bad: count bad lines and go on, and let a header give a wrong number of words; else numbers are looked at
        only where their word is wanted. A packed file that breaks off is an error all the same: nobody knows what it
        lacks.
      progress: called now and then with bytes done and bytes in all, packed ones where the file is packed.

    Attributes:
      width: D numbers a word.

    Raises:
      InputError: the file is missing, empty, of no known format or of another width.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        expected_width: int | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> None:
        if format not in (None, *FORMATS):
            raise InputError(f"format: required one of {', '.join(FORMATS)}, got {format!r}")
        self._path, self._progress = Path(path), progress
        self._reading = Reading(self._path, skip_bad)
        self._duplicates = self._first_duplicate = 0
        self._source = ByteSource(self._path, progress)
        self._reading.packed = bool(self._source.packing)
        try:
            self._records = self._open(format)
            self.width = self._records.width
            if expected_width not in (None, self.width):
                raise InputError(
                    f"{path}: required vectors of width {expected_width} (model.word_width), got {self.width}; set "
                    f"model.word_width={self.width} or take another file"
                )
        except BaseException:
            self._source.close()
            raise

    @property
    def counts(self) -> Counts:
        """What the pass has met so far."""
        found = self._reading
        return Counts(found.met, found.skipped, self._duplicates, self._first_duplicate, found.misdeclared)

    def blocks(self, wanted: Callable[[str], bool] | None = None) -> Iterator[Block]:
        """Yields the wanted words with their vectors in the order of the file, each word once; to be called once.

        Args:
          wanted: tells whether a word is wanted; None: all are.

        Raises:
          InputError: the file is bad; names the line or record.
        """
        seen: set[str] = set()
        for chunk in self._records.chunks():
            wanted_ones = [n for n, word in enumerate(chunk.words) if wanted is None or wanted(word)]
            read = list(range(len(chunk.words))) if self._reading.skip_bad else wanted_ones
            if not read:
                continue
            matrix, faults = self._records.parse([chunk.payloads[n] for n in read])
            finite = np.isfinite(matrix).all(axis=1)
            block, rows, chosen = Block([], matrix), [], set(wanted_ones)
            for row, n in enumerate(read):
                word, fault = chunk.words[n], faults.get(row)
                if not finite[row]:
                    fault = f"required finite numbers of float32, got {matrix[row][~np.isfinite(matrix[row])][0]}"
                if fault:
                    self._reading.bad(f"{fault} for {shorten(word.encode())}", chunk.records[n])
                elif n not in chosen:
                    continue
                elif word in seen:
                    self._duplicates += 1
                    self._first_duplicate = self._first_duplicate or chunk.records[n]
                else:
                    seen.add(word)
                    block.words.append(word)
                    rows.append(row)
            yield block if len(rows) == len(matrix) else Block(block.words, matrix[rows])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    def _open(self, format: str | None) -> Records:
        pieces = self._pieces()
        head = next(pieces, b"").removeprefix(_BYTE_ORDER_MARK)
        path, name = self._path, self._path.name.lower()
        suffix = Path(name.removesuffix(".gz").removesuffix(".xz")).suffix
        if not head:
            raise InputError(f"{path}: required word vectors, got a file with nothing in it; fetch or write it again")
        for begin, what in _FOREIGN:
            if begin.match(head):
                raise InputError(f"{path}: required a file of word vectors, got {what}")
        line, _, after = head.partition(b"\n")
        header = _HEADER.fullmatch(line)
        format = format or _detect(head, suffix, header, after)
        if format in ("npy", "safetensors"):
            if self._source.packing:
                raise InputError(
                    f"{path}: required an unpacked {format} file, got a {self._source.packing} one; unpack it"
                )
            self._source.close()
            return (open_npy if format == "npy" else open_safetensors)(path, self._reading, self._progress)
        if format == "glove":
            width = text_width(head, path, 1)
            return TextRecords(itertools.chain([head], pieces), self._reading, width, None)
        if header is None:
            raise InputError(
                f"{path}:1: required a header, the number of words and their width, got {shorten(line)}; name format "
                "glove if the file has none"
            )
        declared, width = int(header[1]), int(header[2])
        if not 1 <= width <= _WIDEST:
            raise InputError(
                f"{path}:1: required a width from 1 to {_WIDEST:,} in the header, got {width:,}; correct the header"
            )
        pieces = itertools.chain([after], pieces)
        if format == "word2vec-binary":
            return BinaryRecords(pieces, self._reading, width, declared)
        if after.strip() and (found := text_width(after, path, 2)) != width:
            raise InputError(
                f"{path}:1: required the width of the lines, {found}, in the header, got {width}; correct the header"
            )
        self._reading.header_lines = 1
        return TextRecords(pieces, self._reading, width, declared)

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self._source.pieces()
        except DamagedError as error:
            raise self._reading.error(f"{error}; fetch it again", self._reading.record + 1) from None


def _detect(head: bytes, suffix: str, header: re.Match[bytes] | None, after: bytes) -> str:
    if head.startswith(b"\x93NUMPY") or suffix == ".npy":
        return "npy"
    # The header of a safetensors file is JSON behind its length; as a number, eight letters are far beyond any length.
    if suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32):
        return "safetensors"
    if header is None:
        return "glove"
    width = min(int(header[2]), _WIDEST)
    if count_numbers(after.partition(b"\n")[0]) == width:
        return "word2vec"
    sample = after.partition(b" ")[2][: 4 * width]
    if suffix == ".bin" or _CONTROL.search(sample):
        return "word2vec-binary"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return "word2vec-binary"
    return "word2vec"
