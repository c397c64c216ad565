"""Raw text to numbers of words."""

import gzip
import lzma

import numpy as np
import pytest

from windownet.data import tokens
from windownet.data.vocabulary import Normalization, Vocabulary
from windownet.errors import InputError
from windownet.pretrain import text

NORMALIZATION = Normalization("lower", "zero")
LINES = [
    "The U.S. didn't sell 1,999 well-known cars; the cars' owners did.",
    "",
    "  The\u00a0cars\u2028of\tParis (the \u00dc.S. cars) \u2026 www.example.com/x?a=1, AT&T's.",
    "\u4e2d\u6587 text, Paris. THE END",
]


def encoded(folder, data, **options):
    given = {"min_count": 1} | options
    return text.encode([("here.txt", data)], folder, NORMALIZATION, **given)


def lines_of(found):
    numbers = np.asarray(found.numbers)
    ends = np.flatnonzero(numbers == len(found.words))
    return [[found.words[n] for n in line[:-1]] for line in np.split(numbers, ends + 1)[:-1]]


def test_words_are_those_of_a_tagger(tmp_path):
    found = encoded(tmp_path, "\n".join(LINES).encode() + b"\n")
    # What str.splitlines would part is one line of a file.
    words = [[NORMALIZATION(token.text) for token in tokens.tokenize(line)] for line in LINES]
    assert lines_of(found) == words
    vocabulary = Vocabulary.build(words, NORMALIZATION)
    assert found.words == vocabulary.words[2:]
    flat = [word for line in words for word in line]
    assert found.counts.tolist() == [flat.count(word) for word in found.words]
    assert found.all_words == len(flat)


@pytest.mark.parametrize("blank", [" ", "  ", "\t", "\r"])
@pytest.mark.parametrize("piece", [1 << 20, 128])
def test_words_beside_a_blank_that_the_tokenizer_looks_past(tmp_path, monkeypatch, blank, piece):
    monkeypatch.setattr("windownet.data.byte_source._PIECE", piece)
    lines = [
        "John F. Kennedy met George W. Bush , J. R. R. Tolkien and \u00c9. Zola .",
        'so did (\u0410. \u0411. \u0412.) and "K. \u00d8rsted" at No. 10 , no. \u0663 , No. one',
        "Did I. Newton ? So did I. He saw vitamin C. It was NATO. The_A. B x. Y W.",
        "Bush began the line , W. Bush did not , No.",
        "7 neither",
    ]
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{line.replace(' ', blank)}\n" for line in lines), encoding="utf-8", newline="\n")
    normalization = Normalization("keep", "keep")
    found = text.encode(text.read([path]), tmp_path / "encoded", normalization, min_count=1)
    # The end of a file counts as one of a line.
    assert lines_of(found) == [*(tokens.words(line) for line in lines), []]
    assert {"F.", "W.", "J.", "R.", "\u00c9.", "\u0410.", "K.", "No.", "no.", "I", "C."} <= set(found.words)


@pytest.mark.parametrize(
    ("options", "kept"), [({"min_count": 3}, {"the", "cars"}), ({"max_words": 2}, {"the", "cars"})]
)
def test_rare_words_are_left_out(tmp_path, options, kept):
    found = encoded(tmp_path, b"the cars ; the cars of the\nend cars . .\n", **options)
    assert set(found.words) == kept
    assert found.all_words == 11
    assert lines_of(found) == [["the", "cars", "the", "cars", "the"], ["cars"]]


def test_files_are_read_in_pieces_whatever_they_are_packed_by(tmp_path, monkeypatch):
    monkeypatch.setattr("windownet.data.byte_source._PIECE", 64)
    monkeypatch.setattr(text, "_PIECE", 50)
    monkeypatch.setattr(text, "_REMEMBERED", 20)
    rng = np.random.default_rng(0)
    lines = [" ".join(f"w\u00f6rd{n}" for n in rng.integers(0, 60, 12)) for _ in range(40)]
    data = "\n".join(lines).encode()
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + data)
    (tmp_path / "b").write_bytes(gzip.compress(data))
    (tmp_path / "c").write_bytes(lzma.compress(data))
    told = []
    pieces = list(text.read([tmp_path / name for name in "abc"], lambda done, size: told.append((done, size))))
    assert len(pieces) > 100
    found = text.encode(text.in_background(iter(pieces)), tmp_path / "out", Normalization("keep", "keep"), min_count=1)
    assert [line for line in lines_of(found) if line] == [line.split() for line in lines] * 3
    total = sum((tmp_path / name).stat().st_size for name in "abc")
    assert told == sorted(told) and told[-1] == (total, total)
    assert text.load(tmp_path / "out").words == found.words


def test_an_unfinished_text_is_none(tmp_path):
    assert text.load(tmp_path) is None
    encoded(tmp_path, b"a b a b\n")
    numbers = tmp_path / "numbers.int32"
    numbers.write_bytes(numbers.read_bytes()[:-4])
    assert text.load(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("text.json", lambda data: b""),
        ("text.json", lambda data: b"[]"),
        ("text.json", lambda data: b"{}"),
        ("words.txt", lambda data: b"\xff\xfe" + data),
        ("words.txt", None),
        ("numbers.int32", lambda data: b""),
        ("numbers.int32", lambda data: data[:-3]),
        ("numbers.int32", lambda data: b"\xff" * len(data)),
        ("numbers.int32", lambda data: b"\x7f" * len(data)),
        # Numbers that words have, but not so often.
        ("numbers.int32", lambda data: data[:4] * (len(data) // 4)),
        ("numbers.int32", None),
    ],
)
def test_a_damaged_text_is_none(tmp_path, name, damaged):
    encoded(tmp_path, b"a b a b c\n")
    assert text.load(tmp_path) is not None
    path = tmp_path / name
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged(path.read_bytes()))
    assert text.load(tmp_path) is None


def test_a_full_disk_is_called_so(tmp_path):
    (tmp_path / "numbers.int32.first").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        encoded(tmp_path, b"a b a b c\n")


@pytest.mark.parametrize(("times", "min_count"), [(1, 2), (2, 2)])
def test_a_long_word_is_shown_short(tmp_path, times, min_count):
    with pytest.raises(InputError) as error:
        encoded(tmp_path, b"x" * 100_000 + b"\n" + b"x" * 100_000 * (times - 1), min_count=min_count)
    assert "'xxx" in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"", {}, "here.txt: required words, found none in it; check text.files"),
        (b" \n\n", {}, "here.txt: required words, found none"),
        (
            b"a a b\n",
            {"min_count": 3},
            "3 times or more, got none, the most frequent is 'a' with 2; lower text.min_count",
        ),
        (
            b"a a b\n",
            {"min_count": 2},
            "required two words at least that occur text.min_count=2 times or more, got only 'a'",
        ),
        (b"a b a\n", {"max_words": 1}, "got only 'a'; lower text.min_count, raise text.max_words"),
        (b"a\nb c\nd \xe9 e\n", {}, "here.txt:3: required UTF-8, got byte 0xe9; convert the file"),
        ("a b".encode("utf-16"), {}, "here.txt:1: required UTF-8, got byte 0xff; convert the file"),
    ],
)
def test_bad_text_is_named(tmp_path, data, options, message):
    with pytest.raises(InputError) as error:
        encoded(tmp_path, data, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert text.load(tmp_path) is None


def test_the_line_of_bad_bytes_is_right_in_a_later_piece(tmp_path):
    pieces = [("other", b"a\n" * 5), ("here.txt", b"a b\n" * 7), ("here.txt", b"a\n\xff\n")]
    with pytest.raises(InputError, match=r"here\.txt:9: required UTF-8"):
        text.encode(pieces, tmp_path, NORMALIZATION, min_count=1)


@pytest.mark.parametrize("blank", [" ", "\t", "\r", "\v", "\f", "\n"])
def test_a_text_is_read_in_pieces_whatever_parts_its_words(tmp_path, monkeypatch, blank):
    monkeypatch.setattr("windownet.data.byte_source._PIECE", 64)
    path = tmp_path / "a.txt"
    path.write_bytes(blank.join(["word"] * 1000).encode())
    pieces = [piece for _, piece in text.read([path])]
    assert b"".join(pieces).split() == [b"word"] * 1000
    assert max(map(len, pieces)) <= 128


def test_a_nul_is_refused_where_it_is(tmp_path):
    with pytest.raises(InputError, match=r"^here.txt:2: required text, got a NUL; remove it"):
        encoded(tmp_path, b"one two\none \0 two\n")
