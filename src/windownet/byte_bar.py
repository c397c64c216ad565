"""A bar on the terminal over the bytes of a file while it is read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def byte_bar(console: Console | None, what: str = "reading") -> Iterator[Callable[[int, int], None] | None]:
    """Show the bar as long as the context lasts.

    Args:
      console: where to; None for nowhere.
      what: what stands before it.

    Yields:
      What to tell of bytes read and bytes in all; None where nobody would see it.
    """
    # Elsewhere than on a terminal a bar that is taken away leaves empty lines.
    if console is None or not console.is_terminal:
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(compact=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
