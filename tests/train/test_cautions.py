"""What train warns of before it begins."""

import pytest

from windownet import config as config_module
from windownet.errors import InputError
from windownet.train.cautions import cautions
from windownet.train.prepare import prepare

DATA = "Anna\tB-PER\nsaw\tO\nOslo\tB-LOC\n\n" * 6


@pytest.fixture
def prepared(tmp_path):
    (tmp_path / "a.conll").write_text(DATA)
    data = {"root": str(tmp_path), "train": "a.conll", "dev": "a.conll", "separator": "tab"}

    def make(**sections):
        data.update(sections.pop("data", {}))
        train = {"batch_size": 8, "epochs": 2} | sections.pop("train", {})
        return prepare(config_module.parse({"data": data, "train": train} | sections, "test"))

    return make


def test_a_plain_run_is_not_warned_of(prepared):
    assert cautions(prepared()) == []
    # 0.6 of a step is one.
    assert cautions(prepared(schedule={"warmup": 0.1})) == []
    assert cautions(prepared(optimizer={"rates": {"words": 0.1, "output.b": 3.0, "output.*": 2.0, "*": 0.5}})) == []


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"init": {"weights": "zeros"}}, "init.weights = 'zeros' gives all units of a layer the same gradient"),
        ({"init": {"weights": "zeros"}, "model": {"hidden": []}}, "init.weights = 'zeros': the vectors of words get"),
        ({"optimizer": {"name": "adamw"}}, "optimizer.name = 'adamw' without optimizer.weight_decay is adam; 0.01 is"),
        ({"optimizer": {"weight_decay": 0.1}}, "optimizer.weight_decay = 0.1 is decoupled, which makes optimizer.name"),
        (
            {"data": {"drop_types": ["LCO"]}},
            "data.drop_types: 'LCO' has no effect, as data.train has LOC, PER; did you",
        ),
        ({"train": {"batch_size": 19}}, "train.batch_size = 19 is more than the 18 training words: an epoch is one"),
        (
            {"train": {"batch_size": 5, "accumulate": 4}},
            "train.batch_size = 5 times train.accumulate = 4 is more than the 18 training words: an epoch is one step",
        ),
        (
            {"words": {"update": "auto", "anchor": 0.1, "vectors": "v.txt"}, "model": {"word_width": 1}},
            "words.anchor = 0.1 does nothing to the word table, which stays frozen",
        ),
        (
            {
                "words": {"update": "auto", "vectors": "v.txt"},
                "model": {"word_width": 1},
                "optimizer": {"rates": {"words": 2.0}},
            },
            "optimizer.rates = {words = 2} does nothing to the word table, which stays frozen",
        ),
        (
            {
                "words": {"update": "auto", "vectors": "v.txt"},
                "model": {"word_width": 1},
                "optimizer": {"name": "adamw", "weight_decay": 0.1},
            },
            "optimizer.weight_decay = 0.1 does nothing to the word table, which stays frozen",
        ),
        (
            {"optimizer": {"rates": {"*": 2.0, "words": 0.1}}},
            "optimizer.rates: 'words' has no effect, as all that it matches goes by '*' before it; put it first",
        ),
        (
            {"optimizer": {"rates": {"words": 3.0, "*.w": 2.0, "*.b": 0.5, "output.*": 0.1, "*": 2.0}}},
            "optimizer.rates: 'output.*' has no effect, as all that it matches goes by '*.b' and '*.w' before it; put",
        ),
        ({"schedule": {"warmup": 0.01}}, "schedule.warmup = 0.01 is less than half a step of this run's 6, so there"),
        (
            {"schedule": {"others": {"optimizer.b1": {"warmup": 0.01}}}},
            "schedule.others.optimizer.b1.warmup = 0.01 is less than half a step of this run's 6, so there is no warm",
        ),
        ({"schedule": {"warmup": 0.95}}, "schedule.warmup = 0.95 takes all of this run's 6 steps: nothing is left for"),
        (
            {"schedule": {"others": {"optimizer.b1": {"warmup": 0.99}}}},
            "schedule.others.optimizer.b1.warmup = 0.99 takes all of this run's 6 steps",
        ),
        ({"data": {"dev": "o.conll"}}, "data.dev: no mention among its sentences, 1, so that it tells no"),
        ({"features": {"min_count": 7}}, "features.min_count = 7: no word of training text is that frequent, so that"),
        ({"optimizer": {"rates": {"*": 0.0}}}, "optimizer.rates: they are 0 for all parameters, so that nothing"),
        ({"schedule": {"cycles": 2}}, "schedule.cycles = 2 has no effect with schedule.name = 'constant'; it is"),
    ],
)
def test_what_is_probably_not_meant(prepared, tmp_path, monkeypatch, sections, message):
    (tmp_path / "v.txt").write_text("anna 1\noslo 2\n")
    (tmp_path / "o.conll").write_text("saw\tO\n")
    monkeypatch.chdir(tmp_path)
    (line,) = cautions(prepared(**sections))
    assert line.startswith(message)


def test_no_window_is_filled_up_where_the_batch_holds_all(prepared):
    first = next(prepared(train={"batch_size": 10**9}).epochs.epoch(0))
    assert first.mask.shape == (1, 18)
    assert first.mask.all()


def test_more_batches_in_a_step_than_in_the_data(prepared):
    assert prepared(train={"batch_size": 5, "accumulate": 4}).epochs.steps == 1
    message = r"train.accumulate: required at most 4, the batches of 5 in the 18 training words, got 5"
    with pytest.raises(InputError, match=message):
        prepared(train={"batch_size": 5, "accumulate": 5})


def test_more_steps_than_are_counted(prepared, monkeypatch):
    monkeypatch.setattr("windownet.train.prepare._MOST_STEPS", 2_147)
    with pytest.raises(InputError, match=r"train.epochs: required at most 715, as an epoch has 3 steps and a run at"):
        prepared(train={"epochs": 716})


def test_tags_are_counted_in_the_training_data(prepared):
    with_bias = prepared(init={"output_bias": "log_odds"})
    counts = dict(zip(with_bias.tags, with_bias.network.initializers.tag_counts, strict=True))
    assert {tag: count for tag, count in counts.items() if count} == {"O": 6, "S-LOC": 6, "S-PER": 6}


def test_words_that_are_none_are_told_before_they_are_trained_on(prepared, tmp_path):
    (tmp_path / "pos.conll").write_text("Anna\tNN\tB-PER\nsaw\tVB\tO\n\n" * 600)
    (line,) = cautions(
        prepared(
            data={"root": str(tmp_path), "train": "pos.conll", "dev": "pos.conll", "separator": "tab", "word_column": 1}
        )
    )
    assert line.startswith("data.train: different words among its 1,200: only 2 ('NN', 'VB'); set data.word_column")
