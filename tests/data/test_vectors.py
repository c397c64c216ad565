import gzip
import io
import lzma
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from windownet.data import byte_source, vectors
from windownet.data.vector_file import FORMATS, Counts
from windownet.data.vectors import Match, extend, fill, read, write_safetensors, write_word2vec_text
from windownet.data.vocabulary import Normalization, Vocabulary
from windownet.errors import InputError

PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
TEXT = b"3 2\nof 1 -0.5\nParis 0.25 1e-3\nNew York 3 4\n"
WORDS = ("of", "Paris", "New York")
ROWS = [[1, -0.5], [0.25, 1e-3], [3, 4]]


def glove(words, matrix):
    lines = (f"{word} {' '.join(f'{x:.9g}' for x in row)}\n" for word, row in zip(words, matrix.tolist(), strict=True))
    return "".join(lines).encode()


def binary(words, matrix, end=b"\n"):
    records = (word.encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(words, matrix, strict=True))
    return b"%d %d\n" % matrix.shape + end.join(records) + end


def write_npy(path, words, matrix):
    np.save(path, matrix)
    path.with_suffix(".vocab.txt").write_bytes("".join(f"{word}\n" for word in words).encode())


def saved(folder, name, data):
    path = Path(folder, name)
    path.write_bytes(data)
    return path


def names(folder):
    return [path.name for path in folder.iterdir()]


def message(call, *arguments, **options):
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n\ufeff")
BLANKS = " \t\r\v\f"
ANY_WORD = st.text(LETTERS, min_size=1, max_size=8).filter(lambda word: not word.endswith("\r"))
SOLID_WORD = ANY_WORD.filter(lambda word: not any(blank in word for blank in BLANKS))
# Words of several parts, the last of which does not look like a number.
SPACED_WORD = st.lists(SOLID_WORD, min_size=1, max_size=2).map(lambda parts: " ".join([*parts, "\u00e9"]))
WRITERS = {
    "glove": (".txt", SPACED_WORD | SOLID_WORD, lambda path, *data: path.write_bytes(glove(*data))),
    "word2vec": (".vec", SOLID_WORD, write_word2vec_text),
    "word2vec-binary": (
        ".bin",
        ANY_WORD.filter(lambda word: " " not in word),
        lambda path, *data: path.write_bytes(binary(*data)),
    ),
    "npy": (".npy", ANY_WORD, write_npy),
    "safetensors": (".safetensors", ANY_WORD, write_safetensors),
}


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_was_written_is_read(format, data):
    suffix, word, write = WRITERS[format]
    words = data.draw(st.lists(word, min_size=1, max_size=6, unique=True))
    shape = (len(words), data.draw(st.integers(1, 5)))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    matrix = data.draw(npst.arrays(np.float32, shape, elements=finite))
    packing = data.draw(st.sampled_from(list(PACKERS))) if suffix in (".txt", ".vec", ".bin") else ""
    wanted = data.draw(st.sets(st.sampled_from(words)))
    with TemporaryDirectory() as folder:
        path = Path(folder, "vectors" + suffix)
        write(path, words, matrix)
        path = saved(folder, path.name + packing, PACKERS[packing](path.read_bytes()))
        # A line of a word and one number may as well be a header.
        given_format = format if format == "glove" else None
        everything = read(path, format=given_format)
        some = read(path, wanted, format=given_format)
    assert everything.words == tuple(words)
    assert everything.matrix.dtype == np.float32
    assert everything.matrix.tobytes() == matrix.tobytes()
    assert everything.counts == Counts(len(words), 0, 0)
    rows = [row for row, word in enumerate(words) if word in wanted]
    assert some.words == tuple(words[row] for row in rows)
    assert np.array_equal(some.matrix, matrix[rows])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", TEXT),
        ("a", TEXT),
        ("a.vec", TEXT.replace(b"\n", b" \n")),
        ("a.txt", TEXT.replace(b"\n", b"\r\n")),
        ("a.txt", b"\xef\xbb\xbf" + TEXT),
        ("a.txt", TEXT.rstrip(b"\n")),
        ("a.txt", TEXT.replace(b" 1 ", b"\t1\t")),
        ("a.txt", TEXT.split(b"\n", 1)[1]),
        ("a.txt", b"\xef\xbb\xbf" + TEXT.split(b"\n", 1)[1]),
        ("a.vec.gz", gzip.compress(TEXT[:20], mtime=0) + gzip.compress(TEXT[20:], mtime=0)),
        ("a.txt", lzma.compress(TEXT)),
        ("a.gz", TEXT),
    ],
)
def test_text_is_read_however_it_is_written(tmp_path, name, data):
    found = read(saved(tmp_path, name, data))
    assert found.words == WORDS
    assert np.array_equal(found.matrix, np.array(ROWS, np.float32))


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz", "a.txt", "a"])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_binary_is_told_from_text(tmp_path, name, end):
    words, matrix = ("of", "Paris", "\u00e9"), np.arange(15, dtype=np.float32).reshape(3, 5) / 7
    data = binary(words, matrix, end)
    found = read(saved(tmp_path, name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data))
    assert found.words == words
    assert np.array_equal(found.matrix, matrix)
    # A name that promises binary does not make text one.
    assert read(saved(tmp_path, "b.bin", TEXT)).words == WORDS


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
def test_arrays_may_be_of_any_float(tmp_path, dtype):
    write_npy(tmp_path / "a.npy", WORDS, np.asfortranarray(np.array(ROWS, dtype)))
    (tmp_path / "a.vocab.txt").write_bytes(b"\xef\xbb\xbfof\r\nParis\r\nNew York")
    found = read(tmp_path / "a.npy")
    assert found.words == WORDS
    assert np.allclose(found.matrix, ROWS, rtol=1e-3)
    assert found.matrix.dtype == np.float32
    if dtype[0] == "<":
        safetensors.numpy.save_file({"vectors": np.array(ROWS, dtype)}, tmp_path / "a.safetensors")
        assert read(tmp_path / "a.safetensors").words == WORDS


def test_files_larger_than_a_piece(tmp_path):
    count, D = 12_000, 30
    rng = np.random.default_rng(0)
    matrix, words = rng.standard_normal((count, D)).astype(np.float32), [f"word{n}" for n in range(count)]
    write_safetensors(tmp_path / "a.safetensors", words, matrix)
    write_word2vec_text(tmp_path / "a.txt", words, matrix)
    paths = [
        tmp_path / "a.safetensors",
        tmp_path / "a.txt",
        saved(tmp_path, "a.txt.gz", gzip.compress((tmp_path / "a.txt").read_bytes(), 1)),
        saved(tmp_path, "a.bin", binary(words, matrix)),
    ]
    for path in paths:
        told = []
        found = read(path, progress=lambda *bytes, told=told: told.append(bytes))
        assert found.words == tuple(words)
        assert np.array_equal(found.matrix, matrix)
        done, total = zip(*told, strict=True)
        assert len(done) > 1
        assert list(done) == sorted(done)
        assert set(total) == {matrix.nbytes if path.suffix == ".safetensors" else path.stat().st_size}
        assert done[-1] == total[0]


@pytest.mark.parametrize("suffix", [".txt", ".gz", ".bin"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    peaks = []
    for count in (12_000, 36_000):
        if suffix == ".bin":
            numbers = np.arange(50, dtype="<f4").tobytes()
            data = b"%d 50\n" % count + b"".join(b"word%d %b" % (n, numbers) for n in range(count))
        else:
            numbers = b" 0.125" * 50
            data = b"".join(b"word%d%b\n" % (n, numbers) for n in range(count))
        path = saved(tmp_path, f"a{suffix}", gzip.compress(data, 1, mtime=0) if suffix == ".gz" else data)
        del data
        tracemalloc.start()
        found = read(path, {"word7", f"word{count - 1}"})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.words) == 2
        assert found.counts.lines == count
    assert peaks[1] < 1.1 * peaks[0]


SKIP = "skip bad lines (--skip-bad-lines, or words.skip_bad_lines=true in a config)"
BAD = f"; correct it, or {SKIP}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "required a word and 3 numbers, got no word ('')"),
        (b" 1 2 3", "required a word before the numbers, got none"),
        (b" 1 2", "required a word and 3 numbers, got no word (' 1 2')"),
        (b"x 1 2", "required a word and 3 numbers, got 2 ('x 1 2')"),
        (b"x", "required a word and 3 numbers, got 0 ('x')"),
        (b"# comment", "required a word and 3 numbers, got 0 ('# comment')"),
        (b"x 1 2 3 4", "required a word and 3 numbers, got 4 ('x 1 2 3 4')"),
        (b"x 1  2", "required 3 numbers, got 2 for 'x'"),
        (b"x 1 2\t3 4", "required 3 numbers, got 4 for 'x'"),
        (b"x 1 two 3", "required a number, got 'two' for 'x'"),
        (b"x 1 2,5 3", "required a number, got '2,5' for 'x'"),
        (b"x 1 2 3x", "required a number, got '3x' for 'x'"),
        (b"x 1 2 0x10", "required a number, got '0x10' for 'x'"),
        (b"x 1 nan 3", "required finite numbers of float32, got nan for 'x'"),
        (b"x 1 2 -Infinity", "required finite numbers of float32, got -inf for 'x'"),
        (b"x 1 2 1e39", "required finite numbers of float32, got inf for 'x'"),
        (b"x\xff 1 2 3", "required a word in UTF-8, got byte 0xff in 'x\\\\xff'"),
    ],
)
@pytest.mark.parametrize("header", [b"", b"3 3\n"], ids=["glove", "word2vec"])
def test_bad_lines(tmp_path, header, line, fault):
    path = saved(tmp_path, "a.txt", header + b"good 1 2 3\n" + line + b"\nfine 4 5 6\n")
    number = 2 + bool(header)
    assert message(read, path) == f"{path}:{number}: {fault}{BAD}"
    found = read(path, skip_bad=True)
    assert found.words == ("good", "fine")
    assert np.array_equal(found.matrix, [[1, 2, 3], [4, 5, 6]])
    assert found.counts == Counts(3, 1, 0)
    assert found.counts.warning() == "bad lines skipped: 1 of 3"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n\t\n\n"])
@pytest.mark.parametrize("header", [b"", b"2 3\n"])
def test_blank_lines_at_the_end_are_nothing(tmp_path, header, end):
    path = saved(tmp_path, "a.txt", header + b"good 1 2 3\nfine 4 5 6\n" + end)
    found = read(path)
    assert (found.words, found.counts) == (("good", "fine"), Counts(2, 0, 0))
    path.write_bytes(path.read_bytes() + b"late 1 2\n")
    first_blank = path.read_bytes().count(b"\n", 0, path.read_bytes().index(b"fine")) + 2
    assert message(read, path).startswith(f"{path}:{first_blank}: required a word and 3 numbers, got no word ('')")


def test_lines_that_end_in_carriage_returns_alone_are_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, "a.txt", b"a 1 2\rb 3 4\rc 5 6\r")
    told = f"{path}:1: required lines that end in a line feed, got a carriage return inside of one"
    assert message(read, path).startswith(told)
    assert "; convert the line ends of the file" in message(read, path)
    assert told in message(read, path, skip_bad=True)
    monkeypatch.setattr("windownet.data.vector_formats._LONGEST_LINE", 10)
    assert "got a longer one; convert its line ends" in message(read, path)


def test_a_bad_line_of_a_packed_file_may_be_damage(tmp_path):
    path = saved(tmp_path, "a.txt.gz", gzip.compress(b"good 1 2 3\nbad 1 2\n"))
    assert f"; correct it, or fetch the packed file again, or {SKIP}" in message(read, path)


def test_first_line_is_bad(tmp_path):
    path = saved(tmp_path, "a.txt", b"x 1 2\ngood 1 2 3\nfine 4 5 6\n")
    assert message(read, path) == f"{path}:1: required a word and 3 numbers, got 2 ('x 1 2'){BAD}"
    assert read(path, skip_bad=True).words == ("good", "fine")


def test_what_two_bad_lines_lack_and_have_too_much_is_not_traded(tmp_path):
    path = saved(tmp_path, "a.txt", b"good 1 2 3\nshort 1  2\nlong 1 2\t3 4\n")
    assert read(path, skip_bad=True).words == ("good",)


def test_lines_are_checked_whether_wanted_or_not_but_numbers_only_if_wanted(tmp_path):
    path = saved(tmp_path, "a.txt", b"good 1 2 3\nnan nan x 3\nfine 4 5 6\n")
    assert read(path, {"good"}).words == ("good",)
    path = saved(tmp_path, "a.txt", b"good 1 2 3\nfine 4 5 6\nbad 1 2\n")
    assert f"{path}:3: required a word and 3 numbers" in message(read, path, {"good"})


def test_first_of_equal_words_counts(tmp_path):
    data = b"4 1\na 1\na 2\nb 3\na 4\n"
    for path in (saved(tmp_path, "a.txt", data), tmp_path / "a.npy"):
        if path.suffix == ".npy":
            write_npy(path, ["a", "a", "b", "a"], np.array([[1.0], [2], [3], [4]]))
        found = read(path)
        assert (found.words, found.matrix.tolist()) == (("a", "b"), [[1], [3]])
        again = 2 if path.suffix == ".npy" else 3
        assert found.counts == Counts(4, 0, 2, first_duplicate=again)
        assert found.counts.warning() == (
            f"lines that name a word again: 2 (the first is number {again}); the first of each word counts"
        )
    # A bad line is not the first.
    found = read(saved(tmp_path, "a.txt", b"4 1\na nan\na 2\nb 3\na 4\n"), skip_bad=True)
    assert (found.words, found.matrix.tolist(), found.counts) == (("a", "b"), [[2], [3]], Counts(4, 1, 1, 5))


@pytest.mark.parametrize(
    ("header", "fault", "skippable"),
    [
        (b"3 2", "required as many words as the header says, 3, got 2; ", True),
        (b"1 2", "required as many words as the header says, 1, got 2; ", True),
        (b"2 3", "required the width of the lines, 2, in the header, got 3; correct the header", False),
        (b"2 0", "required a width from 1 to 65,536 in the header, got 0; correct the header", False),
        (b"2 70000000", "required a width from 1 to 65,536 in the header, got 70,000,000; correct the header", False),
    ],
)
def test_headers_that_lie(tmp_path, header, fault, skippable):
    path = saved(tmp_path, "a.txt", header + b"\na 1 2\nb 3 4\n")
    assert message(read, path).startswith(f"{path}:1: {fault}")
    if skippable:
        found = read(path, skip_bad=True)
        assert found.words == ("a", "b")
        assert found.counts.warning() == f"words by the header: {header[:1].decode()}; in the file: 2"
    else:
        assert message(read, path, skip_bad=True).startswith(f"{path}:1: {fault}")


def test_headers_of_binary_that_lie(tmp_path):
    data = binary("ab", np.ones((2, 5), np.float32)).split(b"\n", 1)[1]
    for count in (b"1", b"3"):
        path = saved(tmp_path, "a.bin", count + b" 5\n" + data)
        assert f":1: required as many words as the header says, {count.decode()}, got 2" in message(read, path)
        assert read(path, skip_bad=True).words == ("a", "b")
    assert "required a word" in message(read, saved(tmp_path, "a.bin", b"2 6\n" + data))


def test_bad_records_of_binary(tmp_path):
    matrix = np.ones((3, 5), np.float32)
    matrix[1, 3] = np.nan
    data = binary("abc", matrix)
    path = saved(tmp_path, "a.bin", data)
    assert message(read, path) == f"{path}: record 2: required finite numbers of float32, got nan for 'b'{BAD}"
    assert read(path, skip_bad=True).words == ("a", "c")
    path = saved(tmp_path, "a.bin", binary("abc", np.ones((3, 5), np.float32)).replace(b"b ", b"\xe9 "))
    assert f"{path}: record 2: required a word in UTF-8, got byte 0xe9" in message(read, path)
    path = saved(tmp_path, "a.bin", data[:-10])
    expected = (
        f"{path}: record 3: required a word, a space and 20 bytes of numbers, got the end of the file after 11 of"
    )
    assert expected in message(read, path, {"a"})
    assert message(read, path, {"a"}).endswith(f" of them; fetch the file again, or {SKIP}")
    # The other one has a number that is none.
    assert read(path, {"a"}, skip_bad=True).counts == Counts(3, 2, 0)
    path = saved(tmp_path, "a.bin", binary("abc", np.ones((3, 5)), end=b"")[:-1])
    assert f"{path}: record 3: required a word, a space and 20 bytes of numbers, got the end" in message(read, path)
    path = saved(tmp_path, "a.bin", b"1 5\n" + b"\xff" * 100_000)
    assert f"{path}: record 1: required a word of less than 65,536 bytes and a space" in message(read, path)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("packing", PACKERS)
def test_a_disk_that_fails(tmp_path, packing, after, monkeypatch):
    class Failing(io.FileIO):
        calls = 0

        def readinto(self, buffer):
            self.calls += 1
            if self.calls > after:
                raise OSError(5, "Input/output error")
            return super().readinto(memoryview(buffer)[:20])

    path = saved(tmp_path, "a.txt" + packing, PACKERS[packing](TEXT))
    monkeypatch.setattr(byte_source.io, "FileIO", Failing)
    assert message(read, path) == f"{path}: required a file that can be read, got 'Input/output error'; check it"


@pytest.mark.parametrize(("zeros", "sound"), [(4, True), (8, True), (400, True), (3, False), (5, False)])
def test_padding_behind_xz(tmp_path, zeros, sound):
    packed = lzma.compress(TEXT) + bytes(zeros)
    path = saved(tmp_path, "a.txt.xz", packed)
    if sound:
        assert read(path).words == WORDS
    else:
        assert "required a whole xz file, got one that breaks off" in message(read, path)
    # What is cut within a stream is no whole file, whatever it ends in.
    assert "breaks off" in message(read, saved(tmp_path, "b.txt.xz", packed[: len(lzma.compress(TEXT)) - 9] + bytes(4)))


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_packed_files_that_break_off(tmp_path, packing, skip_bad):
    kind = {".gz": "gzip", ".xz": "xz"}[packing]
    rng = np.random.default_rng(1)
    data = glove([f"w{n}" for n in range(3000)], rng.standard_normal((3000, 10)))
    packed = PACKERS[packing](data)
    path = saved(tmp_path, "a.txt" + packing, packed[: len(packed) // 2])
    told = message(read, path, {"w5"}, skip_bad=skip_bad)
    assert f"required a whole {kind} file, got one that breaks off; fetch it again" in told
    # The line is the one in which it breaks off.
    line = int(told.removeprefix(f"{path}:").split(":")[0])
    assert 100 < line < 3000
    path = saved(tmp_path, "b.txt" + packing, packed[:-3])
    assert f"{path}:3001: " in message(read, path, skip_bad=skip_bad)
    path = saved(tmp_path, "c.txt" + packing, packed[:-8] + bytes(8))
    assert f"required a sound {kind} file, got one that does not unpack" in message(read, path, skip_bad=skip_bad)
    path = saved(tmp_path, "d.txt" + packing, packed[:9])
    assert f"{path}:1: required a whole {kind} file" in message(read, path)


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("a.txt", b"", ": required bytes to read, got an empty file; "),
        ("a.gz", gzip.compress(b"", mtime=0), ": required word vectors, got a file with nothing in it; "),
        ("a.txt", b"\n\n", ":1: required a word and its numbers parted by spaces, got ''; "),
        ("a.txt", b"<html>\n<head>\n", ":1: required a word and its numbers parted by spaces, got '<html>'; "),
        ("a.txt", b"0 5\n", ": required at least one word vector, got none; "),
        ("a.txt", b"3 5", ":1: required as many words as the header says, 3, got 0; "),
        (
            "a.zip",
            b"PK\x03\x04" + bytes(50),
            ": required an unpacked file, or one packed by gzip or xz, got a zip archive",
        ),
        (
            "a.bin",
            b"\xba\x16\x4f\x2f" + bytes(50),
            ": required a file of word vectors, got a model of fastText; take its",
        ),
        ("a.npy", pickle.dumps({"a": 1}), ": required a file of word vectors, got a pickle, which can run code"),
        ("a.npy", b"a 1 2\n", ": required a whole .npy file, got one that cannot be read ("),
        ("a.safetensors", b"a 1 2\nb 3 4\n", ": required a whole safetensors file, got one that cannot be read ("),
    ],
)
def test_files_without_vectors(tmp_path, name, data, fault):
    path = saved(tmp_path, name, data)
    assert message(read, path).startswith(f"{path}{fault}")


def test_places_without_a_file(tmp_path):
    assert (
        message(read, tmp_path / "no.txt") == f"{tmp_path}/no.txt: required a file, found nothing there; check the path"
    )
    assert message(read, tmp_path) == f"{tmp_path}: required a file, got a directory; name a file in it"
    os.mkfifo(tmp_path / "pipe")
    assert "required a regular file, got a pipe or a device" in message(read, tmp_path / "pipe")


def test_no_line_is_good(tmp_path):
    path = saved(tmp_path, "a.txt", b"2 2\n\xff 1 2\n\xfe 1 2\n")
    told = message(read, path, skip_bad=True)
    assert f"{path}: required at least one word vector, got 2 bad ones, the first {path}:2: required a word in" in told


def test_lines_without_end(tmp_path):
    path = saved(tmp_path, "a.txt", b"a 1 2\nb 3 4\n" + b"\xff" * 6_000_000)
    assert f"{path}:3: required a line of at most 4,194,304 bytes" in message(read, path, skip_bad=True)


def test_width_is_the_one_expected(tmp_path):
    path = saved(tmp_path, "a.txt", TEXT)
    assert read(path, expected_width=2).words == WORDS
    assert message(read, path, expected_width=50) == (
        f"{path}: required vectors of width 50 (model.word_width), got 2; set model.word_width=2 or take another file"
    )


def test_format_can_be_named(tmp_path):
    # Words "5" and "6", one number each; or a header of five words.
    path = saved(tmp_path, "a.txt", b"5 1\n6 2\n")
    assert read(path, format="glove").words == ("5", "6")
    assert "as many words as the header says, 5, got 1" in message(read, path)
    path = saved(tmp_path, "a.txt", TEXT.split(b"\n", 1)[1])
    fault = ":1: required a header, the number of words and their width, got 'of 1 -0.5'; name format glove if"
    assert message(read, path, format="word2vec").startswith(f"{path}{fault}")
    assert message(read, path, format="csv") == f"format: required one of {', '.join(FORMATS)}, got 'csv'"


@pytest.mark.parametrize(
    ("array", "words", "fault"),
    [
        (np.array(ROWS), None, "required its words in a.vocab.txt beside it, found no such file"),
        (np.array(ROWS), b"a\nb\n", "required a word for each of its 3 rows, got 2 words"),
        (np.array(ROWS), b"a\nb\nc\nd", "required a word for each of its 3 rows, got 4 words"),
        (np.array(ROWS), b"a\n\nc\n", " row 2: required a word before the numbers, got none"),
        (np.array(ROWS), b"a\n\xff\nc\n", " row 2: required a word in UTF-8, got byte 0xff"),
        (np.array([[1e39], [0], [0]]), b"a\nb\nc\n", " row 1: required finite numbers of float32, got inf for 'a'"),
        (np.array(ROWS, object), b"a\nb\nc\n", "required an array of numbers, got Python objects in a pickle"),
        (
            np.ones(3),
            b"a\nb\nc\n",
            "required the array of floats (16, 32 or 64 bits) with a row a word, got float64 [3]",
        ),
        (np.ones((3, 2), int), b"a\nb\nc\n", "got int64 [3, 2]; save a float32 array [V, D]"),
        (np.ones((0, 2)), b"", "got float64 [0, 2]; save a float32 array [V, D]"),
    ],
)
def test_bad_npy(tmp_path, array, words, fault):
    path = tmp_path / "a.npy"
    np.save(path, array)
    if words is not None:
        saved(tmp_path, "a.vocab.txt", words)
    told = message(read, path)
    assert told.startswith(f"{path}:")
    assert fault in told


DEEP = b"-" * 5000 + b"1"


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': [",
        b"garbage (((",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 3), }" % 10**40,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }",
        b"{[]:1}",
        DEEP,
    ],
    ids=range(7),
)
def test_npy_with_a_damaged_header(tmp_path, header):
    path = saved(tmp_path, "a.npy", b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n")
    saved(tmp_path, "a.vocab.txt", b"a\n")
    assert message(read, path).startswith(f"{path}: required a whole .npy file, got one that cannot be read (")


@pytest.mark.parametrize("packing", [gzip.compress, lzma.compress, lambda words: b"\x1f\x8bgarbage!!"])
def test_a_damaged_vocabulary(tmp_path, packing):
    packed = packing(b"a\nb\nc\n")[:-1]
    np.save(tmp_path / "a.npy", np.array(ROWS))
    beside = saved(tmp_path, "a.vocab.txt", packed)
    told = message(read, tmp_path / "a.npy")
    assert told.startswith(f"{beside}: required a ") and told.endswith("; fetch or write it again")


def test_a_pointer_to_a_file_is_said_to_be_one(tmp_path):
    for name in ("a.txt", "a.npy", "a.safetensors", "a.bin"):
        path = saved(tmp_path, name, b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
        assert message(read, path) == (
            f"{path}: required a file of word vectors, got a pointer to it by Git LFS; fetch the file itself, as by "
            "`git lfs pull`"
        )


def test_bad_arrays(tmp_path):
    write_npy(tmp_path / "a.npy", WORDS, np.array(ROWS))
    path = saved(tmp_path, "b.npy", (tmp_path / "a.npy").read_bytes()[:-8])
    assert f"{path}: required a whole .npy file, got one that cannot be read" in message(read, path)
    path = saved(tmp_path, "c.npy.gz", gzip.compress((tmp_path / "a.npy").read_bytes()))
    assert f"{path}: required an unpacked npy file, got a gzip one; unpack it" == message(read, path)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, WORDS, np.array(ROWS))
    data = path.read_bytes()
    assert "got one that cannot be read" in message(read, saved(tmp_path, "d.safetensors", data[:-5]))
    matrix, words = np.ones((2, 2), np.float32), np.frombuffer(b"a\nb\n", np.uint8)
    for tensors, fault in [
        ({"table": matrix}, "required a tensor 'vectors' [V, D], got table; save the vectors under that name"),
        ({"vectors": matrix.astype(int), "words": words}, "got I64 [2, 2]; save a float32 array [V, D]"),
        ({"vectors": matrix, "words": words[:2]}, "required a word for each of its 2 rows, got 1 words"),
        ({"vectors": matrix, "words": words[:0]}, "required a word for each of its 2 rows, got 0 words"),
        ({"vectors": matrix, "words": words.astype(int)}, "required tensor 'words' in one row of uint8, got I64 [4]"),
        ({"vectors": matrix}, "required its words in e.vocab.txt beside it"),
    ]:
        safetensors.numpy.save_file(tensors, tmp_path / "e.safetensors")
        assert fault in message(read, tmp_path / "e.safetensors")


def vocabulary(words, case="keep", digits="keep"):
    return Vocabulary(["<padding>", "<rare>", *words.split()], Normalization(case, digits))


@pytest.mark.parametrize(
    ("case", "digits", "words", "file", "expected"),
    [
        # Exact goes before lower wherever it stands in the file; several words may share a lower case.
        ("keep", "keep", "Paris PARIS x", "paris Paris", {"Paris": ("EXACT", 2), "PARIS": ("LOWER", 1)}),
        ("keep", "keep", "Paris PARIS", "paris", {"Paris": ("LOWER", 1), "PARIS": ("LOWER", 1)}),
        ("keep", "keep", "Paris", "PARIS pARIS", {}),
        # Vectors of words normalized likewise.
        ("lower", "zero", "paris 0000", "0000 paris", {"0000": ("EXACT", 1), "paris": ("EXACT", 2)}),
        ("lower", "number", "NUMBER number", "7 number", {"NUMBER": ("NORMALIZED", 1), "number": ("EXACT", 2)}),
        ("lower", "number", "NUMBER", "number 7 NUMBER", {"NUMBER": ("EXACT", 3)}),
        # Vectors of words as written.
        ("lower", "zero", "us 0000", "US 1999 2004 us", {"us": ("EXACT", 4), "0000": ("NORMALIZED", 2)}),
        ("lower", "keep", "us", "Us US", {"us": ("NORMALIZED", 1)}),
        ("keep", "zero", "F00", "f16 F16", {"F00": ("NORMALIZED", 1)}),
        ("keep", "zero", "F00", "f16 f00", {"F00": ("LOWER", 2)}),
        ("keep", "keep", "<padding> <rare> a", "<padding> <rare> a", {"a": ("EXACT", 3)}),
    ],
)
def test_a_row_takes_the_best_vector_there_is(tmp_path, case, digits, words, file, expected):
    known = vocabulary(words.replace("<padding> <rare> ", ""), case, digits)
    path = saved(tmp_path, "a.txt", b"".join(b"%b %d 1\n" % (w.encode(), n) for n, w in enumerate(file.split(), 1)))
    table = np.full((len(known), 2), -1.0)
    filled = fill(table, known, path, format="glove")
    found = {
        known.words[row]: (Match(match).name, int(table[row, 0]))
        for row, match in enumerate(filled.matches)
        if match != Match.MISSING
    }
    assert found == expected
    missing = filled.matches == Match.MISSING
    assert (table[missing] == -1).all()
    assert (table[~missing, 1] == 1).all()
    assert sum(map(filled.count, Match)) == len(known)
    assert filled.counts.lines == len(file.split())


def test_filling_refuses_another_width_and_counts(tmp_path):
    path = saved(tmp_path, "a.txt", b"a 1 2\nb 3\na 5 6\n")
    known = vocabulary("a")
    assert "required vectors of width 3 (model.word_width), got 2" in message(fill, np.zeros((3, 3)), known, path)
    filled = fill(np.zeros((3, 2)), known, path, skip_bad=True)
    assert filled.counts == Counts(3, 1, 1, first_duplicate=3)
    assert filled.counts.warning() == (
        "bad lines skipped: 1 of 3; lines that name a word again: 1 (number 3); the first of each word counts"
    )


FILE = b"The 1 0\nthe 2 0\ntelly 3 0\n<rare> 4 0\nTV 5 0\nTelly 6 0\n1999 7 0\n2004 8 0\ntelevision 9 0\n"


def test_words_of_the_file_join_a_vocabulary(tmp_path):
    path = saved(tmp_path, "a.txt", FILE)
    known = vocabulary("tv", "lower", "zero")
    assert extend(known, path, 3).words == (*known.words, "the", "telly", "0000")
    extended = extend(known, path, 100)
    assert extended.words == (*known.words, "the", "telly", "0000", "television")
    assert extended.normalization == known.normalization
    assert extended.encode(["TV", "Television", "1066", "radio"]).tolist() == [2, 6, 5, 1]
    table = np.zeros((7, 2))
    assert fill(table, extended, path).count(Match.MISSING) == 2
    assert table[2:, 0].tolist() == [5, 2, 3, 7, 9]
    assert extend(known, path, 0).words == known.words


def test_extending_reads_no_further_than_needed_and_takes_no_word_without_a_vector(tmp_path):
    many = b"".join(b"w%d 1 0\n" % n for n in range(200_000))
    path = saved(tmp_path, "a.txt", FILE + many + b"broken\n")
    assert len(extend(vocabulary("tv"), path, 3)) == 6
    path = saved(tmp_path, "a.txt", b"a 1 2\nb nan 2\nc 1 2\n")
    assert extend(vocabulary(""), path, 9, skip_bad=True).words[2:] == ("a", "c")
    write_npy(tmp_path / "a.npy", ["a"], np.ones((1, 3)))
    assert "width 2 (model.word_width), got 3" in message(
        extend, vocabulary(""), tmp_path / "a.npy", 9, expected_width=2
    )


def test_text_is_written_as_word2vec_has_it(tmp_path):
    path = tmp_path / "a.txt"
    write_word2vec_text(path, ["of", "\u00e9"], np.array([[1, -0.1], [1e-8, 3e8]], np.float32))
    assert path.read_bytes() == "2 2\nof 1 -0.100000001\n\u00e9 9.99999994e-09 300000000\n".encode()


def test_safetensors_are_what_the_library_reads(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, WORDS, np.array(ROWS))
    tensors = safetensors.numpy.load_file(path)
    assert tensors["words"].tobytes() == b"of\nParis\nNew York\n"
    assert np.array_equal(tensors["vectors"], np.array(ROWS, np.float32))
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0


@pytest.mark.parametrize("write", [write_word2vec_text, write_safetensors])
def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, write, monkeypatch):
    path = saved(tmp_path, "a.out", b"before")
    refused = ["a", "b\nc"]
    for words, error in [(refused, InputError), (["a", "a"], ValueError), (["a"], ValueError), ([], ValueError)]:
        with pytest.raises(error):
            write(path, words, np.ones((2 if words else 0, 3)))
    with pytest.raises(ValueError, match="finite"):
        write(path, ["a", "b"], np.array([[1], [np.inf]]))
    with pytest.raises(UnicodeEncodeError):
        write(path, ["a", "\udc80"], np.ones((2, 3)))
    assert (path.read_bytes(), names(tmp_path)) == (b"before", ["a.out"])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(path, ["a", "b"], np.ones((2, 3)))
    monkeypatch.undo()
    assert (path.read_bytes(), names(tmp_path)) == (b"before", ["a.out"])
    write(path, ["a", "b"], np.ones((2, 3)))
    assert read(path, format=None).words == ("a", "b")
    assert names(tmp_path) == ["a.out"]


@pytest.mark.parametrize("word", ["", "New York", "a\tb", "a\rb"])
def test_words_that_text_cannot_hold_are_refused(tmp_path, word):
    told = message(vectors.write_word2vec_text, tmp_path / "a.txt", ["a", word], np.ones((2, 3)))
    assert told == f"{tmp_path}/a.txt: required words without blanks in word2vec text, got {word!r}; write safetensors"
