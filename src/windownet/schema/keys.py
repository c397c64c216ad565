"""Values of a config by their keys."""

from collections.abc import Mapping
from typing import Any, TypeVar

from windownet.schema.section import Schema, Section

S = TypeVar("S", bound=Schema)


def value(config: Schema, key: str) -> Any:
    """The value of `section.field`, or `section.field.entry` of a table; tables of sections as plain ones."""
    section, field, *entry = key.split(".", 2)
    found = getattr(getattr(config, section), field)
    if entry:
        return found[entry[0]]
    if not isinstance(found, dict):
        return found
    return {k: v.model_dump(exclude_defaults=True) if isinstance(v, Section) else v for k, v in found.items()}


def replace(config: S, values: Mapping[str, Any]) -> S:
    """The config with other values, by keys as `value` takes them, unchecked: arrays may stand for numbers."""
    for key, other in values.items():
        section, field, *entry = key.split(".", 2)
        part = getattr(config, section)
        changed = {**getattr(part, field), entry[0]: other} if entry else other
        config = config.model_copy(update={section: part.model_copy(update={field: changed})})
    return config
