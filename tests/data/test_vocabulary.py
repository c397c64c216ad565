import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from windownet.data import vocabulary
from windownet.data.vocabulary import PADDING, RARE, Normalization, Vocabulary

KEEP = Normalization("keep", "keep")


@pytest.mark.parametrize(
    ("case", "digits", "pairs"),
    [
        ("keep", "keep", {"Paris": "Paris", "1999": "1999"}),
        ("lower", "keep", {"PARIS": "paris", "\u00c9T\u00c9": "\u00e9t\u00e9", "F16": "f16"}),
        ("keep", "zero", {"F16": "F00", "1,234.5": "0,000.0", "\u0663": "0"}),
        ("lower", "zero", {"F16": "f00"}),
        ("keep", "number", {"1,234.5": "NUMBER", "-3": "NUMBER", "10:30": "NUMBER", "F16": "F16", "3rd": "3rd"}),
        ("lower", "number", {"7": "NUMBER", "Number": "number", "-": "-", "1/2": "NUMBER"}),
    ],
)
def test_normalization(case, digits, pairs):
    normalization = Normalization(case, digits)
    assert {word: normalization(word) for word in pairs} == pairs


def test_rows_are_by_count_then_letters():
    built = Vocabulary.build([["b", "a", "c"], ["c", "B", "d"]], Normalization("lower", "keep"))
    assert built.words == ("<padding>", "<rare>", "b", "c", "a", "d")
    assert (PADDING, RARE, len(built)) == (0, 1, 6)


def test_min_count_counts_normalized_words():
    built = Vocabulary.build([["Oslo", "oslo", "1", "2", "once"]], Normalization("lower", "zero"), min_count=2)
    assert built.words[2:] == ("0", "oslo")


def test_words_that_can_have_no_row_have_none():
    built = Vocabulary.build([["<rare>", "<padding>", "two\nlines", "\u2028", "x\u0085y", "a\rb"]], KEEP)
    assert set(built.words[2:]) == {"\u2028", "x\u0085y", "a\rb"}
    assert built.encode(["<padding>", "<rare>", "two\nlines"]).tolist() == [RARE] * 3


@pytest.mark.parametrize("words", [["<rare>", "<padding>"], [], ["<padding>", "<rare>", "a", "a"]])
def test_a_broken_list_of_words_is_refused(words):
    with pytest.raises(ValueError, match="must begin with <padding>, <rare> and name no word twice"):
        Vocabulary(words, KEEP)


words = st.lists(st.text("aAbB1\u0130", min_size=1, max_size=2))


@settings(deadline=None)
@given(words, words, st.sampled_from(["lower", "keep"]), st.sampled_from(["keep", "zero", "number"]))
def test_a_word_has_the_row_of_its_normal_form(known, asked, case, digits):
    normalization = Normalization(case, digits)
    built = Vocabulary.build([known], normalization)
    rows = built.encode(asked)
    assert rows.dtype == np.int32
    forms = [(normalization(w), normalization(w).lower() if case == "keep" else "") for w in asked]
    expected = [next((form for form in both if form in built.words), "<rare>") for both in forms]
    assert [built.words[row] for row in rows] == expected
    assert (built.encode(known) > RARE).all()


def test_a_number_is_not_the_word_number():
    built = Vocabulary.build([["number"]], Normalization("keep", "number"))
    assert built.encode(["Number", "12"]).tolist() == [2, RARE]


def test_the_memory_of_words_has_an_end(monkeypatch):
    monkeypatch.setattr(vocabulary, "_REMEMBERED", 4)
    built = Vocabulary.build([["a"]], KEEP)
    for n in range(10):
        # More new words in one call than may be remembered: none of them may be lost on the way.
        assert built.encode(["a", *(f"{n}-{k}" for k in range(5)), "a"]).tolist() == [2, 1, 1, 1, 1, 1, 2]
        assert len(built._known) <= 10
        # What was forgotten makes room for what comes.
        assert f"{n}-4" in built._known
