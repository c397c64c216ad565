import io
import os
from pathlib import Path

import pytest

from windownet.data.columns import ColumnFormat, all_blocks, blocks, read, stream
from windownet.data.sentences import Sentence
from windownet.data.tags import labels, spans
from windownet.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
WNUT_TYPES = "corporation creative-work group location person product"
PLAIN = ColumnFormat()
UNER = ColumnFormat(word_column=1, tag_column=2, comment="# ", drop_types=("OTH", "O"))
# Some of its rows have a tag and no word.
BTC = ColumnFormat(empty_word="_")
WIKIGOLD = ColumnFormat(separator="space", scheme="IO")


def parse(text, format=PLAIN):
    raw = text if isinstance(text, bytes) else text.encode()
    # As a file's lines, which end in a line feed alone.
    return list(stream(io.BytesIO(raw), "f.conll", format))


def message(text, format=PLAIN):
    with pytest.raises(InputError) as caught:
        parse(text, format)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "format", "counts", "types"),
    [
        ("wnut17/wnut17train.conll", PLAIN, (3394, 62730, 1975), WNUT_TYPES),
        ("wnut17/emerging.dev.conll", PLAIN, (1009, 15733, 836), WNUT_TYPES),
        ("wnut17/emerging.test.annotated", PLAIN, (1287, 23394, 1079), WNUT_TYPES),
        ("uner_ewt/en_ewt-ud-train.iob2", UNER, (12543, 204579, 7005), "LOC ORG PER"),
        ("uner_ewt/en_ewt-ud-dev.iob2", UNER, (2001, 25149, 966), "LOC ORG PER"),
        ("uner_ewt/en_ewt-ud-test.iob2", UNER, (2077, 25097, 1088), "LOC ORG PER"),
        ("btc/btc.train", BTC, (6338, 99933, 8779), "LOC ORG PER"),
        ("btc/btc.dev", BTC, (1001, 15027, 1730), "LOC ORG PER"),
        ("btc/btc.test", BTC, (2001, 35428, 4376), "LOC ORG PER"),
        ("wikigold/CONLL-format/data/wikigold.conll.txt", WIKIGOLD, (1696, 39007, 3558), "LOC MISC ORG PER"),
        ("ncbi_disease/train.tsv", PLAIN, (5424, 135701, 5134), "Disease"),
        ("ncbi_disease/devel.tsv", PLAIN, (923, 23969, 787), "Disease"),
        ("ncbi_disease/test.tsv", PLAIN, (940, 24497, 960), "Disease"),
        ("bc5cdr/train.tsv", PLAIN, (4560, 118170, 9385), "Chemical Disease"),
        ("bc5cdr/devel.tsv", PLAIN, (4581, 117453, 9593), "Chemical Disease"),
        ("bc5cdr/test.tsv", PLAIN, (4797, 124750, 9809), "Chemical Disease"),
    ],
)
def test_real_files_load_by_configuration(file, format, counts, types):
    if not (SHARED / file).exists():
        pytest.skip(f"the public data sets are not beside the repository: no {file} in {SHARED.name}")
    sentences = read(SHARED / file, format)
    mentions = [span for sentence in sentences for span in spans(sentence.tags)]
    tokens = [word for sentence in sentences for word in sentence.words]
    assert (len(sentences), len(tokens), len(mentions)) == counts
    assert {span.type for span in mentions} == set(types.split())
    assert {tag for sentence in sentences for tag in sentence.tags} <= set(labels(types.split(), "IOB2"))
    assert all(word and word == word.strip() for word in tokens)


def test_words_tags_and_lines_are_the_files():
    text = "\n\nEU\tB-ORG\n#1\tO\n\t\nPeter\tI-PER\nBlackburn\tI-PER\n  \n"
    assert parse(text) == [
        Sentence(("EU", "#1"), ("B-ORG", "O"), 3),
        Sentence(("Peter", "Blackburn"), ("B-PER", "I-PER"), 6),
    ]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("1\ta\tB-X\t-\n2\tb c\tI-X\t-\n", {"word_column": 1, "tag_column": 2}),
        ("B-X\ta\nI-X\tb c\n", {"word_column": -1, "tag_column": 0}),
        ("a\tN\tB-X\nb c\tV\tX\tI-X\n", {}),
        ("\ufeffa\tB-X\r\nb c\tI-X\r\n", {}),
        ("a \tB-X\n b c\tI-X \n", {}),
        ("a\tX\nb c\tX", {"scheme": "IO"}),
        ("a\tI-X\nb c\tI-X", {"scheme": "IOB1"}),
        ("a\tB-X\nb c\tE-X", {"scheme": "BIOES"}),
        ("# id\na\tB-X\n# note\nb c\tI-X\n", {"comment": "# "}),
    ],
)
def test_layouts(text, settings):
    (sentence,) = parse(text, ColumnFormat(**settings))
    assert (sentence.words, sentence.tags) == (("a", "b c"), ("B-X", "I-X"))


@pytest.mark.parametrize(
    ("separator", "text"), [("space", "a\u3000b N B-X\n"), ("whitespace", " a\u3000b \t N\t\tB-X  \n")]
)
def test_only_tabs_and_spaces_separate(separator, text):
    assert parse(text, ColumnFormat(separator=separator)) == [Sentence(("a\u3000b",), ("B-X",), 1)]


def test_dropped_types_become_o_and_leave_no_trace():
    format = ColumnFormat(drop_types=("OTH", "O"))
    assert parse("a\tB-O\nb\tB-PER\nc\tI-OTH\nd\tO\n", format)[0].tags == ("O", "B-PER", "O", "O")


def test_document_markers_end_the_sentence_and_are_left_out():
    text = "-DOCSTART- O\na O\n-DOCSTART-\nb O\n\n-DOCSTART- -X- O\nc O\n"
    assert [(one.words, one.line) for one in parse(text, WIKIGOLD)] == [(("a",), 2), (("b",), 4), (("c",), 7)]
    assert [one.line for one in parse("-DOCSTART-\n1\ta\tO\n", ColumnFormat(word_column=1))] == [2]
    kept = ColumnFormat(separator="space", document_marker="")
    assert parse("-DOCSTART- O\n", kept) == [Sentence(("-DOCSTART-",), ("O",), 1)]


def test_without_a_tag_column_there_are_no_tags():
    assert parse("a\nb\n", ColumnFormat(tag_column=None)) == [Sentence(("a", "b"), (), 1)]


def test_an_empty_word_is_replaced_where_the_configuration_says_by_what():
    assert parse("a\tO\n\tB-X\n \tI-X\n", BTC) == [Sentence(("a", "_", "_"), ("O", "B-X", "I-X"), 1)]


@pytest.mark.parametrize("tokens", [1, 20_000])
def test_sentences_of_any_length(tokens):
    (sentence,) = parse("w\tB-X\n" * tokens)
    assert sentence.words == ("w",) * tokens
    assert sentence.tags == ("B-X",) * tokens


def test_streaming_reads_no_further_than_the_sentence():
    lines = iter([b"a\tO\n", b"\n", b"b\tO\n", b"bad\n"])
    assert next(stream(lines, "f", PLAIN)).words == ("a",)
    assert list(lines) == [b"b\tO\n", b"bad\n"]


def test_blocks_keep_the_lines_for_writing_one_column_more():
    text = b"\xef\xbb\xbf# c\r\n1\ta\tN\r\n# c\n2\t \tV\n\n\n1\tc\tN\textra"
    format = ColumnFormat(word_column=1, tag_column=None, comment="#", empty_word="_")
    lines = text.splitlines(keepends=True)
    found = list(blocks(lines, "f", format))
    assert [block.words for block in found] == [["a", "_"], ["c"]]
    assert [block.lines for block in found] == [[2, 4], [7]]
    assert [[len(line) for line, is_row in block.raw if not is_row] for block in found] == [[4, 1], []]
    everything = list(all_blocks(lines, "f", format))
    assert b"".join(line for block in everything for line, _ in block.raw) == text
    # A comment or blank line waits for no sentence.
    assert [len(block.raw) for block in everything] == [1, 4, 1, 1]


@pytest.mark.parametrize(
    ("separator", "line", "expected"),
    [
        ("whitespace", b"a\t\tB-PER\r\n", b"a\t\tB-PER\tO\r\n"),
        ("whitespace", b"a  NN \n", b"a  NN  O\n"),
        ("whitespace", b"a b\tc", b"a b\tc\tO"),
        ("space", b"a\tb NN\n", b"a\tb NN O\n"),
        ("tab", b"a\r\n", b"a\tO\r\n"),
    ],
)
def test_a_column_is_appended_by_the_separator_of_the_line(separator, line, expected):
    assert ColumnFormat(separator=separator).append(line, "O") == expected


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("a\tO\nParis\n", {}, "f.conll:2: required at least 2 columns separated by a tab, got 1 ('Paris')"),
        ("a O\n", {}, "f.conll:1: required at least 2 columns separated by a tab, got 1 ('a O')"),
        ("a O\n", {"separator": "space", "tag_column": 2}, "required at least 3 columns separated by a space, got 2"),
        ("1\ta\n", {"word_column": 1}, "f.conll:1: required at least 3 columns separated by a tab, got 2 ('1\\ta')"),
        ("x" * 99, {}, "got 1 ('" + "x" * 39 + "…')"),
        (
            "a\tO\n\nb\tE-PER\n",
            {},
            "f.conll:3: required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'E-PER', a tag of",
        ),
        ("# c\na\tPER\n", {"comment": "#"}, "f.conll:2: required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'PER'"),
        (
            "a\tU-PER\n",
            {"scheme": "BIOES"},
            "got 'U-PER', a tag of BILOU; write U- as S- and L- as E-, which data.scheme=BIOES reads",
        ),
        ("a\tb-PER\n", {}, "got 'b-PER'; write 'B-PER' for 'b-PER', and so with every tag"),
        ("a\t\n", {}, "f.conll:1: required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got ''; set data.scheme or"),
        ("a\tO\n \tO\n", {}, "f.conll:2: required a word in column 0, got an empty one (' \\tO')"),
        ("\tO\n", {"document_marker": ""}, "f.conll:1: required a word in column 0, got an empty one"),
        (b"a\tO\nM\xfcnchen\tO\n", {}, "f.conll:2: required UTF-8, got byte 0xfc at byte 1 of the line"),
        ("a\tO\n".encode("utf-16"), {}, "f.conll:1: required UTF-8, got byte 0xff at byte 0 of the line"),
        ("a\tO\nb\0\tO\n", {}, "f.conll:2: required text, got a NUL at character 1 of the line"),
        (
            "a\tO\rb\tO\r\rc\tO\r",
            {},
            "f.conll:1: required rows that end in a line feed, got some that end in a carriage return alone ('a",
        ),
    ],
)
def test_bad_rows_are_named(text, settings, expected):
    got = message(text, ColumnFormat(**settings))
    assert expected in got
    assert "; " in got


def test_a_carriage_return_in_a_word_is_part_of_it():
    assert parse("a\tO\nb\rc\tO\r\n") == [Sentence(("a", "b\rc"), ("O", "O"), 1)]


def test_a_marker_in_a_row_too_short_for_its_word_column_is_a_bad_row():
    assert "f.conll:1: required at least 4 columns" in message(
        "a\t-DOCSTART-\n", ColumnFormat(word_column=2, tag_column=3)
    )


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments\n", "-DOCSTART- O\n"])
def test_a_file_without_a_sentence_is_refused(tmp_path, text):
    path = tmp_path / "train.conll"
    path.write_text(text)
    with pytest.raises(InputError, match=r"train\.conll: required at least one sentence, found no sentence in it; "):
        read(path, ColumnFormat(separator="space", comment="# "))


def test_files_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "train.conll"
    with pytest.raises(InputError, match=r"train\.conll: required a file, found nothing there; check the path$"):
        read(path, PLAIN)
    path.write_text("a\tO\n")
    with pytest.raises(InputError, match=r"train\.conll.x: required a file that can be read, got 'Not a directory'"):
        read(path / "x", PLAIN)
    with pytest.raises(InputError, match=r"required a file, got a directory; name a file in it$"):
        read(tmp_path, PLAIN)
    path.chmod(0)
    if not os.access(path, os.R_OK):  # an administrator may read everything
        with pytest.raises(InputError, match="required a file that can be read, got 'Permission denied'"):
            read(path, PLAIN)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"separator": ","}, r"data\.separator: required one of whitespace, tab, space, got ','"),
        ({"scheme": "BIO"}, r"data\.scheme: required one of IO, IOB1, IOB2, BIOES, got 'BIO'"),
        (
            {"word_column": 1, "tag_column": 1},
            r"data\.tag_column: required another column than data\.word_column, got 1",
        ),
    ],
)
def test_formats_that_make_no_sense_are_refused(settings, expected):
    with pytest.raises(InputError, match=expected):
        ColumnFormat(**settings)
