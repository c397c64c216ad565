import types
import typing
from pathlib import Path

import annotated_types
import pytest
from hypothesis import given, settings, strategies as st

from windownet.autodiff.ops import OPS, nonlinearities
from windownet.config import load, parse
from windownet.errors import InputError
from windownet.schema import keys
from windownet.schema.choices import Nonlinearity
from windownet.schema.config import Config
from windownet.schema.curves import SCHEDULABLE, Curve
from windownet.schema.section import NonNegative, Width
from windownet.schema.training import TrainConfig

ALL_CONFIGS = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.toml"))
# Those of `pretrain` have a schema of their own: tests/pretrain/test_settings.py.
CONFIGS = [path for path in ALL_CONFIGS if not path.name.startswith("pretrain_")]
FIELDS = {
    f"{section}.{name}": field
    for section, part in Config.model_fields.items()
    for name, field in part.annotation.model_fields.items()
}
# Columns may be counted from either end, so any integer will do.
UNBOUNDED = {"data.word_column", "data.tag_column"}


def refusal(overrides=(), tree=None):
    with pytest.raises(InputError) as caught:
        parse(tree or {}, "a.toml", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tree_of(key, value):
    section, name = key.split(".")
    return {section: {name: value}}


def wrong_types(annotation):
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)[0]
        return [3, "a", True, {}, *([wrong] for wrong in wrong_types(getattr(inner, "__origin__", inner)))]
    if typing.get_origin(annotation) is typing.Literal:
        return ["neither", "", 1, True, [], {}]
    if typing.get_origin(annotation) is dict:
        return [3, "a", True, [], {"x": -1.0}, {"x": "a"}, {"x": float("inf")}]
    return {
        bool: [1, 0, "true", 1.5, [], {}],
        int: [1.5, "1", True, [], {}],
        float: ["1.0", True, [], {}],
        str: [1, True, 1.5, [], {}],
    }[annotation]


def out_of_range(metadata):
    wrong = []
    for bound in metadata:
        match bound:
            case annotated_types.Ge(ge=limit):
                wrong.append(limit - 1)
            case annotated_types.Gt(gt=limit):
                wrong.append(limit)
            case annotated_types.Le(le=limit):
                wrong.append(limit + 1)
            case annotated_types.Lt(lt=limit):
                wrong.append(limit)
    return wrong


def bad_values(field):
    wrong = wrong_types(field.annotation) + out_of_range(field.metadata)
    if typing.get_origin(field.annotation) is tuple:
        inner = typing.get_args(field.annotation)[0]
        for constraints in getattr(inner, "__metadata__", ()):
            wrong += [[1, value] for value in out_of_range(constraints.metadata)]
    if field.annotation is float:
        wrong += [float("nan"), float("inf"), -float("inf")]
    return wrong


@pytest.mark.parametrize("key", FIELDS)
def test_a_wrong_value_is_answered_with_its_key(key):
    values = bad_values(FIELDS[key])
    assert len(values) >= 5
    for value in values:
        message = refusal(tree=tree_of(key, value))
        assert message.startswith((f"a.toml: {key}: required ", f"a.toml: {key}[", f"a.toml: {key}.x: ")), value
        assert ": required " in message
        assert ", got " in message


@pytest.mark.parametrize("key", FIELDS)
def test_every_field_is_bounded_and_explained(key):
    field = FIELDS[key]
    assert field.description
    if field.annotation in (int, float) and key not in UNBOUNDED:
        assert out_of_range(field.metadata)


@pytest.mark.parametrize("key", FIELDS)
def test_a_misspelt_key_is_answered_with_the_right_one(key):
    section, name = key.split(".")
    typo = name[:-1] + name[-1] * 2
    expected = f"{section}.{typo}: unknown key; did you mean {key}?"
    assert refusal(tree=tree_of(f"{section}.{typo}", 1)) == f"a.toml: {expected}"
    assert refusal([f"{section}.{typo}=1"]) == f"argument '{section}.{typo}=1': {expected}"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trian": {}}, "trian: unknown key; did you mean train?"),
        ({"zzz": {}}, "zzz: unknown key; a config has " + ", ".join(Config.model_fields)),
        (
            {"train": {"zzz": 1}},
            "train.zzz: unknown key; section train has epochs, batch_size, accumulate, steps_per_call, ",
        ),
        ({"pretrain": {}}, "pretrain: required a section of a tagger's config, got one of a config of word vectors; "),
        ({"train": 3}, "train: required a section, [train], got 3"),
        ({"train": [{}]}, "train: required a section, [train], got ({},)"),
        (
            {"model": {"window": 4}},
            "model.window: required an odd number, so that the tagged word stands in the middle",
        ),
        ({"model": {"hidden": [3, 0]}}, "model.hidden[1]: required a value greater than or equal to 1, got 0"),
        (
            {"data": {"source": "hub"}},
            "data.dataset: required the name of a data set for data.source = 'hub', got none",
        ),
        ({"data": {"train": "a\0b"}}, "data.train: required UTF-8 text without NUL, got 'a\\x00b'"),
        ({"data": {"drop_types": ["\udcff"]}}, "data.drop_types: required UTF-8 text without NUL, got ('\\udcff',)"),
        (
            {"schedule": {"others": {"optimizer.eps": {"patience": 1}}}},
            "schedule.others.optimizer.eps.patience: unknown key; a curve has name, warmup, final, power, factor, ",
        ),
        (
            {"schedule": {"others": {"optimizer.eps": {"finel": 1}}}},
            "schedule.others.optimizer.eps.finel: unknown key; did you mean schedule.others.optimizer.eps.final?",
        ),
        (
            {"schedule": {"others": {"optimizer.eps": 3}}},
            'schedule.others.optimizer.eps: required a table, such as {name = "linear"}, got 3',
        ),
        (
            {"schedule": {"others": {"hidden_dropout": {}}}},
            "schedule.others.hidden_dropout: required one of words.anchor, regularization.input_dropout, ",
        ),
        (
            {"schedule": {"others": {"words.anchor": {}}}},
            "schedule.others.words.anchor: required words.anchor above 0, got 0; set what the curve is to be a factor",
        ),
        (
            {"schedule": {"others": {"optimizer.b1": {"name": "plateau"}}}},
            "schedule.others.optimizer.b1.name: required another than 'plateau', which is for the rate; take 'step'",
        ),
        (
            {"schedule": {"others": {"optimizer.b1": {"name": "warmup_stable_decay", "warmup": 0.5, "decay": 0.7}}}},
            "schedule.others.optimizer.b1.decay: required at most what schedule.others.optimizer.b1.warmup = 0.5 ",
        ),
        *(
            (
                {"schedule": {"others": {"optimizer.eps": curve}}},
                f"schedule.others.optimizer.eps: required a curve that stays above 0 in float32, got "
                f"'{curve['name']}'; leave its",
            )
            for curve in (
                {"name": "linear"},
                {"name": "step", "warmup": 0.1},
                {"name": "triangular", "start": 0.0},
                {"name": "exponential", "factor": 0.1, "every": 0.02},
                # Times eps, which is 1e-8.
                {"name": "cosine", "final": 1e-31},
                {"name": "inverse_time", "every": 1e-31},
                # In 7 steps, `every` is 1 of them.
                {"name": "step", "factor": 1e-5, "every": 0.21},
            )
        ),
        ({"optimizer": {"name": "adan"}}, "optimizer.name: required one of 'sgd', 'momentum', 'nesterov'"),
    ],
)
def test_messages(tree, message):
    assert refusal(tree=tree).startswith(f"a.toml: {message}")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=3", 3),
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("optimizer.learning_rate=2", 2.0),
        ("model.hidden=[100, 50]", (100, 50)),
        ("model.hidden=[]", ()),
        ("model.nonlinearity=gelu", "gelu"),
        ('model.nonlinearity="gelu"', "gelu"),
        ('data.drop_types=["A", "B"]', ("A", "B")),
        ("data.train=a b/c.conll", "a b/c.conll"),
        ("data.train=2017", "2017"),
        ("data.train=1e3", "1e3"),
        ("data.train=true", "true"),
        ("data.train=[1]", "[1]"),
        ("data.train=a=b", "a=b"),
        ("data.train='a \"b'", 'a "b'),
        ('data.train="', '"'),
        ("data.dev=", ""),
        ('data.comment="# "', "# "),
        ("data.comment=#", "#"),
        ("data.word_column=-2", -2),
        ("data.drop_types=[MISC]", ("MISC",)),
        ("data.drop_types=[MISC, creative-work,]", ("MISC", "creative-work")),
        ('data.drop_types=["a, b", "c"]', ("a, b", "c")),
        ("data.drop_types=[1, 2.50]", ("1", "2.50")),
        ("data.drop_types=[]", ()),
    ],
)
def test_overrides(override, value):
    section, name = override.partition("=")[0].split(".")
    got = getattr(getattr(parse({section: {name: None}}, "a.toml", [override]), section), name)
    assert (got, type(got)) == (value, type(value))


def test_the_last_override_wins():
    assert parse({"train": {"epochs": 1}}, "a.toml", ["train.epochs=2", "train.seed=5", "train.epochs=3"]).train == (
        TrainConfig(epochs=3, seed=5)
    )


@pytest.mark.parametrize(
    "override", ["", "=", "=3", "train", "train=3", "train.=3", ".epochs=3", "epochs=3", "train.epochs"]
)
def test_a_bad_form_of_override_is_answered_with_a_good_one(override):
    assert refusal([override]) == f"argument {override!r}: required section.key=value, such as train.epochs=3"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.epochs=3", "trian: unknown key; did you mean train?"),
        ("train.epochs=0", "train.epochs: required a value greater than or equal to 1, got 0"),
        ("train.epochs=1.5", "train.epochs: required an integer, got 1.5"),
        ("train.epochs=", "train.epochs: required an integer, got ''"),
        ("train.epochs.x=3", "train.epochs.x: unknown key; did you mean train.epochs?"),
        ("optimizer.learning_rate=.1", "optimizer.learning_rate: required a number, such as 0.1 or 1e-3, got '.1'"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: required a finite number, got nan"),
        ("model.hidden=100", 'model.hidden: required a list, such as [1, 2] or ["a", "b"], got 100'),
        ("model.hidden=[1, 0]", "model.hidden[1]: required a value greater than or equal to 1, got 0"),
        ("data.drop_types=MISC", 'data.drop_types: required a list, such as [1, 2] or ["a", "b"], got \'MISC\''),
        ('data.drop_types=["a]', 'data.drop_types: required a list, such as [1, 2] or ["a", "b"], got \'["a]\''),
        ("model.hidden=[a]", "model.hidden[0]: required an integer, got 'a'"),
        (
            "text.files=[a]",
            "text: required a section of a tagger's config, got one of a config of word vectors; `windownet pretrain` "
            "takes that",
        ),
        ("data.train=\udcff", "data.train: required UTF-8 text without NUL, got '\\udcff'"),
        (
            'schedule.others={"optimizer.b1"={name="plateau"}}',
            "schedule.others.optimizer.b1.name: required another than 'plateau', which is for the rate; take 'step'",
        ),
    ],
)
def test_a_bad_override_is_blamed_on_the_argument(override, message):
    assert refusal([override], {"train": {"batch_size": 5}}) == f"argument {override!r}: {message}"


def test_what_the_file_has_wrong_is_blamed_on_the_file():
    assert refusal(["train.epochs=3"], {"train": {"seed": -1}}).startswith("a.toml: train.seed: required")
    assert refusal(["train.epochs=3"], {"train": 3}) == (
        "argument 'train.epochs=3': train is not a section in the config file"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "required a config file, found none; see configs/ for examples"),
        ("folder", "required a config file, got a directory; name a .toml file"),
        (b"[train]\n\xff", "required UTF-8 text, got byte 0xff; save it as UTF-8"),
        (b"[train", "required TOML; "),
        (b"x = ", "required TOML; "),
        (b"a\0b", "required TOML; "),
        (b"[train]\nepochs = 1\nepochs = 2", "required TOML; "),
    ],
)
def test_files_that_are_no_configs(tmp_path, content, message):
    path = tmp_path / "a.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(path)
    where = f"{path}:2" if content == b"[train]\n\xff" else path
    assert str(caught.value).startswith(f"{where}: {message}")
    assert "\n" not in str(caught.value)


def test_files_of_other_systems_are_read(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf[train]\r\nepochs = 3\r\n")
    assert load(tmp_path / "a.toml").train.epochs == 3
    (tmp_path / "b.toml").write_bytes(b"")
    assert load(tmp_path / "b.toml") == Config()


def changed(annotation, default, metadata):
    """A valid value that is not the default."""
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice not in (default, "hub", "freeze"))
    if typing.get_origin(annotation) is tuple:
        return (7, 9) if annotation == tuple[Width, ...] else ('"', "\u2028\\")
    if annotation is str:
        return f"{default}'\"\\ #=\n\r\t\u2028\u0085\x01\U0001f600"
    if annotation == dict[str, Curve]:
        return {"optimizer.eps": Curve(name="step", every=0.3), "words.anchor": Curve()}
    if annotation in (bool, dict[str, NonNegative]):
        return not default if annotation is bool else {'"output.*"': 2.0, "": 0.5}
    if annotation is int:
        return default + 2
    return (default + 0.99) / 2 if default < 1 else default + 0.5


def test_a_written_config_is_read_back_whole(tmp_path):
    tree = {}
    for key, field in FIELDS.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = changed(field.annotation, field.default, field.metadata)
    # Only cross-entropy can be smoothed.
    tree["regularization"]["label_smoothing"] = 0.0
    config = parse(tree, "a.toml")
    for key in FIELDS.keys() - {"regularization.label_smoothing"}:
        section, name = key.split(".")
        assert getattr(getattr(config, section), name) == tree[section][name] != FIELDS[key].default
    path = tmp_path / "a.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert load(path) == config
    path.write_text(Config().to_toml(), encoding="utf-8")
    assert load(path) == Config()


def test_a_number_that_float32_takes_for_0_is_refused():
    # XLA takes subnormal numbers for 0 as well.
    for number in ("1e-46", "1.17e-38"):
        message = "required a number that float32 does not take for 0, at least 1.18e-38, got"
        for key in ("optimizer.learning_rate", "optimizer.eps", "regularization.max_norm"):
            assert refusal([f"{key}={number}"]) == f"argument '{key}={number}': {key}: {message} {number}"
        rates = f"optimizer.rates={{words={number}}}"
        assert refusal([rates]).startswith(f"argument '{rates}': optimizer.rates: {message}")
    tree = {"optimizer": {"eps": 1.18e-38, "rates": {"words": 0.0}}, "regularization": {"max_norm": 0.0}}
    assert parse(tree, "a.toml").optimizer.eps == 1.18e-38


def test_a_number_too_large_for_float32_is_refused():
    message = (
        "argument 'regularization.l2=1e300': regularization.l2: required a number that float32 holds, at most 3.4e+38"
    )
    assert refusal(["regularization.l2=1e300"]) == f"{message}, got 1e+300"
    assert refusal(["optimizer.rates={words=1e300}"]).startswith(
        "argument 'optimizer.rates={words=1e300}': optimizer.rates"
    )


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.floats(2.0**-126, 1e38))
def test_texts_and_numbers_are_written_exactly(tmp_path_factory, text, number):
    config = parse({"data": {"train": text, "tag_names": [text]}, "optimizer": {"learning_rate": number}}, "a.toml")
    path = tmp_path_factory.getbasetemp() / "exact.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert load(path) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_of_the_project_load(path):
    config = load(path)
    assert config.data.source == "demo" or config.data.separator != "whitespace"
    # They take their files from data.root, which the command line gives.
    assert load(path, ["data.root=x"]).data.root == "x"


def test_the_configs_of_the_project_are_there():
    expected = {"demo", "conll2003", "wnut17", "uner_ewt", "btc", "ncbi_disease", "bc5cdr"}
    assert {path.stem for path in CONFIGS} >= expected
    assert load(CONFIGS[0].parent / "conll2003.toml").data.scheme == "IOB1"


def test_the_nonlinearities_are_those_of_the_ops():
    ops = {name for name, op in OPS.items() if getattr(nonlinearities, name, None) is op}
    assert set(typing.get_args(Nonlinearity)) == ops


def test_a_config_cannot_be_changed_by_accident():
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.train = types.SimpleNamespace()
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3


def test_decay_counts_the_rates_of_groups():
    optimizer = {"learning_rate": 1.0, "weight_decay": 0.5, "rates": {"words": 2.0}}
    with pytest.raises(InputError, match=r"optimizer.weight_decay: required less than 1 / optimizer.learning_rate"):
        parse({"optimizer": optimizer}, "test")


def test_only_cross_entropy_is_smoothed():
    tree = {"loss": {"name": "margin"}, "regularization": {"label_smoothing": 0.1}}
    with pytest.raises(InputError, match=r"required loss.name = 'cross_entropy' with it, got 'margin'"):
        parse(tree, "test")


def test_a_key_that_has_no_curve_is_answered_with_the_nearest_that_may():
    ending = refusal(['schedule.others={"regularization.hiden_dropout" = {name = "linear"}}'])[-100:]
    assert ending.endswith("got 'regularization.hiden_dropout'; did you mean regularization.hidden_dropout?")
    assert refusal(['schedule.others={"x" = {}}']).endswith("got 'x'; no other number may have a curve")


def test_every_number_of_a_step_but_the_rate_may_have_a_curve():
    scalars = {key for key, field in FIELDS.items() if float in (field.annotation, *typing.get_args(field.annotation))}
    sections = ("words.", "regularization.", "optimizer.")
    expected = {key for key in scalars if key.startswith(sections)} | {"train.average"}
    # The rate has the schedule itself; the other is used before the first step alone.
    assert set(SCHEDULABLE) == expected - {"optimizer.learning_rate", "optimizer.accumulator"}
    message = refusal(['schedule.others={"optimizer.learning_rate" = {}}'])
    assert message.endswith("the rate follows the section [schedule] itself; set schedule.name")


def test_a_factor_of_the_rate_may_have_a_curve_where_there_is_one():
    rates, curve = {"output.*": 2.0, "words": 0.5}, {"name": "linear"}
    config = parse({"optimizer": {"rates": rates}, "schedule": {"others": {"optimizer.rates.output.*": curve}}}, "test")
    assert keys.value(config, "optimizer.rates.output.*") == 2.0
    assert keys.replace(config, {"optimizer.rates.output.*": 3.0}).optimizer.rates == {**rates, "output.*": 3.0}
    assert config.optimizer.rates == rates
    ending = refusal(["optimizer.rates={words=2}", 'schedule.others={"optimizer.rates.word" = {}}'])[-80:]
    assert ending.endswith("got 'optimizer.rates.word'; did you mean optimizer.rates.words?")


def test_a_table_of_curves_is_told_as_toml_has_it():
    others = {"optimizer.b1": {"name": "linear", "final": 0.5}, "optimizer.eps": {}}
    assert keys.value(parse({"schedule": {"others": others}}, "test"), "schedule.others") == others


def test_an_array_of_a_program_may_stand_for_a_number():
    traced = object()
    changed = keys.replace(Config(), {"optimizer.b1": traced, "train.seed": 5})
    assert (changed.optimizer.b1, changed.optimizer.b2, changed.train.seed) == (traced, 0.999, 5)
