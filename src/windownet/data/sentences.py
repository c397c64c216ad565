"""A labelled sentence: what every source of data gives."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sentence:
    """The words of one sentence and their tags.

    Attributes:
      words: T words as they were written.
      tags: T tags, always in IOB2 whatever the source used; empty where the source bears none.
      line: 1-based line of the first word in its source (its row, for tables), for messages.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int
