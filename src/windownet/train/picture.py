"""Pictures in files, by matplotlib, which is installed only where somebody asked for it."""

from pathlib import Path
from typing import Any

from windownet.errors import InputError


def blank(option: str, width: float = 7, height: float = 3) -> Any:
    """An empty matplotlib figure.

    Args:
      option: what on the command line asks for it, for the message.
      width: inches.
      height: inches.

    Raises:
      InputError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            f"{option}: required matplotlib, which is not installed; install windownet[bench], or leave {option} out"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(picture: Any, option: str, file: Path) -> None:
    """Write a figure as PNG.

    Raises:
      InputError: the file cannot be written.
    """
    try:
        picture.savefig(file, format="png", dpi=150)
    except OSError as error:
        raise InputError(f"{option} {file}: cannot be written: {error.strerror}; name another file") from None
