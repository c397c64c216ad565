"""Pictures in files, by matplotlib, which is installed only where somebody asked for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windownet.errors import InputError

FORMATS = ("png", "svg", "pdf")
_WIDTH = 7


def require_format(option: str, file: Path, formats: Sequence[str] = FORMATS) -> None:
    """Raise `InputError` where a name ends in anything but one of the formats; without a suffix it is PNG."""
    if file.suffix and _format(file) not in formats:
        *others, last = (f".{form}" for form in formats)
        ends = f"{', '.join(others)} or {last}" if others else last
        raise InputError(
            f"{option} {file}: required a name that ends in {ends}, got {file.suffix!r}; name another file"
        )


def blank(option: str, height: float) -> Any:
    """An empty matplotlib figure.

    Args:
      option: what on the command line asks for it, for the message.
      height: inches; the width is the same for all.

    Raises:
      InputError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            f"{option}: required matplotlib, which is not installed; install windownet[figures], or leave {option} out"
        ) from None
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def save(picture: Any, option: str, file: Path) -> None:
    """Write a figure as its file's suffix says, one of `FORMATS`; without a suffix as PNG.

    Raises:
      InputError: the file cannot be written.
    """
    try:
        picture.savefig(file, format=_format(file), dpi=150)
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written: {error.strerror}; name another file") from None


def _format(file: Path) -> str:
    return file.suffix[1:].lower() or "png"
