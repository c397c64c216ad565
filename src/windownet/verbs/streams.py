"""Standard input, output and error as people have them: closed, left by their reader, not in UTF-8."""

import contextlib
import io
import os
import sys
from typing import Any, BinaryIO, TextIO

from windownet.errors import InputError

# Verbs whose result is in files; what they print can be had again.
_OF_FILES = ("train", "pretrain", "init")


class _Unheard(io.FileIO):
    """What cannot be told is not told: a run goes on when nobody reads any more how it goes."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Make standard error one that never fails, and let standard output write what its encoding does not have."""
    stderr: TextIO | None = sys.stderr
    if stderr is None:
        sys.stderr = _nowhere(2)
    elif sys.__stderr__ is not None and stderr is sys.__stderr__:
        sys.stderr = _unheard(stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def require_output(verb: str) -> None:
    """Raise `InputError` where standard output is closed and the verb's result would go there.

    Of a verb whose result is in files, no failure of standard output is one of its own.
    """
    if sys.stdout is None:
        if verb not in _OF_FILES:
            binary(sys.stdout, "standard output")
        sys.stdout = _nowhere(1)
    elif verb in _OF_FILES and sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        sys.stdout = _unheard(sys.stdout)


def binary(stream: TextIO | None, name: str) -> BinaryIO:
    """The bytes of standard input or output; raises `InputError` where it is closed."""
    if stream is None:
        raise InputError(f"{name}: required an open stream, got a closed one; open it in the shell")
    return stream.buffer


def let_go_of_output() -> None:
    """Forget what standard output does not take: Python would write it again at exit, and complain of it again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def spells(text: str) -> bool:
    """Whether standard output can write a text as it is."""
    with contextlib.suppress(UnicodeEncodeError):
        return bool(text.encode(sys.stdout.encoding or "utf-8"))
    return False


def _unheard(stream: TextIO) -> TextIO:
    unheard = io.BufferedWriter(_Unheard(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(unheard, stream.encoding, stream.errors, line_buffering=True, write_through=True)


def _nowhere(number: int) -> TextIO:
    # At its own number, which the next file that is opened would get, and what libraries print with it.
    handle = os.open(os.devnull, os.O_WRONLY)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)
    os.set_inheritable(number, True)
    return open(number, "w", encoding="utf-8", closefd=False)
