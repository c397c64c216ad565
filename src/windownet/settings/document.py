"""The schema as texts: docs/config.md, and a config to start from."""

import textwrap

import tomli_w

from windownet.schema.config import Config
from windownet.schema.section import Schema, Section
from windownet.settings.fields import sections, settings

_HEAD = """\
# The config

Written by `scripts/config_document.py` from the schema in [`schema/`](../src/windownet/schema).

A config is TOML; what it leaves out has its default. `section.key=value` on the command line changes one field, with a
value in TOML; quotes may be left out where nothing else is meant: `model.nonlinearity=gelu`, `data.drop_types=[MISC]`.
`windownet init FILE` writes one to start from, `windownet config FILE` prints it with all defaults, and
`windownet diff A B` shows how two differ. A description that begins with names and a colon is of a field that counts
only for these.
"""

_START = """\
# A config of windownet. Every field is here with its default: give data.train at least, and leave out what you do not
# change. `windownet train FILE` trains with it, `windownet lint FILE` looks at its data.
"""


def markdown(*others: tuple[str, type[Schema]]) -> str:
    """Every field, section by section, as docs/config.md has them.

    Args:
      others: other kinds of config that the page is to have, each with what stands above its sections.
    """
    return _HEAD + _tables(Config) + "".join(f"\n{head}{_tables(schema)}" for head, schema in others)


def _tables(schema: type[Schema]) -> str:
    parts = []
    for section, about in sections(schema).items():
        rows = [
            f"| `{s.name}` | {s.type} | {_markdown_value(s.default)} | {s.description.replace('|', chr(92) + '|')} |"
            for s in settings(schema)
            if s.section == section
        ]
        head = f"\n## [{section}]\n\n{about}\n\n| key | takes | default | what it is |\n|---|---|---|---|\n"
        parts.append(head + "\n".join(rows) + "\n")
    return "".join(parts)


def starter() -> str:
    """A config in TOML with every field at its default, each explained above it."""
    parts = [_START]
    for section, about in sections().items():
        parts.append(f"\n# {about}\n[{section}]\n")
        for setting in settings():
            if setting.section == section:
                note = f"{setting.description} ({setting.type})"
                parts += [f"# {line}\n" for line in textwrap.wrap(note, 116, break_on_hyphens=False)]
                parts.append(f"{setting.name} = {value(setting.default)}\n")
    return "".join(parts)


def value(python: object) -> str:
    """A value of a field as TOML, in one line."""
    if isinstance(python, tuple):
        return f"[{', '.join(map(value, python))}]"
    if isinstance(python, Section):
        return value(python.model_dump(exclude_defaults=True))
    if isinstance(python, dict):
        return "{" + ", ".join(f"{value(key)} = {value(inner)}" for key, inner in python.items()) + "}"
    return tomli_w.dumps({"x": python}).removeprefix("x = ").rstrip("\n")


def _markdown_value(python: object) -> str:
    return f"`{value(python)}`"
