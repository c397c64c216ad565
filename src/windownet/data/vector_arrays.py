"""Word vectors in arrays that stay on the disk: `.npy` and safetensors."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors

from windownet.data.byte_source import ByteSource, DamagedError, Progress
from windownet.data.vector_formats import Chunk, Reading
from windownet.errors import InputError

# The tensors of a safetensors file: [V, D] floats, and uint8 of UTF-8 with a line feed after each word.
VECTORS, WORDS = "vectors", "words"

_PIECE = 1 << 20
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


class ArrayRecords:
    """The rows of an array, and their words, one a line.

    Args:
      matrix: floats [V, D].
      pieces: gives the bytes of the words from the beginning, each time it is called.
      line_end: left out at the end of a word.
      reading: the pass over the file.
      progress: called with bytes done and bytes in all of the array.

    Raises:
      InputError: there are more or fewer words than rows.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        pieces: Callable[[], Iterable[bytes]],
        line_end: bytes,
        reading: Reading,
        progress: Progress | None,
    ) -> None:
        self.width = matrix.shape[1]
        self._matrix, self._pieces, self._line_end = matrix, pieces, line_end
        self._reading, self._progress = reading, progress
        reading.unit = " row "
        words, last = 0, b"\n"
        for piece in pieces():
            words, last = words + piece.count(b"\n"), piece[-1:]
        words += last != b"\n"
        if words != len(matrix):
            raise InputError(
                f"{reading.path}: required a word for each of its {len(matrix):,} rows, got {words:,} words; write "
                "its words again, one a line"
            )

    def chunks(self) -> Iterator[Chunk]:
        """As the protocol says."""
        rest = b""
        for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from self._chunks(lines)
        if rest:
            yield from self._chunks([rest])
        self._reading.end()

    def _chunks(self, lines: list[bytes]) -> Iterator[Chunk]:
        reading = self._reading
        # A mebibyte of words may stand for a gibibyte of numbers.
        step = max(1, _PIECE // (4 * self.width))
        for begin in range(0, len(lines), step):
            chunk = Chunk([], [], [])
            for line in lines[begin : begin + step]:
                reading.met += 1
                word = reading.decode(line.removesuffix(self._line_end))
                if word is not None:
                    chunk.words.append(word)
                    chunk.payloads.append(reading.met - 1)
                    chunk.records.append(reading.record)
            if self._progress is not None:
                self._progress(reading.met * self._matrix[0].nbytes, self._matrix.nbytes)
            yield chunk

    def parse(self, payloads: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """As the protocol says."""
        # A float64 beyond float32 becomes infinite, and is refused later like one that was written so.
        with np.errstate(over="ignore"):
            return self._matrix[list(payloads)].astype(np.float32), {}


def open_npy(path: Path, reading: Reading, progress: Progress | None) -> ArrayRecords:
    """Open `NAME.npy` and the words in `NAME.vocab.txt`.

    Raises:
      InputError: the array is damaged, pickled or not [V, D] of floats, or the words are missing or too many or few.
    """
    try:
        # The sizes that a damaged header names may overflow.
        with np.errstate(over="ignore"):
            matrix = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # The header is evaluated as Python, which may raise anything.
        if "object" in str(error).lower():
            raise InputError(
                f"{path}: required an array of numbers, got Python objects in a pickle, which can run code and is not "
                "read; save a float32 array"
            ) from None
        raise InputError(
            f"{path}: required a whole .npy file, got one that cannot be read ({_one_line(error)}); fetch or write it "
            "again"
        ) from None
    _check(path, "the array", matrix.shape, str(matrix.dtype), matrix.dtype.kind == "f")
    return ArrayRecords(matrix, _vocabulary_beside(path), b"\r", reading, progress)


def open_safetensors(path: Path, reading: Reading, progress: Progress | None) -> ArrayRecords:
    """Open the tensors `vectors` and `words`; without the latter the words are those of `NAME.vocab.txt`.

    Raises:
      InputError: the file is damaged, a tensor is not as it must be, or there are more or fewer words than rows.
    """
    try:
        # The library checks that the header and all that it names are there.
        with safetensors.safe_open(path, framework="np"), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensors = {name: entry for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"}
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: required a whole safetensors file, got one that cannot be read ({_one_line(error)}); fetch or "
            "write it again"
        ) from None
    if VECTORS not in tensors:
        raise InputError(
            f"{path}: required a tensor '{VECTORS}' [V, D], got {', '.join(sorted(tensors)[:5]) or 'no tensor'}; save "
            "the vectors under that name"
        )

    def tensor(name: str, dtype: str) -> np.ndarray:
        entry = tensors[name]
        if 0 in entry["shape"]:
            return np.empty(entry["shape"], dtype)
        return np.memmap(path, dtype, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))

    dtype = tensors[VECTORS]["dtype"]
    _check(path, f"tensor '{VECTORS}'", tuple(tensors[VECTORS]["shape"]), dtype, dtype in _FLOATS)
    matrix = tensor(VECTORS, _FLOATS[dtype])
    if WORDS not in tensors:
        return ArrayRecords(matrix, _vocabulary_beside(path), b"\r", reading, progress)
    if tensors[WORDS]["dtype"] != "U8" or len(tensors[WORDS]["shape"]) != 1:
        raise InputError(
            f"{path}: required tensor '{WORDS}' in one row of uint8, got {tensors[WORDS]['dtype']} "
            f"{tensors[WORDS]['shape']}; save the words in UTF-8 with a line feed after each"
        )
    words = tensor(WORDS, "u1")
    return ArrayRecords(
        matrix,
        lambda: (words[n : n + _PIECE].tobytes() for n in range(0, len(words), _PIECE)),
        b"",
        reading,
        progress,
    )


def _vocabulary_beside(path: Path) -> Callable[[], Iterator[bytes]]:
    vocabulary = path.with_suffix(".vocab.txt")
    if not vocabulary.exists():
        raise InputError(
            f"{path}: required its words in {vocabulary.name} beside it, found no such file; write it, a word a line"
        )

    def pieces() -> Iterator[bytes]:
        with ByteSource(vocabulary) as source:
            mark = b"\xef\xbb\xbf"
            try:
                for piece in source.pieces():
                    yield piece.removeprefix(mark)
                    mark = b""
            except DamagedError as error:
                raise InputError(f"{vocabulary}: {error}; fetch or write it again") from None

    return pieces


def _check(path: Path, what: str, shape: tuple[int, ...], dtype: str, floating: bool) -> None:
    if len(shape) != 2 or 0 in shape or not floating:
        raise InputError(
            f"{path}: required {what} of floats (16, 32 or 64 bits) with a row a word, got {dtype} {list(shape)}; save "
            "a float32 array [V, D]"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
