import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.features import CAPITALIZATION, capitalization


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["dog", "don't", "\u00e9t\u00e9", "4th", "20", "...", "\u4e2d", "", "\u00df"], "none"),
        (["Dog", "\u00c9mile", "McDonald", "O'Brien", "Iphone"], "initial"),
        (["iPhone", "4Ever", "'Tis", "d'Angelo", "x\U0001d400"], "any"),
        (["USA", "U.S.", "A", "F16", "\u00c9", "AT&T", "1A"], "all"),
    ],
)
def test_classes(words, name):
    classes = capitalization(words)
    assert classes.dtype == np.int32
    assert [CAPITALIZATION[number] for number in classes] == [name] * len(words)


# Title-case digraphs are neither upper nor lower case.
@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Lt", "Cs"]), max_size=6))
def test_classes_are_as_defined(word):
    upper, lower = [any(map(is_it, word)) for is_it in (str.isupper, str.islower)]
    if upper and not lower:
        name = "all"
    elif word[:1].isupper():
        name = "initial"
    else:
        name = "any" if upper else "none"
    assert CAPITALIZATION[capitalization([word])[0]] == name


def test_no_word_is_padding():
    assert CAPITALIZATION[0] == "padding"
    assert capitalization([]).shape == (0,)
