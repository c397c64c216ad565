"""Running text to words.

The rule, first match wins: web addresses stay whole, but for signs at their end; so do mail addresses, @names, #tags,
dotted abbreviations (U.S.), a few common ones (Mr., No. before a number) and initials before a capital (John F.
Kennedy; not I, which ends sentences); so do numbers with their inner punctuation and what is joined to them (1,000.5,
10:30, 3rd, 1990s, 20-year-old, 50%). The English clitics come apart as treebanks have them (do n't, it 's, they 'll).
Words keep inner hyphens, ampersands and other apostrophes (well-known, AT&T, O'Brien). Dots and dashes in a row stay
together; any other sign is a word of its own; blanks part words.
"""

import re
from typing import NamedTuple

_CLITIC = r"['\u2019] (?: s | re | ve | ll | d | m ) \b"
_CAPITAL = "[A-Z\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0400-\u042f]"
# What precedes an @ is bounded (RFC 5321 allows 64), or a line without blanks would take the square of its length.
_TOKEN = re.compile(
    rf"""
      (?: https?:// | www\. ) \S* [\w/]
    | [\w.+-]{{1,64}} @ [\w-]+ (?: \. [\w-]+ )+
    | [@#] \w+
    | (?: [^\W\d_] \. ){{2,}}
    | (?: Mr | Mrs | Ms | Dr | Prof | St | Jr | Sr | Inc | Ltd | Co | Corp | vs ) \. (?! \w )
    | No \. (?= \s* \d )
    | (?-i: (?! I ) {_CAPITAL} \. (?= \s+ {_CAPITAL} ) )
    | \d+ (?: [.,:/] \d+ )* \w* (?: [-&] \w+ )* %?
    | n['\u2019]t \b
    | {_CLITIC}
    | \w+? (?= n['\u2019]t \b )
    | \w+ (?: (?: [-&] | (?! {_CLITIC} ) ['\u2019] ) \w+ )*
    | \.{{2,}} | -{{2,}}
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


def words(text: str) -> list[str]:
    """The same words without their places."""
    return _TOKEN.findall(text)
