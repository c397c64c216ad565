import errno
import io
import json
import os
import re
import threading
from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.columns import ColumnFormat
from windownet.data.tags import spans
from windownet.data.tokens import tokenize
from windownet.errors import InputError
from windownet.schema.choices import TagFormat
from windownet.tagger import stream

PLAIN = ColumnFormat(tag_column=None)
FORMS = pytest.mark.parametrize("form", get_args(TagFormat))


class Capitals:
    """A tagger that finds mentions in runs of capitalized words, and writes BIOES."""

    def __init__(self):
        self.calls = []

    def tag(self, sentences):
        self.calls.append([list(words) for words in sentences])
        return [self.tags(words) for words in sentences]

    def tags(self, words):
        inside = [False, *(word[:1].isupper() for word in words), False]
        names = {(False, False): "S", (False, True): "B", (True, True): "I", (True, False): "E"}
        return [f"{names[inside[n - 1], inside[n + 1]]}-PER" if inside[n] else "O" for n in range(1, len(inside) - 1)]


def tag_text(data, form="column", tagger=None, scheme="IOB2"):
    out = []
    source = data if isinstance(data, io.IOBase) else io.BytesIO(data if isinstance(data, bytes) else data.encode())
    stream.tag_text(tagger or Capitals(), source, out.append, name="f", scheme=scheme, form=form)
    return b"".join(out).decode()


def tag_columns(text, form="column", layout=PLAIN, tagger=None):
    out = []
    source = io.BytesIO(text.encode())
    stream.tag_columns(tagger or Capitals(), source, out.append, name="f", layout=layout, form=form)
    return b"".join(out).decode()


def test_text_comes_out_in_three_forms():
    text = "Anna Lee  saw\tOslo.\n\nno\n"
    assert tag_text(text) == "Anna\tB-PER\nLee\tI-PER\nsaw\tO\nOslo\tB-PER\n.\tO\n\n\nno\tO\n\n"
    assert tag_text(text, "text") == "[Anna Lee](PER)  saw\t[Oslo](PER).\n\nno\n"
    first, empty, last = map(json.loads, tag_text(text, "jsonl").splitlines())
    assert first == {
        "text": "Anna Lee  saw\tOslo.",
        "words": ["Anna", "Lee", "saw", "Oslo", "."],
        "tags": ["B-PER", "I-PER", "O", "B-PER", "O"],
        "entities": [
            {"type": "PER", "start": 0, "end": 8, "text": "Anna Lee"},
            {"type": "PER", "start": 14, "end": 18, "text": "Oslo"},
        ],
    }
    assert empty == {"text": "", "words": [], "tags": [], "entities": []}
    assert last["tags"] == ["O"]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IO", "I-PER I-PER O I-PER"),
        ("IOB1", "I-PER I-PER O I-PER"),
        ("IOB2", "B-PER I-PER O B-PER"),
        ("BIOES", "B-PER E-PER O S-PER"),
    ],
)
def test_tags_are_written_in_the_scheme_asked_for(scheme, tags):
    column = "".join(f"{word}\t{tag}\n" for word, tag in zip("ABcD", tags.split(), strict=True)) + "\n"
    assert tag_text("A B c D\n", scheme=scheme) == column
    assert json.loads(tag_text("A B c D\n", "jsonl", scheme=scheme))["tags"] == tags.split()
    layout = ColumnFormat(tag_column=None, scheme=scheme)
    assert tag_columns("A\nB\nc\nD\n\n", layout=layout) == column
    assert json.loads(tag_columns("A\nB\nc\nD\n", "jsonl", layout))["tags"] == tags.split()


def test_ill_formed_predictions_are_written_well_formed():
    class IllFormed(Capitals):
        def tags(self, words):
            return ["I-PER", "E-PER", "I-LOC", "E-PER", "O"]

    assert json.loads(tag_text("a b c d e\n", "jsonl", IllFormed()))["tags"] == [
        "B-PER",
        "I-PER",
        "B-LOC",
        "B-PER",
        "O",
    ]


# Whatever splits lines elsewhere stays in its line; the carriage return is part of the line end.
LINES = st.lists(
    st.text(
        st.sampled_from("ab Z\u00c9\U0001f600.'-\t\u2028\u0085\x0b\x1c\u00a0\u0301[]()")
        | st.characters(exclude_categories=["Cs"]),
        max_size=12,
    )
    .map(lambda line: re.sub(r"[\n\0]|\r+$|^\ufeff", "", line))
    .map(lambda line: re.sub(r"\]\(PER\)", "", line)),
    max_size=6,
)


@settings(deadline=None)
@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_lines_and_offsets_are_kept(lines, end, bom, ended):
    # An empty last line is only there where it is ended.
    if lines and not lines[-1]:
        ended = True
    data = ("\ufeff" * bool(bom and lines) + end.join(lines) + end * bool(ended and lines)).encode()
    records = [json.loads(line) for line in tag_text(data, "jsonl").split("\n")[:-1]]
    assert [record["text"] for record in records] == lines
    for record in records:
        tokens = tokenize(record["text"])
        assert record["words"] == [token.text for token in tokens]
        assert [(entity["start"], entity["end"]) for entity in record["entities"]] == [
            (tokens[span.start].start, tokens[span.end - 1].end) for span in spans(record["tags"])
        ]
        for entity in record["entities"]:
            assert entity["text"] == record["text"][entity["start"] : entity["end"]]
            assert entity["text"][0].isupper()
    marked = tag_text(data, "text")
    # Without the mark-up, what is left is the text: nothing added, nothing lost.
    unmarked = "".join(f"{line}\n" for line in map(without_marks, marked.split("\n")[:-1]))
    assert unmarked == "".join(f"{line}\n" for line in lines)


def without_marks(line):
    end = line.find("](PER)")
    while end >= 0:
        # A mention holds no bracket that begins a word, so the nearest one before its end is the mark's.
        start = line.rindex("[", 0, end)
        line = line[:start] + line[start + 1 : end] + line[end + len("](PER)") :]
        end = line.find("](PER)")
    return line


def test_lines_come_as_they_are_and_the_tag_behind_them():
    layout = ColumnFormat(word_column=1, tag_column=None, comment="# ", separator="tab", empty_word="_")
    text = "\ufeff# id\r\n# b\n1\tAnna \tx y\tO\r\n# c\n2\t\tz\tO\n# d\n\n \r\n# e\n-DOCSTART-\n3\tOslo\t\tO\n\n\n# f"
    assert tag_columns(text, layout=layout) == (
        text.replace("x y\tO", "x y\tO\tB-PER").replace("z\tO", "z\tO\tO").replace("\t\tO\n", "\t\tO\tB-PER\n")
    )
    assert tag_columns(text, "text", layout) == "[Anna](PER) _\n[Oslo](PER)\n"
    first, _ = map(json.loads, tag_columns(text, "jsonl", layout).splitlines())
    assert (first["words"], first["text"]) == (["Anna", "_"], "Anna _")
    assert first["entities"] == [{"type": "PER", "start": 0, "end": 4, "text": "Anna"}]
    long = json.loads(tag_columns("saw\nAnna\nin\nOslo\n", "jsonl", ColumnFormat(tag_column=None)))
    assert [(e["start"], e["end"], e["text"]) for e in long["entities"]] == [(4, 8, "Anna"), (12, 16, "Oslo")]
    for separator in ("space", "whitespace"):
        layout = ColumnFormat(tag_column=None, separator=separator)
        assert tag_columns("Anna N\nsaw  V", layout=layout) == "Anna N B-PER\nsaw  V O"


COLUMN_LINES = st.lists(
    st.text(st.sampled_from("aB\t \u2028\u0085\x1c#-"), max_size=6) | st.sampled_from(["-DOCSTART- x O", "# note", ""]),
    max_size=8,
)


@settings(deadline=None)
@given(COLUMN_LINES, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_output_lines_up_with_the_input(lines, end, ended):
    text = end.join(lines) + end * ended
    layout = ColumnFormat(tag_column=None, separator="whitespace", comment="# ", empty_word="_")
    written = tag_columns(text, layout=layout).split("\n")
    assert len(written) == text.count("\n") + 1
    for before, after in zip(text.split("\n"), written, strict=True):
        row = before.rstrip("\r")
        is_row = row.strip() and not row.startswith(("# ", "-DOCSTART-"))
        added = after.removeprefix(row).removesuffix(before[len(row) :])
        assert (
            added in (("\tO", "\tB-PER", "\tI-PER") if "\t" in row else (" O", " B-PER", " I-PER"))
            if is_row
            else not added
        )


@pytest.mark.parametrize(
    ("tag", "bad", "message"),
    [
        (tag_text, "b\xe9".encode("latin-1"), "f:4: required UTF-8, got byte 0xe9 at byte 1 of the line"),
        (tag_text, b"b\0", "f:4: required text, got a NUL at character 1 of the line"),
        (tag_columns, b"b\0", "f:4: required text, got a NUL"),
        (tag_columns, b"b", "f:4: required at least 2 columns"),
    ],
)
@FORMS
def test_what_came_before_a_bad_line_is_written(tag, bad, message, form):
    out = []
    layout = ColumnFormat(word_column=1, tag_column=None)
    options = {"layout": layout} if tag is tag_columns else {"scheme": "IOB2"}
    before = b"1\tA\n\n\n" if tag is tag_columns else b"A\n\nB\n"
    function = stream.tag_columns if tag is tag_columns else stream.tag_text
    with pytest.raises(InputError) as caught:
        function(Capitals(), io.BytesIO(before + bad + b"\n\nB\n"), out.append, name="f", form=form, **options)
    assert str(caught.value).startswith(message)
    assert b"".join(out).decode() == tag(before.decode(), form, **({"layout": layout} if tag is tag_columns else {}))


class Counted(io.RawIOBase):
    """A long stream that is made while it is read, and counts the lines it has given."""

    def __init__(self, line, lines, largest=1 << 30):
        self.line, self.left, self.largest = line, lines, largest
        self.given = 0

    def readable(self):
        return True

    def read(self, size=-1):
        count = min(self.left, max(1, min(size, self.largest) // len(self.line)))
        self.left -= count
        self.given += count
        return self.line * count


@pytest.mark.parametrize(
    ("form", "line", "lines"), [("text", b"Ab\n", 200_000), ("column", b"Anna\n", 30_000), ("jsonl", b"\n", 80_000)]
)
def test_a_long_stream_is_held_a_piece_at_a_time(form, line, lines):
    source, written, calls = Counted(line, lines), [0], [0]

    class Quick(Capitals):
        def tag(self, sentences):
            calls[0] += 1
            return [["O"] * len(words) for words in sentences]

    def write(output):
        written[0] += output.count(b"\n\n" if form == "column" else b"\n")
        assert source.given - written[0] <= (1 << 16) // len(line)

    stream.tag_text(Quick(), source, write, name="f", scheme="IOB2", form=form)
    assert written[0] == lines
    # Nor is so little held that each line were a call of its own.
    assert calls[0] < lines / 1000


@pytest.mark.parametrize("line", [b"Anna\tB-PER\n\n", b"\n", b"# a comment\n"])
def test_a_long_column_file_is_held_a_piece_at_a_time(line):
    source, written = Counted(line, 20_000), [0]

    def write(output):
        written[0] += output.count(b"\n") // line.count(b"\n")
        assert source.given - written[0] <= (1 << 16) // len(source.line)

    layout = ColumnFormat(tag_column=None, comment="#")
    stream.tag_columns(Capitals(), source, write, name="f", layout=layout, form="column")
    assert written[0] == 20_000


@pytest.mark.parametrize(("lines", "answered"), [(2, 2), (19, 19), (20, 20), (10_000, 20)])
def test_columns_taken_for_text_are_warned_of_once_and_soon(lines, answered):
    warnings, written = [], []
    source = Counted(b"Anna O\n", lines, largest=20 * 7)

    def warn(text):
        warnings.append(text)
        assert source.given == answered

    stream.tag_text(Capitals(), source, written.append, name="f", scheme="IOB2", form="text", warn=warn)
    assert warnings == ["f looks like a column file, but was taken for text, one sentence a line; give --columns"]
    assert b"".join(written) == b"[Anna O](PER)\n" * lines


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@FORMS
def test_lines_come_whole_however_they_are_read(form, size):
    text = "Anna L\u00e9e saw\n\nOslo \U0001f600\r\nend"

    class Dribble(io.BytesIO):
        def read(self, _=-1):
            return super().read(size)

    assert tag_text(Dribble(text.encode()), form) == tag_text(text, form)


def talk(tag, pieces):
    """Write pieces into a pipe, waiting for the answers expected of each before the next is written."""
    reading, writing = os.pipe()
    answers = threading.Semaphore(0)
    got = []

    def write(output):
        got.append(output)
        answers.release(output.count(b"\n\n"))

    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as pipe:  # noqa: PTH123
        worker = threading.Thread(target=tag, args=(source, write))
        worker.start()
        for piece, sentences in pieces:
            pipe.write(piece)
            for _ in range(sentences):
                assert answers.acquire(timeout=20), f"no answer to {piece!r}"
        pipe.close()
        worker.join()
    return b"".join(got)


def test_a_pipe_of_text_is_answered_line_by_line():
    def tag(source, write):
        stream.tag_text(Capitals(), source, write, name="f", scheme="IOB2", form="column")

    pieces = [(b"Anna\n", 1), (b"sa", 0), (b"w\nOslo\nan", 2), (b"d\n", 1), (b"last", 0)]
    assert talk(tag, pieces).decode() == tag_text("Anna\nsaw\nOslo\nand\nlast")


def test_a_pipe_of_columns_is_answered_sentence_by_sentence():
    def tag(source, write):
        stream.tag_columns(Capitals(), source, write, name="f", layout=PLAIN, form="column")

    # A whole sentence is answered whatever else came with it: the next one's beginning, a comment, blank lines.
    layout = [b"Anna\n", b"saw\n\n", b"Oslo\n\nTo", b"m\n\n\n", b"a\n\n-DOCSTART-\n\n", b"b\n\nc\nd\n", b"\n"]
    pieces = list(zip(layout, [0, 1, 1, 1, 2, 1, 1], strict=True))
    assert talk(tag, pieces).decode() == tag_columns(b"".join(layout).decode())


def test_output_that_cannot_be_written_is_not_written_twice():
    calls = []

    def write(output):
        calls.append(output)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        stream.tag_text(Capitals(), io.BytesIO(b"a\nb\n"), write, name="f", scheme="IOB2", form="text")
    assert calls == [b"a\nb\n"]
