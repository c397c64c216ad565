"""Word vectors in text and in word2vec's binary: words first, numbers only where somebody asks for them."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from windownet.errors import InputError

# What a person is told of the option, which has one name for a verb and one in a config.
SKIP = "skip bad lines (--skip-bad-lines, or words.skip_bad_lines=true in a config)"
_LONGEST_WORD = 1 << 16
_LONGEST_LINE = 1 << 22
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
# numpy takes any of these between two numbers, so lines that have them are parsed one by one.
_ODD_BLANKS = (b"  ", b"\t", b"\r", b"\v", b"\f")


@dataclass
class Reading:
    """What one pass over a file has met.

    Attributes:
      path: the file.
      unit: what messages put between the path and the number of a record.
      skip_bad: count bad records and go on.
      packed: whether the file is packed, so that damage may look like a bad line.
      header_lines: lines before the first record.
      met: records met so far, the bad ones too.
      skipped: bad ones among them.
      first_bad: message of the first bad one.
      misdeclared: how many records a header declared, where there were more or fewer.
    """

    path: Path
    skip_bad: bool
    packed: bool = False
    unit: str = ""
    header_lines: int = 0
    met: int = 0
    skipped: int = 0
    first_bad: str = ""
    misdeclared: int | None = None

    @property
    def record(self) -> int:
        """Number of the record met last, from 1; of its line where the file is text."""
        return self.met + self.header_lines

    def error(self, message: str, record: int) -> InputError:
        """The error of a record."""
        return InputError(f"{self.path}:{self.unit}{record}: {message}")

    def bad(self, message: str, record: int, cure: str = "") -> None:
        """Count a bad record.

        Args:
          message: what was required and what came.
          record: its number.
          cure: what to do about it, where that is not to correct it.

        Raises:
          InputError: bad records are not to be skipped.
        """
        cure = cure or ("correct it, or fetch the packed file again" if self.packed else "correct it")
        error = self.error(f"{message}; {cure}, or {SKIP}", record)
        if not self.skip_bad:
            raise error
        self.skipped += 1
        self.first_bad = self.first_bad or str(self.error(f"{message}; {cure}", record))

    def decode(self, word: bytes) -> str | None:
        """The word of the record met last; None, and the record is bad, where it is empty or not UTF-8."""
        try:
            text = word.decode()
        except UnicodeDecodeError as error:
            self.bad(f"required a word in UTF-8, got byte 0x{word[error.start]:02x} in {shorten(word)}", self.record)
            return None
        if not text:
            self.bad("required a word before the numbers, got none", self.record)
            return None
        return text

    def end(self, declared: int | None = None) -> None:
        """Hold what was met against the number of records that a header declared.

        Raises:
          InputError: they differ, and bad lines are not to be skipped; or there was no good record.
        """
        if declared not in (None, self.met):
            self.misdeclared = declared
        if self.misdeclared is not None and not self.skip_bad:
            raise InputError(
                f"{self.path}:1: required as many words as the header says, {declared:,}, got {self.met:,}; fetch the "
                f"file again, or correct the header, or {SKIP}"
            )
        if self.met == self.skipped:
            came = f"{self.met:,} bad ones, the first {self.first_bad}" if self.met else "none; fetch or write it again"
            raise InputError(f"{self.path}: required at least one word vector, got {came}")


class Chunk(NamedTuple):
    """Some records, n of them, whose numbers are still as the file has them.

    Attributes:
      words: their words.
      payloads: their numbers, for `parse`.
      records: where they stand in the file, as messages say it.
    """

    words: list[str]
    payloads: list[Any]
    records: list[int]


class Records(Protocol):
    """The records of one file.

    Attributes:
      width: D numbers a word.
    """

    width: int

    def chunks(self) -> Iterator[Chunk]:
        """Yields all good records in order.

        Raises:
          InputError: a record or the whole is not as it must be.
        """

    def parse(self, payloads: Sequence[Any]) -> tuple[np.ndarray, dict[int, str]]:
        """The numbers, float32 [n, D], of n payloads, and by their row what is wrong with those that have none."""


class TextRecords:
    """A word and D numbers a line, parted by blanks; the word may hold some itself."""

    def __init__(self, pieces: Iterable[bytes], reading: Reading, width: int, declared: int | None) -> None:
        """Take the bytes after the header; `declared` words by what that says, if there is one."""
        self.width = width
        self._pieces, self._reading, self._declared = pieces, reading, declared
        self._blank = 0

    def chunks(self) -> Iterator[Chunk]:
        """Yields a chunk for every piece of the file."""
        rest = b""
        for piece in self._pieces:
            data = rest + piece
            end = data.rfind(b"\n") + 1
            if not end and len(data) > _LONGEST_LINE:
                cure = (
                    "convert its line ends, which are carriage returns" if b"\r" in data else "name the file's format"
                )
                raise self._reading.error(
                    f"required a line of at most {_LONGEST_LINE:,} bytes, got a longer one; {cure}",
                    self._reading.record + 1,
                )
            rest = data[end:]
            if end:
                yield self._chunk(data[: end - 1].split(b"\n"))
        if rest:
            yield self._chunk([rest])
        self._reading.end(self._declared)

    def _chunk(self, lines: list[bytes]) -> Chunk:
        chunk = Chunk([], [], [])
        reading, width = self._reading, self.width
        for line in lines:
            # fastText and word2vec leave a blank at the end.
            line = line.rstrip()
            if not line:
                # At the end of the file they are nothing; which it is, the next line that is not blank tells.
                self._blank += 1
                continue
            for _ in range(self._blank):
                reading.met += 1
                reading.bad(self._fault([], b""), reading.record)
            self._blank = 0
            reading.met += 1
            if b"\r" in line:
                reading.bad(
                    f"required lines that end in a line feed, got a carriage return inside of one ({shorten(line)})",
                    reading.record,
                    "convert the line ends of the file",
                )
                continue
            if line.count(b" ") == width:
                word, _, payload = line.partition(b" ")
            else:
                parts = line.rsplit(None, width)
                if wrong := self._fault(parts, line):
                    reading.bad(wrong, reading.record)
                    continue
                word, payload = parts[0], b" ".join(parts[1:])
            text = reading.decode(word)
            if text is not None:
                chunk.words.append(text)
                chunk.payloads.append(payload)
                chunk.records.append(reading.record)
        return chunk

    def _fault(self, parts: list[bytes], line: bytes) -> str:
        required = f"required a word and {self.width} numbers"
        if len(parts) <= self.width or line[:1].isspace():
            came = count_numbers(line) if line[:1].strip() else "no word"
            return f"{required}, got {came} ({shorten(line)})"
        # A word may end in a number, but a line with a number too many is by far the likelier.
        if _NUMBER.fullmatch(parts[0].split()[-1]) and len(parts[0].split()) > 1:
            return f"{required}, got {count_numbers(line)} ({shorten(line)})"
        return ""

    def parse(self, payloads: Sequence[bytes]) -> tuple[np.ndarray, dict[int, str]]:
        """As the protocol says."""
        joined = b" ".join(payloads)
        numbers = None if any(blank in joined for blank in _ODD_BLANKS) else _parse(joined, len(payloads) * self.width)
        if numbers is not None:
            return numbers.reshape(-1, self.width), {}
        matrix, faults = np.zeros((len(payloads), self.width), np.float32), {}
        for n, payload in enumerate(payloads):
            fields = payload.split()
            row = _parse(b" ".join(fields), self.width)
            if row is not None:
                matrix[n] = row
            elif len(fields) != self.width:
                faults[n] = f"required {self.width} numbers, got {len(fields)}"
            else:
                wrong = [text for text in fields if not (_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text))]
                faults[n] = f"required a number, got {shorten((wrong or fields)[0])}"
        return matrix, faults


class BinaryRecords:
    """A word, a space and D little-endian float32 a record, with or without a line feed between two records."""

    def __init__(self, pieces: Iterable[bytes], reading: Reading, width: int, declared: int) -> None:
        """Take the bytes after the header; `declared` words by what that says."""
        self.width = width
        self._pieces, self._reading, self._declared = pieces, reading, declared
        reading.unit = " record "

    def chunks(self) -> Iterator[Chunk]:
        """Yields a chunk for every piece of the file."""
        reading, size = self._reading, 4 * self.width
        data, begin = b"", 0
        for piece in self._pieces:
            data, begin = data[begin:] + piece, 0
            chunk = Chunk([], [], [])
            while (space := data.find(b" ", begin, begin + _LONGEST_WORD)) >= 0 and space + size < len(data):
                reading.met += 1
                word = reading.decode(data[begin:space].lstrip(b"\n"))
                begin = space + 1 + size
                if word is not None:
                    chunk.words.append(word)
                    chunk.payloads.append(data[space + 1 : begin])
                    chunk.records.append(reading.record)
            if space < 0 and len(data) - begin >= _LONGEST_WORD:
                raise reading.error(
                    f"required a word of less than {_LONGEST_WORD:,} bytes and a space, got no space; name the "
                    "file's format",
                    reading.record + 1,
                )
            yield chunk
        if rest := data[begin:].lstrip(b"\n"):
            reading.met += 1
            came = max(0, len(rest) - 1 - rest.find(b" ")) if b" " in rest else 0
            reading.bad(
                f"required a word, a space and {size:,} bytes of numbers, got the end of the file after {came:,} of "
                "them",
                reading.record,
                "fetch the file again",
            )
        reading.end(self._declared)

    def parse(self, payloads: Sequence[bytes]) -> tuple[np.ndarray, dict[int, str]]:
        """As the protocol says."""
        return np.frombuffer(b"".join(payloads), "<f4").reshape(-1, self.width), {}


def text_width(data: bytes, path: Path, line: int) -> int:
    """The D of a text file: how many numbers most of its first lines end in.

    Args:
      data: the first bytes of the file, after any header.
      path: the file.
      line: number of the first line of `data`.

    Raises:
      InputError: there is no number at the end of any.
    """
    lines = data.split(b"\n", 101)
    counts = Counter(count_numbers(text) for text in (lines[:-1] or lines)[:100])
    del counts[0]
    if not counts:
        raise InputError(
            f"{path}:{line}: required a word and its numbers parted by spaces, got {shorten(lines[0])}; take a file of "
            "word vectors, or name its format"
        )
    return counts.most_common(1)[0][0]


def count_numbers(line: bytes) -> int:
    """How many numbers stand at the end of a line, after its first field."""
    count = 0
    for text in reversed(line.split()[1:]):
        if not (_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
            break
        count += 1
    return count


def shorten(data: bytes) -> str:
    """Bytes as a message shows them."""
    text = data[:200].decode(errors="backslashreplace")
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _parse(data: bytes, count: int) -> np.ndarray | None:
    with warnings.catch_warnings():
        # Where numpy 2.4 raises at text that is no number, 2.0 only warns.
        warnings.simplefilter("error")
        try:
            numbers: np.ndarray = np.fromstring(data, np.float32, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    return numbers if len(numbers) == count else None
