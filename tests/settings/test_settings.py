"""The fields as people read them, their document, starters, presets, and differences between configs."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest

import config_document
from windownet import config as config_module
from windownet.errors import InputError
from windownet.schema.config import Config
from windownet.schema.curves import ScheduleConfig
from windownet.schema.pretrain import PretrainConfig
from windownet.settings import document, presets
from windownet.settings.difference import Difference, differences
from windownet.settings.fields import sections, settings, unused

DOCUMENT = Path(__file__).parents[2] / "docs" / "config.md"
SETTINGS = {setting.key: setting for setting in settings()}


def parse(**tree):
    return config_module.parse(tree, "test")


def test_the_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == config_document.page(), "run scripts/config_document.py"
    for key, setting in [*SETTINGS.items(), *((s.key, s) for s in settings(PretrainConfig))]:
        assert f"| `{setting.name}` | " in config_document.page(), key


def test_every_section_and_field_is_there_and_in_one_line():
    assert list(sections()) == list(Config.model_fields)
    assert len(SETTINGS) == sum(len(part.annotation.model_fields) for part in Config.model_fields.values())
    assert all(text and "\n" not in text for s in SETTINGS.values() for text in (s.description, s.type))
    assert SETTINGS["train.batch_size"].type == "integer, at least 1"
    assert SETTINGS["schedule.factor"].type == "number, above 0, at most 1"
    assert SETTINGS["regularization.input_dropout"].type == "number, at least 0, below 1"
    assert SETTINGS["model.hidden"].type == "list of integers, at least 1, at most 65536"
    assert SETTINGS["data.drop_types"].type == "list of texts"
    assert SETTINGS["optimizer.rates"].type == "table of numbers, at least 0"
    assert SETTINGS["features.case"].type == "one of lower, keep"


def test_the_starter_is_the_defaults(tmp_path):
    (tmp_path / "a.toml").write_text(document.starter())
    assert config_module.load(tmp_path / "a.toml") == Config()
    tree = tomllib.loads(document.starter())
    assert [f"{section}.{key}" for section, part in tree.items() for key in part] == list(SETTINGS)
    assert all(setting.description.split()[-1] in document.starter() for setting in SETTINGS.values())


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_loads_and_has_no_idle_field(name):
    config = config_module.parse(tomllib.loads(presets.text(name)), name)
    assert unused(config) == []
    assert presets.text(name).startswith("# ")


def test_the_presets_are_what_was_published():
    assert presets.names() == ["cs224d", "cs224n-a3", "senna-wll"]
    configs = {name: config_module.parse(tomllib.loads(presets.text(name)), name) for name in presets.names()}
    assert [(c.model.window, *c.model.hidden, c.model.nonlinearity) for c in configs.values()] == [
        (3, 100, "tanh"),
        (3, 200, "relu"),
        (5, 300, "hard_tanh"),
    ]
    assert configs["senna-wll"].optimizer.fan_in_rates
    assert configs["cs224d"].regularization.l2 == 1e-3
    assert (configs["cs224n-a3"].train.batch_size, configs["cs224n-a3"].regularization.hidden_dropout) == (2048, 0.5)
    with pytest.raises(InputError, match=r"^--preset senna: required one of cs224d, cs224n-a3, senna-wll; name"):
        presets.text("senna")


def test_fields_that_have_no_effect_are_named():
    assert unused(Config()) == []
    assert unused(parse(schedule={"name": "cosine", "cycles": 2, "warmup": 0.1})) == []
    assert unused(parse(schedule={"name": "linear", "cycles": 2}, optimizer={"momentum": 0.5})) == [
        "optimizer.momentum = 0.5 has no effect with optimizer.name = 'adam'; it is for momentum, nesterov",
        "schedule.cycles = 2 has no effect with schedule.name = 'linear'; it is for cosine, triangular",
    ]
    assert unused(parse(schedule={"name": "plateau"}, train={"patience": 3})) == []
    assert unused(parse(schedule={"name": "plateau", "patience": 3})) == []
    assert unused(parse(schedule={"others": {"optimizer.b1": {}, "optimizer.momentum": {}}})) == [
        "schedule.others.optimizer.momentum has no effect with optimizer.name = 'adam'; it is for momentum, nesterov"
    ]
    assert unused(parse(schedule={"others": {"optimizer.b1": {"name": "linear", "cycles": 7, "final": 0.5}}})) == [
        "schedule.others.optimizer.b1.cycles = 7 has no effect with name = 'linear'; it is for cosine, triangular"
    ]


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"words": {"extra": 5}}, "words.extra = 5 has no effect without words.vectors"),
        (
            {"model": {"hidden": ()}, "regularization": {"max_norm": 2.0}},
            "regularization.max_norm = 2.0 has no effect with model.hidden = []",
        ),
        ({"optimizer": {"undecayed": ()}}, "optimizer.undecayed = () has no effect without optimizer.weight_decay"),
        (
            {"schedule": {"name": "cosine", "growth": 3.0}},
            "schedule.growth = 3.0 has no effect with schedule.cycles = 1",
        ),
        ({"train": {"epochs": 3, "patience": 3}}, "train.patience = 3 has no effect with train.epochs = 3"),
        (
            {"schedule": {"name": "plateau", "patience": 10}},
            "schedule.name = 'plateau' has no effect with train.epochs = 10, which is at most schedule.patience = 10: "
            "the rate never falls",
        ),
        (
            {"schedule": {"name": "plateau"}, "train": {"patience": 1, "epochs": 2}},
            "schedule.name = 'plateau' has no effect with train.epochs = 2, which is at most schedule.patience = 2: "
            "the rate never falls",
        ),
        *(
            (
                {"schedule": {"name": "plateau", "patience": patience}, "train": {"patience": 3}},
                "schedule.name = 'plateau' has no effect with train.patience = 3, which is at most schedule.patience = "
                f"{patience}: the run stops before its rate falls",
            )
            for patience in (3, 9)
        ),
        (
            {"schedule": {"name": "plateau"}, "train": {"patience": 3, "epochs": 3}},
            "train.patience = 3 has no effect with train.epochs = 3",
        ),
    ],
)
def test_fields_that_others_make_idle_are_named(sections, line):
    assert unused(parse(**sections)) == [line]


def test_what_a_field_needs_are_choices_of_its_section():
    of_schedule = {setting.name for key, setting in SETTINGS.items() if setting.needs and key.startswith("schedule.")}
    assert of_schedule == set(ScheduleConfig.model_fields) - {"name", "warmup", "others"}
    for setting in SETTINGS.values():
        if setting.needs:
            assert set(setting.choices) <= set(
                get_args(Config.model_fields[setting.section].annotation.model_fields[setting.needs].annotation)
            )


def test_differences():
    first = parse(model={"hidden": [3, 4]}, optimizer={"rates": {"words": 0.5, "*": 1.0}})
    second = parse(data={"comment": '"\n'}, optimizer={"rates": {"*": 1.0, "words": 0.5}})
    assert differences(first, first) == []
    curved = parse(schedule={"others": {"optimizer.b1": {"name": "linear", "final": 0.5}}})
    assert differences(Config(), curved) == [
        Difference("schedule.others", "{}", '{"optimizer.b1" = {"name" = "linear", "final" = 0.5}}')
    ]
    assert differences(first, second) == [
        Difference("data.comment", '""', '"\\"\\n"'),
        Difference("model.hidden", "[3, 4]", "[300]"),
        # The first pattern that matches decides, so the order is a difference.
        Difference("optimizer.rates", '{"words" = 0.5, "*" = 1.0}', '{"*" = 1.0, "words" = 0.5}'),
    ]


@pytest.mark.parametrize("key", SETTINGS)
def test_values_are_written_as_toml_that_reads_back(key):
    text = document.value(SETTINGS[key].default)
    assert "\n" not in text
    default = SETTINGS[key].default
    assert tomllib.loads(f"x = {text}")["x"] == (list(default) if isinstance(default, tuple) else default)
