import dataclasses

import numpy as np
import pytest

from windownet.data import sources
from windownet.data.columns import ColumnFormat
from windownet.data.hub import TableFormat
from windownet.errors import InputError
from windownet.schema.data import DataConfig

# Every field that a layout takes from the config, with values that are not the defaults.
LAYOUT = {
    "word_column": 1,
    "tag_column": 2,
    "separator": "space",
    "comment": "%",
    "document_marker": "-NEW-",
    "scheme": "IOB1",
    "drop_types": ("MISC",),
    "empty_word": "_",
    "words_column": "words",
    "tags_column": "labels",
    "tag_names": ("O", "I-X"),
}


def write(path, count, word="w"):
    path.write_text("".join(f"{word}{n} B-X\n\n" for n in range(count)))
    return path


def words(sentences):
    return [sentence.words[0] for sentence in sentences]


def test_the_parts_are_files_under_the_root(tmp_path):
    for part, count in (("a", 3), ("b", 2), ("c", 1)):
        write(tmp_path / part, count, part)
    splits = sources.load(DataConfig(root=str(tmp_path), train="a", dev="b", test="c"))
    assert (words(splits.train), words(splits.dev), words(splits.test)) == (["a0", "a1", "a2"], ["b0", "b1"], ["c0"])
    assert not splits.held_out
    splits = sources.load(DataConfig(root="elsewhere", train=str(tmp_path / "a"), dev=str(tmp_path / "b")))
    assert (len(splits.train), splits.test) == (3, [])


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a", 1)
    assert words(sources.read(DataConfig(), "~/a")) == ["w0"]
    assert words(sources.read(DataConfig(root="~"), "a")) == ["w0"]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "~a", 1, "tilde")
    assert words(sources.read(DataConfig(), "~a")) == ["tilde0"]


@pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.5, 10), (0.001, 1), (0.94, 19)])
def test_dev_is_held_out_where_none_is_named(tmp_path, share, count):
    config = DataConfig(train=str(write(tmp_path / "a", 20)), dev_share=share)
    splits = sources.load(config)
    assert splits.held_out
    assert len(splits.dev) == count
    everything = [f"w{n}" for n in range(20)]
    # Both keep the order of the file, and together are the file.
    assert sorted(words(splits.train) + words(splits.dev), key=everything.index) == everything
    assert [sorted(part, key=everything.index) for part in (words(splits.train), words(splits.dev))] == [
        words(splits.train),
        words(splits.dev),
    ]
    assert sources.load(config) == splits


@pytest.mark.parametrize(("count", "share"), [(1, 0.1), (2, 0.9)])
def test_too_few_sentences_to_hold_out(tmp_path, count, share):
    with pytest.raises(InputError, match=f"data.dev: required a development part, .* got {count}"):
        sources.load(DataConfig(train=str(write(tmp_path / "a", count)), dev_share=share))


def test_types_to_drop_are_those_of_the_training_part(tmp_path):
    text = "a B-LOC\nb B-PER\nc I-PER\nd B-LOC\n\n"
    (tmp_path / "train").write_text(text * 3 + "x B-RARE\n\n")
    (tmp_path / "dev").write_text("a B-LOC\nb B-NEW\n\n")
    options = {"root": str(tmp_path), "dev": "dev", "limit": 2}
    splits = sources.load(DataConfig(**options, drop_types=("RARE", "LOC")))
    assert [one.tags for one in (*splits.train, *splits.dev)] == [("O", "B-PER", "I-PER", "O")] * 2 + [("O", "B-NEW")]
    assert not splits.not_there
    for names, name, advice in ((("LOC", "LOCC"), "LOCC", "; did you mean LOC?"), (("NEW",), "NEW", "")):
        said = f"data.drop_types: {name!r} has no effect, as data.train has LOC, PER, RARE{advice}"
        assert sources.load(DataConfig(**options, drop_types=names)).not_there == (said,)
    (tmp_path / "train").write_text("a O\n\n")
    (said,) = sources.load(DataConfig(**options, drop_types=("LOC",))).not_there
    assert said.endswith("as data.train has none")


def test_a_limit_takes_sentences_from_all_of_a_part(tmp_path):
    (tmp_path / "train").write_text("".join(f"w{n} O\n\n" for n in range(10)))
    (tmp_path / "dev").write_text("v O\n\n")
    taken = sources.load(DataConfig(root=str(tmp_path), dev="dev", limit=4)).train
    assert [sentence.words for sentence in taken] == [("w0",), ("w2",), ("w5",), ("w7",)]


def test_what_is_held_out_is_drawn_from_all_of_a_part_and_the_limit_is_of_the_rest(tmp_path):
    (tmp_path / "train").write_text("".join(f"w{n} O\n\n" for n in range(100)))
    splits = sources.load(DataConfig(root=str(tmp_path), train="train", dev_share=0.1))
    held_out = [int(sentence.words[0][1:]) for sentence in splits.dev]
    assert len(held_out) == 10 and min(np.diff(held_out)) >= 1 and max(np.diff(held_out)) > 1
    assert min(held_out) < 50 < max(held_out)
    fewer = sources.load(DataConfig(root=str(tmp_path), train="train", dev_share=0.1, limit=5))
    assert fewer.dev == splits.dev
    assert fewer.train == [splits.train[n] for n in (0, 18, 36, 54, 72)]


def test_types_of_the_demo_corpus_are_dropped():
    splits = sources.load(DataConfig(source="demo", dev="dev", drop_types=("LOC",)))
    for part in (splits.train, splits.dev):
        assert {tag[2:] for sentence in part for tag in sentence.tags} == {"", "MISC", "ORG", "PER"}
    (said,) = sources.load(DataConfig(source="demo", drop_types=("LOCC",))).not_there
    assert said.endswith("did you mean LOC?")


def test_the_demo_corpus_is_read_by_split(monkeypatch):
    monkeypatch.setattr("windownet.data.demo.sentences", lambda split: [f"the {split} sentences"])
    config = DataConfig(source="demo")
    assert sources.read(config, "dev") == ["the dev sentences"]
    with pytest.raises(
        InputError, match=r"mine\.conll: required a split .*train, dev, test.*; set data.source=columns"
    ):
        sources.read(config, "mine.conll")


def test_layouts_are_the_configs(monkeypatch):
    config = DataConfig(**LAYOUT, root="r", dataset="d", subset="s")
    layout = dataclasses.asdict(sources.column_format(config))
    assert layout == {name: LAYOUT[name] for name in layout}
    assert layout.keys() == {field.name for field in dataclasses.fields(ColumnFormat)}
    calls = []
    monkeypatch.setattr("windownet.data.hub.read_table", lambda *args, **options: calls.append((args, options)) or [])
    monkeypatch.setattr("windownet.data.hub.read_hub", lambda *args, **options: calls.append((args, options)) or [])
    sources.read(config.model_copy(update={"source": "table"}), "p")
    sources.read(config.model_copy(update={"source": "hub"}), "p")
    sources.read(config.model_copy(update={"source": "hub", "subset": ""}), "p")
    table = TableFormat(**{field.name: LAYOUT[field.name] for field in dataclasses.fields(TableFormat)})
    assert [(str(args[0]), *args[1:], options) for args, options in calls] == [
        ("r/p", table, {}),
        ("d", "p", table, {"subset": "s"}),
        ("d", "p", table, {"subset": None}),
    ]
