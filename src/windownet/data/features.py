"""What is told of a word beside the word itself: how it is capitalized (Collobert et al. 2011, section 6)."""

from collections.abc import Sequence

import numpy as np

CAPITALIZATION = ("padding", "none", "initial", "any", "all")


def capitalization(words: Sequence[str]) -> np.ndarray:
    """Class numbers, int32 [T], of T words; the names are those of `CAPITALIZATION`.

    all: an upper-case letter and no lower-case one; initial: the first character is upper case; any: an upper-case
    letter further in; none: no upper-case letter.
    """
    return np.fromiter((_class(word) for word in words), np.int32, len(words))


def _class(word: str) -> int:
    if word.islower():
        return 1
    if word.isupper():
        return 4
    if word[:1].isupper():
        return 2
    return 3 if any(map(str.isupper, word)) else 1
