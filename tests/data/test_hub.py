"""Tables in the shapes that the hub's data sets have, written here and read without a network."""

import json
import subprocess
import sys

import datasets
import pytest

from windownet.data.hub import TableFormat, read_hub, read_table
from windownet.data.sentences import Sentence
from windownet.errors import InputError

CONLL2003 = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
WNUT17 = ("O", *(f"{prefix}-{type}" for type in ("corporation", "creative-work", "group") for prefix in "BI"))
WORDS = [["EU", "rejects", "German", "call"], [], ["Peter", "Blackburn"]]
IDS = [[3, 0, 7, 0], [], [1, 2]]
SENTENCES = [
    Sentence(("EU", "rejects", "German", "call"), ("B-ORG", "O", "B-MISC", "O"), 1),
    Sentence(("Peter", "Blackburn"), ("B-PER", "I-PER"), 3),
]


def table(names, words=WORDS, tags=IDS):
    """A table of the hub's usual shape: id, tokens, other tags, ner_tags as classes (or plain, without names)."""
    tag = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    features = {
        "id": datasets.Value("string"),
        "tokens": datasets.List(datasets.Value("string")),
        "pos_tags": datasets.List(datasets.Value("int64")),
        "ner_tags": datasets.List(tag),
    }
    ids = [str(row) for row in range(len(words))]
    rows = {"id": ids, "tokens": words, "pos_tags": [[0] * len(row) for row in words], "ner_tags": tags}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


@pytest.fixture
def written(tmp_path):
    """Writes a table as a Parquet, Arrow, JSON or JSONL file, and says where."""

    def write(data, suffix):
        path = tmp_path / f"a[1]{suffix}"
        if suffix == ".parquet":
            data.to_parquet(path)
        elif suffix == ".arrow":
            data.save_to_disk(tmp_path / "saved")
            (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(path)
        else:
            data.to_json(path, lines=suffix == ".jsonl")
        return path

    return write


@pytest.fixture
def hub_folder(tmp_path):
    """A data set of two splits, as a folder laid out like one of the hub."""
    (tmp_path / "set" / "data").mkdir(parents=True)
    table(CONLL2003).to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    table(CONLL2003, [["x"]], [[5]]).to_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet")
    return str(tmp_path / "set")


def jsonl(path, *rows):
    path.write_text("".join(json.dumps({"tokens": words, "ner_tags": tags}) + "\n" for words, tags in rows))
    return path


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_class_labels_are_named_by_the_table(written, tmp_path, suffix):
    assert read_table(written(table(CONLL2003), suffix), TableFormat(), cache_dir=tmp_path / "cache") == SENTENCES


def test_types_with_a_hyphen_are_read(written, tmp_path):
    path = written(table(WNUT17, [["the", "walking", "dead"]], [[3, 4, 4]]), ".parquet")
    (sentence,) = read_table(path, TableFormat(), cache_dir=tmp_path / "cache")
    assert sentence.tags == ("B-creative-work", "I-creative-work", "I-creative-work")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_plain_integers_are_named_by_the_format(written, tmp_path, suffix):
    path = written(table(CONLL2003), suffix)
    assert read_table(path, TableFormat(tag_names=CONLL2003), cache_dir=tmp_path / "cache") == SENTENCES


def test_strings_of_any_scheme_are_read(written, tmp_path):
    path = written(table((), tags=[["S-ORG", "O", "S-MISC", "O"], [], ["B-PER", "E-PER"]]), ".parquet")
    assert read_table(path, TableFormat(scheme="BIOES"), cache_dir=tmp_path / "cache") == SENTENCES
    path = written(table((), tags=[["ORG", "O", "MISC", "O"], [], ["PER", "PER"]]), ".jsonl")
    format = TableFormat(scheme="IO", drop_types=("MISC",))
    assert [one.tags for one in read_table(path, format, cache_dir=tmp_path / "cache")] == [
        ("B-ORG", "O", "O", "O"),
        ("B-PER", "I-PER"),
    ]


def test_columns_and_empty_words_follow_the_format(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"words": ["a", " "], "labels": ["B-X", "I-X"]}\n')
    format = TableFormat(words_column="words", tags_column="labels", empty_word="_")
    assert read_table(path, format, cache_dir=tmp_path / "cache") == [Sentence(("a", "_"), ("B-X", "I-X"), 1)]


def test_splits_of_a_data_set(hub_folder, tmp_path):
    options = {"cache_dir": tmp_path / "cache"}
    assert read_hub(hub_folder, "train", TableFormat(), **options) == SENTENCES
    assert read_hub(hub_folder, "train[:1]", TableFormat(), **options) == SENTENCES[:1]
    assert read_hub(hub_folder, "test", TableFormat(), **options) == [Sentence(("x",), ("B-LOC",), 1)]


def test_what_a_data_set_lacks_is_answered_by_what_it_has(hub_folder, tmp_path):
    options = {"cache_dir": tmp_path / "cache"}
    got = refusal(read_hub, hub_folder, "dev", TableFormat(), **options)
    assert f"{hub_folder} dev: required" in got
    assert "'train', 'test'" in got
    got = refusal(read_hub, hub_folder, "train", TableFormat(), subset="large", **options)
    assert "'large' not found" in got
    assert "'default'" in got
    got = refusal(read_hub, hub_folder, "train", TableFormat(words_column="words"), **options)
    assert "required a column 'words', got 'id', 'tokens', 'pos_tags', 'ner_tags'; set data.words_column" in got
    got = refusal(read_hub, hub_folder, "train", TableFormat(tags_column="tags"), **options)
    assert "required a column 'tags', got 'id', 'tokens', 'pos_tags', 'ner_tags'; set data.tags_column" in got


def test_a_script_data_set_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "conll2003").mkdir()
    (tmp_path / "conll2003" / "conll2003.py").write_text("")
    got = refusal(read_hub, str(tmp_path / "conll2003"), "train", TableFormat(), cache_dir=tmp_path / "cache")
    assert "datasets >= 4 refuses them; use a script-free copy such as lhoestq/conll2003" in got


def test_an_unreachable_hub_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    got = refusal(read_hub, "tomaarsen/conll2003", "train", TableFormat(), cache_dir=tmp_path / "cache")
    assert got.startswith("tomaarsen/conll2003 train: required the Hugging Face hub, which was not reached (")
    assert got.endswith("check the network and the name, or read a local file")


@pytest.mark.parametrize("shown", [True, False])
def test_nothing_is_printed_and_the_callers_settings_stay(tmp_path, shown):
    # A process of its own: loggers keep the standard error that there was when they were made.
    code = """
import logging, sys
import datasets, huggingface_hub
from windownet.data import hub
from windownet.errors import InputError

folder, shown = sys.argv[1], sys.argv[2] == "True"
bars = datasets.utils, huggingface_hub.utils
loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
for one in bars:
    one.enable_progress_bars() if shown else one.disable_progress_bars()
for n, logger in enumerate(loggers):
    logger.setLevel(21 + n)

def read(call, *arguments):
    try:
        call(*arguments, hub.TableFormat(), cache_dir=f"{folder}/cache")
        print("read")
    except InputError as error:
        print(error)
    print([not one.are_progress_bars_disabled() for one in bars] == 2 * [shown], [one.level for one in loggers])

datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
read(hub.read_table, f"{folder}/good.jsonl")
read(hub.read_table, f"{folder}/bad.json")
read(hub.read_hub, "tomaarsen/conll2003", "train")
"""
    jsonl(tmp_path / "good.jsonl", (["a"], ["O"]))
    (tmp_path / "bad.json").write_text("{nope")
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), str(shown)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1::2] == ["True [21, 22]"] * 3
    assert lines[0] == "read"
    assert "bad.json: required a data set to read, got: JSON parse error" in lines[2]
    assert lines[4].startswith("tomaarsen/conll2003 train: required the Hugging Face hub, which was not reached (")


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        ((["a", "b"], ["O"]), {}, "required as many tags as words, got 2 words in 'tokens' and 1 tags in 'ner_tags'"),
        (
            (["a"], ["E-X"]),
            {},
            "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'E-X', a tag of BIOES; set data.",
        ),
        (
            (["a", ""], ["O", "O"]),
            {},
            "required words in 'tokens', got an empty one (''); correct the row or set data.emp",
        ),
        ((["a", None], ["O", "O"]), {}, "required words in 'tokens', got None; set data.words_column"),
        ((["a"], [None]), {}, "required tags in 'ner_tags', got None; set data.tags_column"),
        ((None, ["O"]), {}, "required a list in column 'tokens', got None; name a column of lists"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, settings, expected):
    path = jsonl(tmp_path / "a.jsonl", (["a"], ["O"]), row)
    got = refusal(read_table, path, TableFormat(**settings), cache_dir=tmp_path / "cache")
    assert got.startswith(f"{path}, row 2: ")
    assert expected in got


@pytest.mark.parametrize(
    ("tag", "names", "expected"),
    [
        (
            9,
            CONLL2003,
            "required tags from 0 to 8 in 'ner_tags', got 9; set data.tag_names to the names of all tags (now",
        ),
        (-1, CONLL2003, "required tags from 0 to 8 in 'ner_tags', got -1; set data.tag_names"),
        (1, (), "required names for the integer tags in 'ner_tags', got none; set data.tag_names"),
        (1, ("O", "PER"), "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'PER', a tag of IO; set data.scheme"),
    ],
)
def test_integer_tags_need_fitting_names(tmp_path, tag, names, expected):
    path = jsonl(tmp_path / "a.jsonl", (["a"], [tag]))
    got = refusal(read_table, path, TableFormat(tag_names=names), cache_dir=tmp_path / "cache")
    assert got.startswith(f"{path}, row 1: {expected}")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "x", "a.csv: required a table that ends in .parquet, .arrow, .json, .jsonl; name such a file"),
        ("a.json", None, "a.json: required a file, found nothing there; check the path"),
        ("a.json", "{nope", "a.json: required a data set to read, got: JSON parse error"),
        ("a.parquet", "{nope", "a.parquet: required a data set to read, got: Parquet"),
        # datasets 4 says it in its own words.
        ("a.jsonl", "", "a.jsonl: required "),
        ("a.jsonl", '{"tokens": [], "ner_tags": []}\n', "a.jsonl: required at least one sentence, found no sentence"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert expected in refusal(read_table, tmp_path / name, TableFormat(), cache_dir=tmp_path / "cache")


def test_a_directory_is_no_table(tmp_path):
    (tmp_path / "a.arrow").mkdir()
    assert "a.arrow: required a file, got a directory" in refusal(read_table, tmp_path / "a.arrow", TableFormat())


def test_an_unknown_scheme_is_named():
    assert refusal(TableFormat, scheme="BIO") == "data.scheme: required one of IO, IOB1, IOB2, BIOES, got 'BIO'"


def test_importing_the_module_imports_no_data_set_library():
    code = "import sys, windownet.data.hub; sys.exit(sorted({'datasets', 'pyarrow', 'jax'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
