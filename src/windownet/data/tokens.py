"""Running text to words.

The rule, first match wins: web addresses stay whole, but for signs at their end; so do mail addresses, @names, #tags,
dotted abbreviations (U.S.), a few common ones (Mr., No. before a number) and initials before a capital (John F.
Kennedy; not I, which ends sentences); so do numbers with their inner punctuation and what is joined to them (1,000.5,
10:30, 3rd, 1990s, 20-year-old, 50%). The English clitics come apart as treebanks have them (do n't, it 's, they 'll).
Words keep inner hyphens, ampersands and other apostrophes (well-known, AT&T, O'Brien). Dots and dashes in a row stay
together; any other sign is a word of its own; blanks part words. What stands on a letter or sign stays with it: accents
and vowel signs that are characters of their own (as in Hindi, Thai, or text in normal form D), joiners within words and
emoji, skin tones, both letters of a flag.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_CLITIC = r"['\u2019] (?: s | re | ve | ll | d | m ) \b"
_CAPITAL = "[A-Z\u00c0-\u00d6\u00d8-\u00de\u0391-\u03a9\u0400-\u042f]"
# What precedes an @ is bounded (RFC 5321 allows 64), or a line without blanks would take the square of its length.


def _ranges(numbers: Iterator[int]) -> str:
    """Characters by their numbers, rising, as the inside of a character class."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)


@functools.cache
def _token() -> re.Pattern[str]:
    # Compiled when it is first asked for: the marks of all planes that have some take some milliseconds to find.
    marks = _ranges(n for n in (*range(0x20000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(n))[0] == "M")
    # With the soft hyphen, the two joiners, skin tones, tags of flags. In their own case: the mark that stands for an
    # iota under a letter has iota for a capital. A look ahead, since a class of hundreds of ranges is slow.
    signs = r"\u00ad\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
    on = rf"(?-i: (?= [\u00ad\u0300-\U0010ffff] ) [{signs}{marks}] )"
    word = rf"\w+ (?: {on}+ \w* )*"
    return re.compile(
        rf"""
          (?: https?:// | www\. ) \S* [\w/] {on}*
        | [\w.+-]{{1,64}} @ [\w-]+ (?: \. [\w-]+ )+
        | [@#] {word}
        | (?: [^\W\d_] {on}* \. ){{2,}}
        | (?: Mr | Mrs | Ms | Dr | Prof | St | Jr | Sr | Inc | Ltd | Co | Corp | vs ) \. (?! \w )
        | No \. (?= \s* \d )
        | (?-i: (?! I ) {_CAPITAL} {on}* \. (?= \s+ {_CAPITAL} ) )
        | \d+ (?: [.,:/] \d+ )* \w* (?: {on}+ \w* )* (?: [-&] {word} )* %?
        | n['\u2019]t \b
        | {_CLITIC}
        | \w+? (?= n['\u2019]t \b )
        | {word} (?: (?: [-&] | (?! {_CLITIC} ) ['\u2019] ) {word} )*
        | \.{{2,}} | -{{2,}}
        | [\U0001f1e6-\U0001f1ff]{{2}} {on}*
        | \S {on}* (?: (?<= \u200d ) [^\w\s] {on}* )*
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
    return [Token(match.group(), match.start(), match.end()) for match in _token().finditer(text)]


def words(text: str) -> list[str]:
    """The same words without their places."""
    return _token().findall(text)
