"""Sentences out of column files: one token a row, a blank line between sentences."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from windownet.data.sentences import Sentence
from windownet.data.tags import SCHEMES, problem, remedy, to_iob2
from windownet.errors import InputError
from windownet.schema.choices import Separator

SEPARATORS: tuple[Separator, ...] = get_args(Separator)

_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class ColumnFormat:
    """How a column file is laid out.

    Attributes:
      word_column: column of the word, from 0; a negative one counts from the end of the row.
      tag_column: column of the tag, likewise; None where the file bears no tags.
      separator: 'tab' or 'space' (exactly one between columns) or 'whitespace' (any run of tabs and spaces).
      comment: lines that start with it are left out; empty: no line is a comment.
      document_marker: rows whose word it is are left out and end the sentence; empty: no row is one.
      scheme: the tags' scheme, one of `windownet.data.tags.SCHEMES`.
      drop_types: types whose mentions become O.
      empty_word: stands for a word of nothing but blanks; empty: such a word is an error.
    """

    word_column: int = 0
    tag_column: int | None = -1
    separator: str = "tab"
    comment: str = ""
    document_marker: str = "-DOCSTART-"
    scheme: str = "IOB2"
    drop_types: tuple[str, ...] = ()
    empty_word: str = ""

    def __post_init__(self) -> None:
        for key, value, choices in (("separator", self.separator, SEPARATORS), ("scheme", self.scheme, SCHEMES)):
            if value not in choices:
                raise InputError(f"data.{key}: required one of {', '.join(choices)}, got {value!r}")
        if self.tag_column == self.word_column:
            raise InputError(f"data.tag_column: required another column than data.word_column, got {self.tag_column}")

    def split(self, text: str) -> list[str]:
        """The columns of a row."""
        if self.separator == "whitespace":
            return _BLANKS.split(text.strip(" \t"))
        return text.split("\t" if self.separator == "tab" else " ")

    def append(self, line: bytes, column: str) -> bytes:
        """A row as it is, whatever separates its columns and ends it, with one column more."""
        row = line.rstrip(b"\r\n")
        has_tabs = self.separator == "tab" or (self.separator == "whitespace" and b"\t" in row)
        return row + (b"\t" if has_tabs else b" ") + column.encode() + line[len(row) :]

    @property
    def _required_columns(self) -> int:
        columns = [self.word_column] if self.tag_column is None else [self.word_column, self.tag_column]
        required = max(column + 1 if column >= 0 else -column for column in columns)
        # In a row just too short for both, 0 and -1 are one and the same column.
        return required + 1 if len({column % required for column in columns}) < len(columns) else required


class Block(NamedTuple):
    """Lines that stand together: a sentence and the blank line or document marker that ends it, or one other line.

    Attributes:
      words: T words; none where the line is no row.
      rows: the T rows' columns, unchanged.
      lines: the T rows' 1-based lines.
      raw: all lines as they came, in order, and whether each is a row.
    """

    words: list[str]
    rows: list[list[str]]
    lines: list[int]
    raw: list[tuple[bytes, bool]]


def read(path: str | Path, format: ColumnFormat) -> list[Sentence]:
    """Reads all sentences of a column file.

    Raises:
      InputError: the file cannot be read, is not of this format, or has no sentence in it.
    """
    sentences = list(stream(file_lines(path), str(path), format))
    if not sentences:
        raise InputError(f"{path}: required at least one sentence, found no sentence in it; check the file")
    return sentences


def stream(lines: Iterable[bytes], name: str, format: ColumnFormat) -> Iterator[Sentence]:
    """Reads sentences one at a time, holding no more than one.

    Args:
      lines: lines as bytes, with or without their ends.
      name: what to call the source in messages.
      format: how the lines are laid out.

    Yields:
      The sentences in order; their tags are empty where the format has no tag column.

    Raises:
      InputError: a line is not of this format.
    """
    column = format.tag_column
    valid: set[str] = set()
    for block in blocks(lines, name, format):
        tags: tuple[str, ...] = ()
        if column is not None:
            written = [row[column].strip() for row in block.rows]
            for line, tag in zip(block.lines, written, strict=True):
                if tag in valid:
                    continue
                if wrong := problem(tag, format.scheme):
                    advice = remedy(tag) or "set data.scheme or data.tag_column to what the file has"
                    if not tag and format.separator == "space":
                        advice = "set data.separator=whitespace, if blanks end its rows, or data.tag_column to its tags"
                    raise InputError(f"{name}:{line}: {wrong}; {advice}")
                valid.add(tag)
            tags = to_iob2(written, format.scheme, format.drop_types)
        yield Sentence(tuple(block.words), tags, block.lines[0])


def blocks(lines: Iterable[bytes], name: str, format: ColumnFormat) -> Iterator[Block]:
    """Reads sentences one at a time with all their columns, leaving the tags unread.

    Args, raises: as `stream`.

    Yields:
      The sentences in order.
    """
    return (block for block in all_blocks(lines, name, format) if block.words)


def all_blocks(lines: Iterable[bytes], name: str, format: ColumnFormat) -> Iterator[Block]:
    """As `blocks`, and between the sentences what stands there: every line is in one of the blocks.

    Args, raises: as `stream`.

    Yields:
      The blocks in order.
    """
    required = format._required_columns
    block = Block([], [], [], [])
    for line, raw in enumerate(lines, start=1):
        text = decode_line(raw, name, line)
        if "\r" in text and _are_rows(text.split("\r"), format):
            # They would be one row, of which the first word and the last tag were read.
            raise InputError(
                f"{name}:{line}: required rows that end in a line feed, got some that end in a carriage return alone "
                f"({_shorten(text)!r}); convert the file's line ends"
            )
        is_comment = bool(format.comment) and text.startswith(format.comment)
        columns = [] if is_comment or not text or text.isspace() else format.split(text)
        is_row = bool(columns) and not _is_marker(columns, format)
        block.raw.append((raw, is_row))
        if is_row:
            if len(columns) < required:
                raise InputError(
                    f"{name}:{line}: required at least {required} columns separated by {_NAMES[format.separator]}, "
                    f"got {len(columns)} ({_shorten(text)!r}); set data.separator or the columns to what the file has"
                )
            word = columns[format.word_column].strip() or format.empty_word
            if not word:
                raise InputError(
                    f"{name}:{line}: required a word in column {format.word_column}, got an empty one "
                    f"({_shorten(text)!r}); correct the row or set data.empty_word to the word that shall stand for it"
                )
            block.words.append(word)
            block.rows.append(columns)
            block.lines.append(line)
        elif not (is_comment and block.words):
            yield block
            block = Block([], [], [], [])
    if block.raw:
        yield block


def comments_like_rows(lines: Iterable[bytes], name: str, format: ColumnFormat) -> list[int]:
    """Numbers of the lines, from 1, that are comments, but would be rows as the first is, with a tag of the scheme.

    Args, raises: as `stream`.
    """
    found, width, column = [], 0, format.tag_column
    for line, raw in enumerate(lines, start=1):
        text = decode_line(raw, name, line)
        if text.startswith(format.comment):
            row = format.split(text)
            if len(row) == width and column is not None and problem(row[column].strip(), format.scheme) is None:
                found.append(line)
        elif not width and text.strip() and not _is_marker(row := format.split(text), format):
            width = len(row)
    return found


def file_lines(path: str | Path) -> Iterator[bytes]:
    """Reads a file line by line, as bytes.

    Raises:
      InputError: the file is missing, a directory, or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            yield from file
    except FileNotFoundError:
        raise InputError(f"{path}: required a file, found nothing there; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: required a file, got a directory; name a file in it") from None
    except OSError as error:
        raise InputError(f"{path}: required a file that can be read, got '{error.strerror}'; check it") from error


_NAMES = {"tab": "a tab", "space": "a space", "whitespace": "whitespace"}


def decode_line(raw: bytes, name: str, line: int) -> str:
    """The text of one line, without a byte-order mark or line end.

    Raises:
      InputError: it is not UTF-8, or holds a NUL.
    """
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}:{line}: required UTF-8, got byte 0x{error.object[error.start]:02x} at byte {error.start} of the "
            "line; convert the file to UTF-8"
        ) from None
    if "\0" in text:
        raise InputError(
            f"{name}:{line}: required text, got a NUL at character {text.index(chr(0))} of the line; "
            "remove it, or convert the file to UTF-8 if it is UTF-16"
        )
    return text.rstrip("\r\n")


def _is_marker(columns: list[str], format: ColumnFormat) -> bool:
    marker = format.document_marker
    if not marker or marker not in columns:
        return False
    # A marker row may be shorter than the others, down to the marker alone.
    return columns[0] == marker or marker in columns[format.word_column :][:1]


def _are_rows(parts: list[str], format: ColumnFormat) -> bool:
    rows = [format.split(part) for part in parts if part and not part.isspace()]
    return len(rows) > 1 and all(len(columns) >= format._required_columns for columns in rows)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
