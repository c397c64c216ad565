"""Signals at the moments at which Python or an extension module loses them."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from windownet import interrupts
from windownet.errors import Terminated

DEMO = Path(__file__).resolve().parents[1] / "configs" / "demo.toml"
# Sends a signal to itself when a module begins to be imported, and crashes at the end of the interpreter.
AT_IMPORT = """
import atexit, os, signal, sys
from importlib.abc import MetaPathFinder
from windownet.__main__ import main

class Asks(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            for number in numbers.split():
                os.kill(os.getpid(), int(number))

module, numbers = sys.argv[1:3]
del sys.argv[1:3]
atexit.register(os.kill, os.getpid(), signal.SIGSEGV)
sys.meta_path.insert(0, Asks())
main()
"""


def ask(number: int) -> None:
    os.kill(os.getpid(), number)


class Drops:
    """What is raised in its end is dropped."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def __del__(self) -> None:
        self.act()


def in_del(act: Callable[[], None]) -> None:
    Drops(act)


def in_weakref(act: Callable[[], None]) -> None:
    class Thing:
        pass

    thing = Thing()
    keep = weakref.ref(thing, lambda _: act())
    del thing
    assert keep() is None


def in_gc(act: Callable[[], None]) -> None:
    def callback(phase: str, _: object) -> None:
        if phase == "start":
            gc.callbacks.remove(callback)
            act()

    gc.callbacks.append(callback)
    gc.collect()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("drop", [in_del, in_weakref, in_gc])
def test_what_python_drops_comes_again(drop: Callable[..., None], number: int) -> None:
    asked = []

    def act() -> None:
        asked.append(number)
        ask(number)

    with pytest.raises(KeyboardInterrupt) as caught, interrupts.raising():
        drop(act)
        # Dropped once more.
        time.sleep(0.001)
        drop(act)
        for _ in range(1000):
            time.sleep(0.01)
    assert asked
    assert isinstance(caught.value, Terminated) == (number == signal.SIGTERM)


def test_a_flag_hears_what_was_dropped() -> None:
    with interrupts.raising():
        in_del(lambda: ask(signal.SIGTERM))
        with interrupts.Interrupts() as noted:
            for _ in range(1000):
                if noted.asked:
                    break
                time.sleep(0.01)
    assert isinstance(noted.error("x"), Terminated)


def test_what_else_is_dropped_is_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with interrupts.raising():
        in_del(lambda: [].pop())  # type: ignore[func-returns-value]
    assert told == [IndexError]


@contextlib.contextmanager
def all_as_before() -> Iterator[None]:
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGALRM
    before = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    yield
    assert ([signal.getsignal(number) for number in numbers], sys.unraisablehook) == before


def test_an_import_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asks_at_import.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.05)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    # Wherever behind the import it comes: inside, or at the end.
    with all_as_before(), pytest.raises(KeyboardInterrupt), interrupts.raising():
        import asks_at_import  # type: ignore[import-not-found]
    assert sys.modules.pop("asks_at_import").whole
    assert asks_at_import.whole


def test_who_has_heard_one_can_be_ended() -> None:
    numbers = signal.SIGINT, signal.SIGTERM
    with all_as_before(), interrupts.raising():
        # One that waits is heard with the other.
        signal.setitimer(signal.ITIMER_REAL, 60)
        interrupts.raise_no_more()
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_DFL] * 2


def test_who_is_not_meant_to_hear_does_not() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with all_as_before(), interrupts.raising(), interrupts.Interrupts() as noted:
            ask(signal.SIGINT)
            assert not noted.asked
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("module", "numbers", "status", "line"),
    [
        ("click", [signal.SIGINT], 130, "interrupted"),
        ("windownet.verbs.lint", [signal.SIGINT, signal.SIGINT], 130, "interrupted"),
        ("windownet.config", [signal.SIGTERM], 143, "terminated"),
        ("jaxlib.cpu_feature_guard", [signal.SIGINT], 130, "interrupted"),
    ],
)
def test_a_process_ends_with_a_line_and_no_crash(module: str, numbers: list[int], status: int, line: str) -> None:
    arguments = module, " ".join(str(int(number)) for number in numbers), "gradcheck", str(DEMO)
    command = [sys.executable, "-c", AT_IMPORT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"windownet: {line}\n")
