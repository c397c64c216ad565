"""What lines and sentences look like that are read as what they are not: allowed, but probably not meant."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from windownet.data.sentences import Sentence
from windownet.data.tags import problem, remedy, spans
from windownet.schema.data import DataConfig

# No text has so few different words; a column of parts of speech has.
_FEW_FORMS = 50
_FEW_FORMS_SHARE = 0.01
_MANY_WORDS = 1000
_SOME_WORDS = 100


class Misread(NamedTuple):
    """Something that was probably misread: the check that found it, and what to do about it."""

    check: str
    message: str


def misread(config: DataConfig, sentences: Sequence[Sentence]) -> list[Misread]:
    """Look for words that are none, and types that are tags.

    Args:
      config: how the sentences were read.
      sentences: of one part.
    """
    forms = Counter(word for sentence in sentences for word in sentence.words)
    words = forms.total()
    key = "data.word_column" if config.source == "columns" else "data.words_column"
    advice = f"set {key} to the column of the words, if that is another one"
    found = []
    if words > _SOME_WORDS and not any(any(map(str.isalpha, form)) for form in forms):
        found.append(Misread("words", f"none of its {words:,} words has a letter in it; {advice}"))
    elif words > _MANY_WORDS and len(forms) < min(_FEW_FORMS, _FEW_FORMS_SHARE * words):
        examples = ", ".join(repr(form) for form, _ in forms.most_common(3))
        found.append(Misread("words", f"different words among its {words:,}: only {len(forms)} ({examples}); {advice}"))
    if config.scheme == "IO":
        types = {span.type for sentence in sentences for span in spans(sentence.tags)}
        if tags := sorted(filter(remedy, types)):
            message = f"data.scheme = 'IO' makes types of {', '.join(map(repr, tags))}; {remedy(tags[0])}"
            found.append(Misread("types", message))
    return found


def looks_like_columns(lines: Sequence[str]) -> bool:
    """Whether lines of a text are rows of as many columns each, with a tag in the last one."""
    if any(line.startswith("-DOCSTART-") for line in lines):
        return True
    rows = [line.split("\t") if "\t" in line else line.split() for line in lines if line.strip()]
    # One line alone may well end in a capital O.
    return (
        len(rows) > 1
        and len({len(row) for row in rows}) == 1
        and all(len(row) > 1 and problem(row[-1].strip(), "BIOES") is None for row in rows)
    )
