"""How two configs differ."""

from pathlib import Path
from typing import Any, NamedTuple

from windownet.schema.section import Schema
from windownet.settings.document import value
from windownet.settings.fields import settings


class Difference(NamedTuple):
    """A field that two configs do not agree on, with the value that each has, as TOML."""

    key: str
    first: str
    second: str


def file(path: Path) -> Path:
    """The config file itself, or that of a run or model folder."""
    return path / "config.toml" if path.is_dir() else path


def differences(first: Schema, second: Schema) -> list[Difference]:
    """The fields in which two configs of one kind differ, in its order; what both leave at a default is equal."""
    found = []
    for setting in settings(type(first)):
        values: list[Any] = [getattr(getattr(config, setting.section), setting.name) for config in (first, second)]
        # Of a table the order counts too: the first pattern that matches decides.
        texts = [value(each) for each in values]
        if texts[0] != texts[1]:
            found.append(Difference(setting.key, *texts))
    return found
