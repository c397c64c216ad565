"""Ctrl-C and SIGTERM as a flag that is looked at between calls, where all is in order."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from windownet.errors import Terminated

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While it is entered, the first signal is noted and a second one raises at once.

    Outside the main thread, which alone gets signals, it notes none.

    Attributes:
      asked: whether to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._signal: int = signal.SIGINT
        self._before: dict[int, Any] = {}

    def error(self, text: str) -> KeyboardInterrupt:
        """What to raise for the signal that was noted."""
        return Terminated(text) if self._signal == signal.SIGTERM else KeyboardInterrupt(text)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signal = number
        if self.asked:
            raise self.error("")
        self.asked = True
