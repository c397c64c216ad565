"""Files that a verb writes its results to: tried before the work, and whole whenever somebody looks."""

import shutil
from pathlib import Path

from windownet.errors import InputError


def require(file: Path) -> None:
    """Raise `InputError` where a file could not be written; what is there stays, and nothing new is left."""
    try:
        if is_stream(file):
            # Who reads a pipe goes when it is closed.
            return
        new = not (file.exists() or file.is_symlink())
        with file.open("ab"):
            pass
        if new:
            file.unlink()
        fresh = _beside(file)
        fresh.touch()
        fresh.unlink()
    except OSError as error:
        raise _refused(file, error) from None


def write(file: Path, text: str) -> None:
    """Write a text where the old file stays until the new one is whole.

    Raises:
      InputError: the file cannot be written.
    """
    try:
        if is_stream(file):
            file.write_text(text, encoding="utf-8")
            return
        # A link stays one, to what is new.
        place, fresh = file.resolve(), _beside(file)
        try:
            fresh.write_text(text, encoding="utf-8")
            if place.exists():
                shutil.copymode(place, fresh)
            fresh.replace(place)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _refused(file, error) from None


def is_stream(file: Path) -> bool:
    """Whether it is a pipe or a device, which cannot take back what it was given."""
    return file.exists() and not (file.is_file() or file.is_dir())


def _beside(file: Path) -> Path:
    place = file.resolve()
    return place.with_name(f".{place.name}.new")


def _refused(file: Path, error: OSError) -> InputError:
    return InputError(f"{file}: cannot be written: {error.strerror}; name another file")
