"""Configs read from TOML, changed by `key=value`; what is wrong in them is said in one line."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import pydantic

from windownet.errors import InputError
from windownet.schema.config import Config
from windownet.schema.curves import Curve
from windownet.schema.pretrain import PretrainConfig
from windownet.schema.section import Schema

S = TypeVar("S", bound=Schema)

_OF_PRETRAIN = frozenset(PretrainConfig.model_fields)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a tagger's run; see `load_as`."""
    return load_as(Config, path, overrides)


def load_as(schema: type[S], path: str | Path, overrides: Sequence[str] = ()) -> S:
    """Read a TOML config and apply `section.key=value` overrides.

    Args:
      schema: what the config must be.
      path: the TOML file.
      overrides: values are TOML (`3`, `1e-3`, `[100, 100]`, `true`); what is no TOML is a string, or a list of them for
        a field that takes a list (`[a.txt, b.txt]`), and so is anything but a quoted string for a field that takes one.

    Raises:
      InputError: unreadable or broken file, unknown key, wrong type or range; names the key.
    """
    return parse_as(schema, read(path), str(path), overrides)


def read(path: str | Path) -> dict[str, Any]:
    """The TOML tree of a config file, whatever is in it.

    Raises:
      InputError: unreadable file or broken TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: required a config file, found none; see configs/ for examples") from None
    except IsADirectoryError:
        raise InputError(f"{path}: required a config file, got a directory; name a .toml file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: required UTF-8 text, got byte {error.object[error.start]:#04x}; save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: Python reads no number of thousands of digits, and no list in thousands of others.
        raise InputError(f"{path}: required TOML; {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check who may read it") from None


def verb_of(path: Path) -> Literal["train", "pretrain"]:
    """Which verb takes a config, and so what kind of run it is that has it in its folder.

    Raises:
      InputError: unreadable file or broken TOML.
    """
    return "pretrain" if _OF_PRETRAIN & read(path).keys() else "train"


def parse(tree: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> Config:
    """Make a tagger's config of a parsed TOML tree; see `parse_as`."""
    return parse_as(Config, tree, name, overrides)


def parse_as(schema: type[S], tree: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> S:
    """Make a config of a parsed TOML tree; `name` is where it came from, for messages.

    Raises:
      InputError: see `load_as`.
    """
    given = {_apply(schema, tree, override): override for override in overrides}
    try:
        return schema.model_validate(_tuples(tree))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        explained = _explain(schema, first)
        # What concerns several fields has no location; its message begins with the one to change.
        location = first["loc"] or explained.partition(":")[0].split(".")
        override = given.get(".".join(map(str, location[:2])))
        place = name if override is None else f"argument {override!r}"
        raise InputError(f"{place}: {explained}") from None


def change(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with other values, {"section.field": value}, checked like one that was read.

    Raises:
      InputError: an unknown key, a wrong type or range; names the key.
    """
    tree = config.model_dump(mode="json")
    for key, changed in changes.items():
        section, _, field = key.partition(".")
        if section not in Config.model_fields:
            raise InputError(f"settings: {_unknown(Config, [section])}")
        tree[section][field] = changed
    return parse(tree, "settings")


def _tuples(value: Any) -> Any:
    # TOML has lists; the schema's fields are immutable, and strict about it.
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _apply(schema: type[Schema], tree: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    section, dot, field = key.partition(".")
    if not (equals and dot and section and field):
        raise InputError(f"argument {override!r}: required section.key=value, such as {_example(schema)}")
    if section not in schema.model_fields:
        raise InputError(f"argument {override!r}: {_unknown(schema, [section])}")
    section_type = schema.model_fields[section].annotation
    fields = section_type.model_fields  # type: ignore[union-attr]
    inner = tree.setdefault(section, {})
    if not isinstance(inner, dict):
        raise InputError(f"argument {override!r}: {section} is not a section in the config file")
    inner[field] = _value(text, fields[field].annotation if field in fields else None)
    return key


def _example(schema: type[Schema]) -> str:
    # Every kind of run has epochs, whatever its section is called.
    section = next(name for name, field in schema.model_fields.items() if "epochs" in field.annotation.model_fields)  # type: ignore[union-attr]
    return f"{section}.epochs=3"


def _value(text: str, annotation: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return _bare_list(text) if get_origin(annotation) is tuple else text
    # A file may be called 2017.
    if annotation == tuple[str, ...] and isinstance(value, list) and not all(isinstance(item, str) for item in value):
        return _bare_list(text)
    return text if annotation is str and not isinstance(value, str) else value


def _bare_list(text: str) -> Any:
    # A shell takes the quotes of ["a", "b"] for its own.
    inner = text.strip().removeprefix("[").removesuffix("]")
    if len(inner) != len(text.strip()) - 2 or any(sign in inner for sign in "\"'[]{}"):
        return text
    return [_value(item.strip(), str) for item in inner.split(",") if item.strip()]


def _explain(schema: type[Schema], error: Any) -> str:
    section, *rest = error["loc"] or ("",)
    key = section + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    if error["type"] == "extra_forbidden":
        return _unknown(schema, list(error["loc"]))
    if error["type"] == "value_error" and not section:
        return str(error["ctx"]["error"])
    return f"{key}: required {_required(error, section)}, got {error['input']!r}"


def _required(error: Any, section: str) -> str:
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "model_type":
            return f"a section, [{section}]" if len(error["loc"]) == 1 else 'a table, such as {name = "linear"}'
        case "tuple_type":
            return 'a list, such as [1, 2] or ["a", "b"]'
        case "literal_error":
            return f"one of {error['ctx']['expected']}"
        case "dict_type" if error["loc"][-1] == "others":
            return 'a table, such as {"optimizer.weight_decay" = {name = "cosine"}}'
        case "dict_type":
            return 'a table, such as {words = 0.1, "output.*" = 2}'
        case "bool_type":
            return "true or false"
        case "int_type":
            return "an integer"
        case "float_type":
            return "a number, such as 0.1 or 1e-3"
    message: str = error["msg"].removeprefix("Input should be ")
    return f"a value {message}" if message.startswith(("greater", "less")) else message


def _unknown(schema: type[Schema], location: Sequence[str]) -> str:
    *above, name = location
    if not above and name in _OF_PRETRAIN | Config.model_fields.keys():
        kinds = {"train": "a tagger's config", "pretrain": "a config of word vectors"}
        came = "pretrain" if name in _OF_PRETRAIN else "train"
        (required,) = kinds.keys() - {came}
        return (
            f"{name}: required a section of {kinds[required]}, got one of {kinds[came]}; `windownet {came}` takes that"
        )
    section: Any = schema
    for part in above:
        # What stands in a table has any name.
        fields = getattr(section, "model_fields", None)
        section = get_args(section)[1] if fields is None else fields[part].annotation
    known = list(section.model_fields)
    key = ".".join(location)
    holder = "a curve" if section is Curve else f"section {above[0]}" if above else "a config"
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
        return f"{key}: unknown key; did you mean {'.'.join([*above, near[0]])}?"
    return f"{key}: unknown key; {holder} has {', '.join(known)}"
