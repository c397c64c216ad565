"""How two configs differ."""

from pathlib import Path
from typing import Any, NamedTuple

from windownet import config as config_module
from windownet.schema import Config
from windownet.settings.document import value
from windownet.settings.fields import settings


class Difference(NamedTuple):
    """A field that two configs do not agree on, with the value that each has, as TOML."""

    key: str
    first: str
    second: str


def load(path: Path) -> Config:
    """Read a config file, or that of a run or model folder.

    Raises:
      InputError: there is none, or it is not a config.
    """
    return config_module.load(path / "config.toml" if path.is_dir() else path)


def differences(first: Config, second: Config) -> list[Difference]:
    """The fields in which the two differ, in the order of the schema; what both leave at a default is equal."""
    found = []
    for setting in settings():
        values: list[Any] = [getattr(getattr(config, setting.section), setting.name) for config in (first, second)]
        # Of a table the order counts too: the first pattern that matches decides.
        texts = [value(each) for each in values]
        if texts[0] != texts[1]:
            found.append(Difference(setting.key, *texts))
    return found
