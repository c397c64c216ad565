"""`metrics.jsonl`, the record of a run, read as far as it is whole: a JSON object a line, each with its `kind`."""

import json
import math
from pathlib import Path
from typing import Any

from windownet.errors import InputError

METRICS = "metrics.jsonl"


class Record:
    """One line, whose values are what they should be, or an `InputError` that names the line.

    Attributes:
      kind: what the line tells of, as its writer says; None where it does not.
    """

    def __init__(self, place: str, line: bytes) -> None:
        self._place = place
        try:
            self._fields = json.loads(line)
        except ValueError:
            self._fields = None
        if not isinstance(self._fields, dict):
            raise self._error("a JSON object", line[:40].decode(errors="backslashreplace"))
        self.kind = self._fields.get("kind")

    def number(self, key: str, *, whole: bool = False, required: bool = True) -> Any:
        """The number of a key, such as "dev.f1"; None where there is none and none is required."""
        value: Any = self._fields
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if is_number(value, whole) or (value is None and not required):
            return value
        raise self._error(f"a {'whole ' * whole}number for {key}", value)

    def _error(self, required: str, came: object) -> InputError:
        return InputError(f"{self._place}: required {required}, got {came!r}; mend the line, or delete the run")


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no file.

    Raises:
      InputError: it cannot be read, or a line of it is no record.
    """
    try:
        told = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    # What has no end of line was cut short by the end of its process.
    lines = told[: told.rfind(b"\n") + 1].split(b"\n")
    return [Record(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def last(path: Path, kind: str) -> Record | None:
    """The last record of a kind; None where there is none.

    Raises:
      InputError: see `read`.
    """
    return next((record for record in reversed(read(path)) if record.kind == kind), None)


def is_number(value: object, whole: bool = False) -> bool:
    """Whether a value of JSON or TOML is a finite number, and a `whole` one where that is asked."""
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
