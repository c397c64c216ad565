"""Raw text to word numbers, once: read, cut into words, counted and kept as a file of integers.

A text's words are those of `windownet.data.tokens`, normalized as a tagger's. What stands between two blanks is cut
into words once and remembered, so a word of the text costs one look-up. Where the tokenizer looks past a blank, behind
an initial or "No.", what stands on both its sides is taken together.

The vocabulary is known only at the end, therefore the words are first written by the order in which they occur, then
rewritten by how frequent they are.
"""

import array
import contextlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from windownet import checkpoint
from windownet.data import tokens
from windownet.data.byte_source import ByteSource, DamagedError
from windownet.data.prefetch import prefetch
from windownet.data.vector_formats import shorten
from windownet.data.vocabulary import Normalization
from windownet.errors import InputError

Pieces = Iterable[tuple[str, bytes]]

# A long text has no end of new chunks; the memory of them must have one. The memory of words is that of the text's.
_REMEMBERED = 4_000_000
_PIECE = 1 << 24
_NUMBERS, _WORDS, _SUMMARY = "numbers.int32", "words.txt", "text.json"
# Stands for the end of a line; blanks must be around it, and a text has none of its own.
_LINE_END = b" \0 "
# The blank behind what may be an initial or "No.": too many only cost memory. What is put into its place is a blank to
# the tokenizer, but none to bytes.split.
_LOOKED_PAST = re.compile(
    rb"\.(?:(?<=[A-Z\x80-\xff]\.)(?<![A-Za-z0-9_][A-Z]\.)[ \t\r\v\f]+(?=[A-Z\x80-\xff])"
    rb"|(?<=[Nn][Oo]\.)[ \t\r\v\f]+(?=[0-9\x80-\xff]))"
)
_JOINED = b".\x1f"
# What bytes.split parts at.
_BLANKS = (b"\n", b" ", b"\t", b"\r", b"\v", b"\f")


@dataclass(frozen=True)
class Text:
    """A text as numbers.

    Attributes:
      words: V words, most frequent first, of equals in the order of letters.
      counts: int64 [V], how often each occurs.
      numbers: int32 [n], the text: words 0..V-1, V at the end of each line. Rare words are left out.
      all_words: words of the text, the rare ones too.
    """

    words: tuple[str, ...]
    counts: np.ndarray
    numbers: np.ndarray
    all_words: int


def encode(
    pieces: Pieces,
    folder: Path,
    normalization: Normalization,
    *,
    min_count: int,
    max_words: int = 0,
) -> Text:
    """Encode a text into `folder`, which `load` reads.

    Args:
      pieces: names of files and pieces of them, cut at line ends or blanks.
      folder: made if it is not there.
      normalization: how words are rewritten.
      min_count: words seen less often are left out.
      max_words: how many words are kept at most; 0: all.

    Raises:
      InputError: the text is not UTF-8 or has a NUL, or fewer than two of its words are frequent enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SUMMARY).unlink(missing_ok=True)
    first = folder / f"{_NUMBERS}.first"
    encoder = _Encoder(normalization)
    lines = _Lines()
    names: dict[str, None] = {}
    with first.open("wb") as file:
        for name, piece in pieces:
            names[name] = None
            try:
                file.write(encoder(piece).data)
            except UnicodeDecodeError:
                raise lines.not_utf8(name, piece) from None
            if b"\0" in piece:
                raise lines.with_a_nul(name, piece)
            lines.note(name, piece)
    found = np.memmap(first, np.int32, "r") if first.stat().st_size else np.zeros(0, np.int32)
    counts = np.zeros(len(encoder.words), np.int64)
    for part in _parts(found):
        counts += np.bincount(part, minlength=len(counts))
    counts[_Encoder.END] = 0
    order, words = _vocabulary(list(encoder.words), counts, min_count, max_words, ", ".join(names))
    number = np.full(len(counts), -1, np.int32)
    number[order] = np.arange(len(order))
    number[_Encoder.END] = len(order)
    length = 0
    with (folder / _NUMBERS).open("wb") as file:
        for part in _parts(found):
            rewritten = number[part]
            kept = rewritten[rewritten >= 0]
            file.write(kept.data)
            length += len(kept)
    del found
    first.unlink()
    (folder / _WORDS).write_text("".join(f"{word}\n" for word in words), encoding="utf-8", newline="\n")
    summary = {"all_words": int(counts.sum()), "length": length, "counts": counts[order].tolist()}
    fresh = folder / f".{_SUMMARY}.new"
    fresh.write_text(json.dumps(summary), encoding="utf-8")
    for path in (folder / _NUMBERS, folder / _WORDS, fresh):
        checkpoint.sync(path)
    fresh.replace(folder / _SUMMARY)
    checkpoint.sync(folder)
    text = load(folder)
    assert text is not None
    return text


def load(folder: Path) -> Text | None:
    """The text that was encoded into a folder; None where that was not finished, or is damaged."""
    try:
        summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
        counts = np.array(summary["counts"], np.int64)
        words = (folder / _WORDS).read_text(encoding="utf-8").split("\n")[:-1]
        if len(words) != len(counts) or (folder / _NUMBERS).stat().st_size != 4 * summary["length"]:
            return None
        numbers = np.memmap(folder / _NUMBERS, np.int32, "r")
        text = Text(tuple(words), counts, numbers, summary["all_words"])
    except (OSError, ValueError, KeyError, TypeError):
        # Whatever happened to it, the text is still there to be read again.
        return None
    return text if _has_its_counts(text) else None


def _has_its_counts(text: Text) -> bool:
    size = len(text.words)
    counts = np.zeros(size + 1, np.int64)
    for part in _parts(text.numbers):
        if part.min() < 0 or part.max() > size:
            return False
        counts += np.bincount(part, minlength=size + 1)
    return np.array_equal(counts[:size], text.counts)


def read(
    files: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> Generator[tuple[str, bytes], None, None]:
    """The bytes of files, unpacked, in pieces that end at blanks; `progress` gets bytes read and bytes in all.

    Raises:
      InputError: a file is missing, empty, damaged or cannot be read.
    """
    sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
    for n, file in enumerate(files):

        def advance(done: int, _: int, before: int = sum(sizes[:n])) -> None:
            if progress is not None:
                progress(before + done, sum(sizes))

        with ByteSource(file, advance) as source:
            try:
                yield from ((str(file), piece) for piece in _whole(source.pieces()))
            except DamagedError as error:
                raise InputError(f"{file}: {error}; fetch it again") from None


def require_readable(files: Sequence[Path]) -> None:
    """Read the beginning of every file.

    Raises:
      InputError: a file is missing, empty, damaged there or cannot be read.
    """
    for file in files:
        with contextlib.closing(read([file])) as pieces:
            next(pieces)


def in_background(pieces: Pieces) -> Iterator[tuple[str, bytes]]:
    """The same pieces, unpacked in another thread while the last ones are encoded."""
    return prefetch(pieces, 8)


class _Encoder:
    """Pieces of text to numbers of words by the order in which they first occur; END marks the end of a line."""

    END = 0

    def __init__(self, normalization: Normalization) -> None:
        self._normalization = normalization
        self.words: dict[str, int] = {"\n": self.END}
        self._forget()

    def _forget(self) -> None:
        self._chunks = _Numbering(self._cut)
        self._flat = array.array("i")
        self._starts = array.array("i")
        self._lengths = array.array("i")
        self._chunks[b"\0"]

    def _cut(self, chunk: bytes) -> None:
        if chunk == b"\0":
            numbers = [self.END]
        else:
            words = map(self._normalization, tokens.words(chunk.decode()))
            numbers = [self.words.setdefault(word, len(self.words)) for word in words]
        self._starts.append(len(self._flat))
        self._lengths.append(len(numbers))
        self._flat.extend(numbers)

    def __call__(self, piece: bytes) -> np.ndarray:
        chunks = _LOOKED_PAST.sub(_JOINED, piece).replace(b"\n", _LINE_END).split()
        if len(self._chunks) > _REMEMBERED:
            self._forget()
        found = np.fromiter(map(self._chunks.__getitem__, chunks), np.int32, len(chunks))
        lengths = np.frombuffer(self._lengths, np.int32)[found]
        ends = np.cumsum(lengths)
        into = np.repeat(np.frombuffer(self._starts, np.int32)[found] - (ends - lengths), lengths)
        into += np.arange(into.size, dtype=np.int32)
        numbers: np.ndarray = np.frombuffer(self._flat, np.int32)[into]
        return numbers


class _Numbering(dict[bytes, int]):
    """Numbers keys as they come, and says so to `new` first."""

    def __init__(self, new: Callable[[bytes], None]) -> None:
        self._new = new

    def __missing__(self, key: bytes) -> int:
        self._new(key)
        return self.setdefault(key, len(self))


class _Lines:
    """Counts lines, for messages."""

    def __init__(self) -> None:
        self._name = ""
        self._line = 1

    def note(self, name: str, piece: bytes) -> None:
        self._line = self._first(name) + piece.count(b"\n")
        self._name = name

    def _first(self, name: str) -> int:
        return self._line if name == self._name else 1

    def with_a_nul(self, name: str, piece: bytes) -> InputError:
        number = self._first(name) + piece[: piece.index(b"\0")].count(b"\n")
        return InputError(f"{name}:{number}: required text, got a NUL; remove it, or name a file of text")

    def not_utf8(self, name: str, piece: bytes) -> InputError:
        for number, text in enumerate(piece.split(b"\n"), self._first(name)):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                byte = f"byte {error.object[error.start]:#04x}"
                return InputError(f"{name}:{number}: required UTF-8, got {byte}; convert the file")
        raise AssertionError("a piece that is UTF-8 line by line")


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for n, piece in enumerate(pieces):
        piece = rest + (piece.removeprefix(b"\xef\xbb\xbf") if n == 0 else piece)
        # A text of one long line is cut within it.
        cut = piece.rfind(b"\n") + 1 or max(map(piece.rfind, _BLANKS)) + 1
        rest = piece[cut:]
        yield piece[:cut]
    # Whatever comes next is another file.
    yield rest + b"\n"


def _parts(numbers: np.ndarray) -> Iterator[np.ndarray]:
    return (numbers[start : start + _PIECE] for start in range(0, len(numbers), _PIECE))


def _vocabulary(
    words: list[str], counts: np.ndarray, min_count: int, max_words: int, name: str
) -> tuple[np.ndarray, list[str]]:
    kept = np.flatnonzero(counts >= min_count)
    order = sorted(kept.tolist(), key=lambda n: (-counts[n], words[n]))[: max_words or None]
    if not counts.any():
        raise InputError(f"{name}: required words, found none in it; check text.files")
    if not order:
        top = int(counts.argmax())
        raise InputError(
            f"{name}: required words that occur text.min_count={min_count} times or more, got none, "
            f"the most frequent is {_shown(words[top])} with {counts[top]}; lower text.min_count or give more text"
        )
    if len(order) == 1:
        raise InputError(
            f"{name}: required two words at least that occur text.min_count={min_count} times or more, got only "
            f"{_shown(words[order[0]])}; lower text.min_count, raise text.max_words or give more text"
        )
    return np.array(order), [words[n] for n in order]


def _shown(word: str) -> str:
    return shorten(word.encode())
