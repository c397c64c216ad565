"""Running text to words.

The rule, first match wins: web and mail addresses, @names and #tags stay whole; so do dotted abbreviations (U.S.) and
a few common ones (Mr.), and numbers with their inner punctuation (1,000.5, 10:30, 3rd, 50%). The English clitics come
apart as treebanks have them (do n't, it 's, they 'll). Words keep inner hyphens and ampersands (well-known, AT&T).
Dots and dashes in a row stay together; any other sign is a word of its own; blanks part words.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?: https?:// | www\. ) \S+
    | [\w.+-]+ @ [\w-]+ (?: \. [\w-]+ )+
    | [@#] \w+
    | (?: [^\W\d_] \. ){2,}
    | (?: Mr | Mrs | Ms | Dr | Prof | St | Jr | Sr | Inc | Ltd | Co | Corp | No | vs ) \. (?! \w )
    | \d+ (?: [.,:/] \d+ )* (?: st\b | nd\b | rd\b | th\b | % )?
    | n['\u2019]t \b
    | ['\u2019] (?: s | re | ve | ll | d | m ) \b
    | \w+? (?= n['\u2019]t \b )
    | \w+ (?: [-&] \w+ )*
    | \.{2,} | -{2,}
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Token(NamedTuple):
    """A word and where it stands in its text, characters start .. end - 1."""

    text: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """The words of one line of running text, by the rule at the head of this file."""
    return [Token(match.group(), match.start(), match.end()) for match in _TOKEN.finditer(text)]
