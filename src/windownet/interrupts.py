"""Ctrl-C and SIGTERM: never lost, whatever the process is doing, and never raised where that would do harm."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from windownet.errors import Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPORT = "<frozen importlib._bootstrap>"
# Seconds until a signal that could not be raised is sent once more.
_AGAIN = 0.005

_Handlers = dict[signal.Signals, "Callable[[int, FrameType | None], object] | int | None"]


class Interrupts:
    """While it is entered, the first signal is noted and a second one raises at once.

    Outside the main thread, which alone gets signals, it notes none.

    Attributes:
      asked: whether to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._signal: int = signal.SIGINT
        self._before: _Handlers = {}

    def error(self, text: str) -> KeyboardInterrupt:
        """What to raise for the signal that was noted."""
        return _error(self._signal, text)

    def __enter__(self) -> "Interrupts":
        self._before = _handle(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _restore(self._before)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signal = number
        if self.asked:
            raise self.error("")
        self.asked = True


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """While it is entered, a signal raises `KeyboardInterrupt`, or `Terminated`, where the main thread is.

    Two cases are set right. An extension module does not survive it in the middle of its import (jax's crashes, or
    gives an ImportError), so it waits for the end of the import. And what is raised inside a callback of the garbage
    collector (jax has one), of a weak reference or inside `__del__` is dropped by Python, which tells
    `sys.unraisablehook` so; then the signal is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last: int = signal.SIGINT

    def again(number: int) -> None:
        nonlocal last
        last = number
        # Not at once: where this is called, it would be dropped as well.
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)

    def raise_or_wait(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == _IMPORT or frame.f_code is dropped.__code__:
                again(number)
                return
            frame = frame.f_back
        raise _error(number, "")

    def dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            again(signal.SIGTERM if issubclass(unraisable.exc_type, Terminated) else signal.SIGINT)
        else:
            hook(unraisable)

    before = _handle(raise_or_wait)
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(last))
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    finally:
        waits, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        _restore(before)
        if waits:
            raise _error(last, "")


def raise_no_more() -> None:
    """From here to the end of `raising`, a signal ends the process: one was heard, and what is left is to say so."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    _handle(signal.SIG_DFL)


def status(error: KeyboardInterrupt) -> int:
    """The exit status for a signal, as a shell has it."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def line(error: KeyboardInterrupt) -> str:
    """What the person who sent the signal is told."""
    return f"windownet: {str(error) or ('terminated' if isinstance(error, Terminated) else 'interrupted')}"


def _error(number: int, text: str) -> KeyboardInterrupt:
    return Terminated(text) if number == signal.SIGTERM else KeyboardInterrupt(text)


def _handle(handler: "Callable[[int, FrameType | None], object] | signal.Handlers") -> _Handlers:
    if threading.current_thread() is not threading.main_thread():
        return {}
    # What a shell starts in the background, or nohup, is not meant to hear them.
    heard = (number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN)
    return {number: signal.signal(number, handler) for number in heard}


def _restore(before: _Handlers) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
