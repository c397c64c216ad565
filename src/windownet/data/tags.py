"""Tag schemes: mentions to tags and back, read as conlleval reads them."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, get_args

from windownet.schema.choices import Scheme

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

_PREFIXES = {"IO": ("I",), "IOB1": ("B", "I"), "IOB2": ("B", "I"), "BIOES": ("B", "I", "E", "S")}

_ENCODINGS = {
    # scheme: prefix of the only, the first, an inner and the last token of a mention
    "IO": ("I", "I", "I", "I"),
    "IOB1": ("I", "I", "I", "I"),
    "IOB2": ("B", "B", "I", "I"),
    "BIOES": ("S", "B", "I", "E"),
}

_MISSPELT = re.compile(r"(?P<prefix>[BIESULbiesul])(?P<joint>[-_])(?P<type>.+)")


class Span(NamedTuple):
    """A mention: tokens `start` to `end`, `end` not among them, of entity type `type`."""

    start: int
    end: int
    type: str


def spans(tags: Iterable[str]) -> list[Span]:
    """Decodes the tags of one sentence, whatever their scheme and however ill-formed, as conlleval does.

    The rule is the union of conlleval.pl and its later ports, which add S- and let B- break after E-:

        before \\ now    O         B-X     I-X        E-X        S-X
        start, O        outside   starts  starts     starts     starts
        B-X, I-X        ends      starts  continues  continues  starts
        E-X, S-X        ends      starts  starts     starts     starts
        another type    ends      starts  starts     starts     starts

    "starts" ends the mention before it. So an I- or E- with nothing to continue opens a mention of its own, and nothing
    but O is outside. The end of the sentence counts as O. The type is all that follows the first '-'.

    Args:
      tags: T tags; 'O', or B-, I-, E- or S- and a type.

    Returns:
      The mentions in order, none overlapping another.

    Raises:
      ValueError: a tag has another prefix, so that no scheme gives it a meaning.
    """
    found: list[Span] = []
    start = length = 0
    type = ""
    inside = unfinished = False
    for position, tag in enumerate(tags):
        length = position + 1
        prefix, _, now = tag.partition("-")
        if prefix == "O":
            if inside:
                found.append(Span(start, position, type))
            inside = unfinished = False
            continue
        if prefix not in ("B", "I", "E", "S"):
            raise ValueError(f"token {position}: required 'O' or a tag that starts with B-, I-, E- or S-, got {tag!r}")
        if not (unfinished and prefix in ("I", "E") and now == type):
            if inside:
                found.append(Span(start, position, type))
            start, type, inside = position, now, True
        unfinished = prefix in ("B", "I")
    if inside:
        found.append(Span(start, length, type))
    return found


def encode(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """Writes mentions as the tags of a sentence.

    IO cannot tell two touching mentions of one type apart: they come back from it as one.

    Args:
      spans: mentions in order, none overlapping another.
      length: T, the tokens of the sentence.
      scheme: one of SCHEMES.

    Returns:
      T tags.

    Raises:
      ValueError: the scheme is unknown, or a mention is empty, overlaps its predecessor or leaves the sentence.
    """
    _require_scheme(scheme)
    tags = ["O"] * length
    before = Span(0, 0, "")
    for span in spans:
        start, end, type = span
        if not before.end <= start < end <= length:
            raise ValueError(f"required mentions in order inside {length} tokens, got {span} after {before}")
        touching = start == before.end > 0 and type == before.type
        only, first, inner, last = _ENCODINGS["IOB2" if scheme == "IOB1" and touching else scheme]
        tags[start:end] = [f"{inner}-{type}"] * (end - start)
        if end - start == 1:
            tags[start] = f"{only}-{type}"
        else:
            tags[start] = f"{first}-{type}"
            tags[end - 1] = f"{last}-{type}"
        before = span
    return tags


def convert(tags: Sequence[str], scheme: str) -> list[str]:
    """Rewrites the tags of one sentence, of any scheme, in `scheme`."""
    return encode(spans(tags), len(tags), scheme)


def to_iob2(tags: Sequence[str], scheme: str, drop_types: Collection[str] = ()) -> tuple[str, ...]:
    """Rewrites the tags of one sentence as a source gives them.

    Args:
      tags: T tags in which `problem` finds nothing under `scheme`.
      scheme: the source's scheme; under IO a bare type is an I- tag.
      drop_types: types whose mentions become O.

    Returns:
      T tags in IOB2.
    """
    if scheme == "IO":
        tags = [tag if tag == "O" or tag.startswith("I-") else f"I-{tag}" for tag in tags]
    return tuple(encode((span for span in spans(tags) if span.type not in drop_types), len(tags), "IOB2"))


def labels(types: Iterable[str], scheme: str) -> list[str]:
    """Lists every tag of a scheme over some entity types.

    Args:
      types: entity types, in any order.
      scheme: one of SCHEMES.

    Returns:
      'O', then type by type in sorted order the scheme's prefixes: B-, I-, E-, S-.

    Raises:
      ValueError: the scheme is unknown.
    """
    _require_scheme(scheme)
    return ["O", *(f"{prefix}-{type}" for type in sorted(set(types)) for prefix in _PREFIXES[scheme])]


def problem(tag: str, scheme: str) -> str | None:
    """Says what is wrong with one tag, apart from its neighbours.

    Args:
      tag: a tag as a source has it.
      scheme: one of SCHEMES; IO accepts a bare type ('PER') for 'I-PER'.

    Returns:
      None where nothing is wrong, else what was required and what came, for a message.

    Raises:
      ValueError: the scheme is unknown.
    """
    _require_scheme(scheme)
    if _accepts(tag, scheme):
        return None
    allowed = "'O'" + "".join(f", '{prefix}-TYPE'" for prefix in _PREFIXES[scheme])
    return f"required a tag of {scheme} ({allowed}), got {tag!r}{_likeness(tag)}"


def remedy(tag: str) -> str | None:
    """How to write a tag that is misspelt, or of a scheme that is not known; None where it is neither."""
    if tag == "o":
        return "write 'O' for 'o'"
    found = _MISSPELT.fullmatch(tag)
    if found is None or (found["prefix"] in "BIES" and found["joint"] == "-"):
        return None
    if found["prefix"].upper() in "UL":
        return "write U- as S- and L- as E-, which data.scheme=BIOES reads"
    right = f"{found['prefix'].upper()}-{found['type']}"
    return f"write {right!r} for {tag!r}, and so with every tag"


def _likeness(tag: str) -> str:
    if remedy(tag) is not None:
        return ", a tag of BILOU" if tag[0].upper() in "UL" else ""
    other = next((name for name in ("IOB2", "BIOES") if _accepts(tag, name)), None)
    # Any text would be a type, but a number is that of another column, and M-PER a tag of a scheme that is not known.
    if other is None and _accepts(tag, "IO") and re.match(r"[^\W\d_](?![-_])", tag):
        other = "IO"
    return f", a tag of {other}" if other else ""


def _accepts(tag: str, scheme: str) -> bool:
    if tag == "O":
        return True
    prefix, _, type = tag.partition("-")
    if prefix in ("", "O", "B", "I", "E", "S"):
        return prefix in _PREFIXES[scheme] and type != ""
    return scheme == "IO"


def _require_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: required one of {', '.join(SCHEMES)}, got {scheme!r}")
