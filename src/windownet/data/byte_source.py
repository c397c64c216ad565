"""The bytes of a large file in pieces, unpacked, with how far they have come."""

import gzip
import io
import lzma
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from windownet.errors import InputError

Progress = Callable[[int, int], None]

_PIECE = 1 << 20
_FOREIGN = (
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"BZh.1AY&SY", re.DOTALL), "a bzip2 file"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "a zstandard file"),
)


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class DamagedError(Exception):
    """A packed file that breaks off or does not unpack; the message says what was required and what came."""


class ByteSource:
    """The bytes of a file, unpacked where its first bytes are those of gzip or xz.

    Args:
      path: the file.
      progress: called when a piece is done with the bytes read so far and those of the file, both as on the disk.

    Attributes:
      packing: "gzip", "xz", or empty where it is not packed.

    Raises:
      InputError: it is missing, empty, not a regular file, packed by something else, or cannot be read.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self._path, self._progress = path, progress
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise InputError(f"{path}: required a file, got a directory; name a file in it")
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path}: required a regular file, got a pipe or a device; save its bytes to a file")
            if not status.st_size:
                raise InputError(f"{path}: required bytes to read, got an empty file; fetch or write it again")
            self._file = io.BufferedReader(io.FileIO(path), 1 << 18)
        except FileNotFoundError:
            raise InputError(f"{path}: required a file, found nothing there; check the path") from None
        except OSError as error:
            raise InputError(_unreadable(path, error)) from None
        self._total = status.st_size
        try:
            begin = self._file.peek(16)[:16]
        except OSError as error:
            self._file.close()
            raise InputError(_unreadable(path, error)) from None
        for pattern, what in _FOREIGN:
            if pattern.match(begin):
                self._file.close()
                raise InputError(
                    f"{path}: required an unpacked file, or one packed by gzip or xz, got {what}; unpack it"
                )
        self.packing = ""
        self._stream: _Stream = self._file
        if begin.startswith(b"\x1f\x8b"):
            self.packing, self._stream = "gzip", gzip.GzipFile(fileobj=self._file)
        elif begin.startswith(b"\xfd7zXZ\0"):
            self.packing, self._stream = "xz", lzma.LZMAFile(self._file)  # noqa: SIM115 - what it reads from is closed

    def pieces(self) -> Iterator[bytes]:
        """Yields the bytes in order, about a mebibyte at a time; all that can be had comes before damage is raised.

        Raises:
          DamagedError: the file is packed and breaks off, or does not unpack.
          InputError: it can no longer be read.
        """
        damage = None
        while damage is None:
            parts: list[bytes] = []
            length = 0
            try:
                # Of a packed file a call returns what little one step unpacks, and the last one is not lost in damage.
                while length < _PIECE and (part := self._stream.read1(_PIECE)):
                    parts.append(part)
                    length += len(part)
            except EOFError:
                if self._ends_in_padding():
                    if parts:
                        yield b"".join(parts)
                    return
                damage = f"required a whole {self.packing} file, got one that breaks off"
            except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
                damage = f"required a sound {self.packing} file, got one that does not unpack ({error})"
            except OSError as error:
                raise InputError(_unreadable(self._path, error)) from None
            if parts:
                yield b"".join(parts)
            elif damage is None:
                return
            if self._progress is not None:
                self._progress(self._file.tell(), self._total)
        raise DamagedError(damage)

    def _ends_in_padding(self) -> bool:
        # Zeros behind the last stream of an xz file, a multiple of four, of which Python's reader expects a stream.
        self._file.seek(max(0, self._total - (1 << 12)))
        end = self._file.read()
        padding = len(end) - len(end.rstrip(b"\0"))
        return self.packing == "xz" and padding > 0 and padding % 4 == 0 and end.rstrip(b"\0").endswith(b"YZ")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: required a file that can be read, got '{error.strerror}'; check it"
