"""Columns and schemes that were taken for what they are not."""

import pytest

from windownet.data import demo
from windownet.data.misread import looks_like_columns, misread
from windownet.data.sentences import Sentence
from windownet.schema.data import DataConfig


def sentences(words, tags=None):
    return [Sentence((word,), (tags[n % len(tags)] if tags else "O",), n + 1) for n, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "source", "expected"),
    [
        (
            ["NN", "VB", "NN"] * 400,
            "columns",
            "different words among its 1,200: only 2 ('NN', 'VB'); set data.word_c",
        ),
        (["NN"] * 1200, "hub", "different words among its 1,200: only 1 ('NN'); set data.words_column to the column"),
        ([f"{n}" for n in range(101)], "columns", "none of its 101 words has a letter in it; set data.word_column to"),
        ([f"{n}-{n}" for n in range(2000)], "table", "none of its 2,000 words has a letter in it; set data.words_col"),
    ],
)
def test_words_that_are_none(words, source, expected):
    ((check, message),) = misread(DataConfig(source=source), sentences(words))
    assert check == "words"
    assert message.startswith(expected)


@pytest.mark.parametrize(
    "words",
    [
        ["NN"] * 1000,
        [f"w{n % 50}" for n in range(9000)],
        [f"w{n % 12}" for n in range(1200)],
        [f"{n}" for n in range(100)],
        ["\u5317\u4eac", *["1"] * 100],
    ],
)
def test_words_that_may_be_some(words):
    assert misread(DataConfig(), sentences(words)) == []


def test_types_that_are_tags():
    read = sentences("abcd", ["B-B_ORG", "B-ORG", "O", "B-o"])
    message = "data.scheme = 'IO' makes types of 'B_ORG', 'o'; write 'B-ORG' for 'B_ORG', and so with every tag"
    assert misread(DataConfig(scheme="IO"), read) == [("types", message)]
    assert misread(DataConfig(scheme="IOB2"), read) == []


def test_the_embedded_corpus_is_read_right():
    assert misread(DataConfig(source="demo"), demo.sentences("train")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna NNP B-PER\nsaw VBD O\n\nOslo NNP B-LOC", True),
        ("Anna\t\tB-PER \nsaw it\t\tO", True),
        ("-DOCSTART- -X- O O\n\nEU", True),
        ("Anna B-PER\nsaw", False),
        ("Anna B-PER\nsaw it O", False),
        ("Anna PER\nsaw it", False),
        ("Vitamin O", False),
        ("O\nO", False),
        ("Anna saw Oslo .\nTom saw Rome .", False),
        ("", False),
    ],
)
def test_lines_of_columns(text, expected):
    assert looks_like_columns(text.split("\n")) is expected
