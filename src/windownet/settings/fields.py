"""The fields of a config as people read them, taken from the schema."""

import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from windownet.schema.config import Config
from windownet.schema.curves import Curve
from windownet.schema.section import Schema

_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text"}


@dataclass(frozen=True)
class Setting:
    """One field.

    Attributes:
      section: name of its section.
      name: its name there.
      type: what it takes, with the range, in words.
      default: its value where a config does not give one.
      description: what it means, in one line.
      needs: the field of the section that must be set to one of `choices` for this one to count; empty: none.
      choices: see `needs`.
    """

    section: str
    name: str
    type: str
    default: Any
    description: str
    needs: str
    choices: tuple[str, ...]

    @property
    def key(self) -> str:
        """As a setting on the command line names it."""
        return f"{self.section}.{self.name}"

    def counts_in(self, config: Config) -> bool:
        """Whether it has an effect under what the config chooses."""
        return not self.needs or getattr(getattr(config, self.section), self.needs) in self.choices


def sections(schema: type[Schema] = Config) -> dict[str, str]:
    """The sections of a config in order, with what each is about."""
    return {
        name: next(line for line in (field.annotation.__doc__ or "").splitlines() if line)
        for name, field in schema.model_fields.items()
        if field.annotation is not None
    }


def settings(schema: type[Schema] = Config) -> Iterator[Setting]:
    """Every field of every section, in order."""
    for section, part in schema.model_fields.items():
        fields: dict[str, FieldInfo] = part.annotation.model_fields  # type: ignore[union-attr]
        for name, field in fields.items():
            description = field.description or ""
            needs, choices = _needs(description, fields)
            yield Setting(section, name, _type(field), field.default, description, needs, choices)


def unused(config: Config) -> list[str]:
    """One line for each field that is set, but has no effect under what the config chooses."""
    found = []
    for setting in settings():
        value = getattr(getattr(config, setting.section), setting.name)
        if value != setting.default and not setting.counts_in(config):
            chosen = getattr(getattr(config, setting.section), setting.needs)
            found.append(
                f"{setting.key} = {value!r} has no effect with {setting.section}.{setting.needs} = {chosen!r}; "
                f"it is for {', '.join(setting.choices)}"
            )
    for setting in settings():
        if setting.key in config.schedule.others and not setting.counts_in(config):
            chosen = getattr(getattr(config, setting.section), setting.needs)
            found.append(
                f"schedule.others.{setting.key} has no effect with {setting.section}.{setting.needs} = {chosen!r}; "
                f"it is for {', '.join(setting.choices)}"
            )
    for key, curve in config.schedule.others.items():
        for name, field in Curve.model_fields.items():
            _, choices = _needs(field.description or "", Curve.model_fields)
            if getattr(curve, name) != field.default and choices and curve.name not in choices:
                found.append(
                    f"schedule.others.{key}.{name} = {getattr(curve, name)!r} has no effect with name = "
                    f"{curve.name!r}; it is for {', '.join(choices)}"
                )
    for idle, reason, keys in _idle(config):
        for setting in settings():
            given = getattr(getattr(config, setting.section), setting.name)
            if idle and setting.key in keys and given != setting.default:
                found.append(f"{setting.key} = {given!r} has no effect {reason}")
    return found


def _idle(config: Config) -> Iterator[tuple[bool, str, set[str]]]:
    # What no choice between names decides.
    schedule, epochs = config.schedule, config.train.epochs
    yield not config.words.vectors, "without words.vectors", {"words.format", "words.skip_bad_lines", "words.extra"}
    hidden = {"model.nonlinearity", "regularization.hidden_dropout", "regularization.max_norm"}
    yield not config.model.hidden, "with model.hidden = []", hidden
    yield not config.optimizer.weight_decay, "without optimizer.weight_decay", {"optimizer.undecayed"}
    yield schedule.name == "cosine" and schedule.cycles == 1, "with schedule.cycles = 1", {"schedule.growth"}
    yield config.train.patience >= epochs, f"with train.epochs = {epochs}", {"train.patience"}
    late = schedule.name == "plateau" and schedule.patience >= epochs
    reason = f"with train.epochs = {epochs}, which is at most schedule.patience = {schedule.patience}"
    yield late, f"{reason}: the rate never falls", {"schedule.name"}
    over = schedule.name == "plateau" and not late and 0 < config.train.patience <= min(schedule.patience, epochs - 1)
    reason = f"with train.patience = {config.train.patience}, which is at most schedule.patience = {schedule.patience}"
    yield over, f"{reason}: the run stops before its rate falls", {"schedule.name"}


def _needs(description: str, fields: dict[str, FieldInfo]) -> tuple[str, tuple[str, ...]]:
    # A description that begins with choices of another field and a colon is of a field that only these use.
    head, colon, _ = description.partition(": ")
    choices = tuple(head.split(", "))
    for name, field in fields.items():
        chosen = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
        if colon and field.description != description and set(choices) <= set(chosen):
            return name, choices
    return "", ()


def _type(field: FieldInfo) -> str:
    annotation, origin = field.annotation, typing.get_origin(field.annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return f"list of {_element(arguments[0])}"
    if origin is dict:
        return f"table of {_element(arguments[1])}"
    return _TYPES[annotation] + _range(field.metadata)  # type: ignore[index]


def _element(annotation: Any) -> str:
    if annotation is Curve:
        return "curves"
    constraints = [bound for inner in getattr(annotation, "__metadata__", ()) for bound in inner.metadata]
    return f"{_TYPES[getattr(annotation, '__origin__', annotation)]}s{_range(constraints)}"


def _range(constraints: list[Any]) -> str:
    low = high = ""
    for bound in constraints:
        match bound:
            case annotated_types.Ge(ge=limit):
                low = f"at least {limit}"
            case annotated_types.Gt(gt=limit):
                low = f"above {limit}"
            case annotated_types.Le(le=limit):
                high = f"at most {limit}"
            case annotated_types.Lt(lt=limit):
                high = f"below {limit}"
    return "".join(f", {part}" for part in (low, high) if part)
