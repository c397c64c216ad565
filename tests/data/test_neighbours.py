import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st

from windownet.cli import main
from windownet.data.neighbours import edit_distances, nearest, of_words
from windownet.data.vector_file import FORMATS, Block
from windownet.data.vectors import write_safetensors, write_word2vec_text

VECTORS = {
    "tv": [2, 0, 0],
    "television": [5, 1, 0],
    "telly": [1, 1, 0],
    "nothing": [0, 0, 0],
    "Oslo": [0, 0, 0.5],
    "radio": [-3, 0, 0],
    "television2": [10, 2, 0],
}


def neighbours(*arguments, **options):
    return CliRunner().invoke(main, ["neighbours", *(str(argument) for argument in arguments)], **options)


@pytest.fixture(params=[".txt", ".safetensors"])
def path(request, tmp_path):
    write = {".txt": write_word2vec_text, ".safetensors": write_safetensors}[request.param]
    write(tmp_path / f"a{request.param}", list(VECTORS), np.array(list(VECTORS.values())))
    return tmp_path / f"a{request.param}"


def test_words_by_their_cosine(path):
    result = neighbours(path, "tv", "Oslo", "tv", "--count", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    # Of equally near words the first in the file comes first; a zero vector is at right angles to all.
    assert result.stdout.splitlines() == [
        "tv",
        "   0.9806  television",
        "   0.9806  television2",
        "   0.7071  telly",
        "Oslo",
        "   0.0000  tv",
        "   0.0000  television",
        "   0.0000  telly",
    ]


def test_json(path):
    result = neighbours(path, "tv", "--json", "--count", 100)
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert {key: found[key] for key in ("width", "lines", "skipped", "duplicates")} == {
        "width": 3,
        "lines": 7,
        "skipped": 0,
        "duplicates": 0,
    }
    assert list(found["neighbours"]) == ["tv"]
    words = [neighbour["word"] for neighbour in found["neighbours"]["tv"]]
    assert words == ["television", "television2", "telly", "nothing", "Oslo", "radio"]
    assert found["neighbours"]["tv"][-1] == {"word": "radio", "cosine": -1.0}


@given(st.data())
def test_nearest_is_a_full_sort(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    V, Q, count = (data.draw(st.integers(1, bound)) for bound in (40, 3, 12))
    V = max(V, Q)
    # Few values, so that many words are equally near.
    matrix = rng.integers(-2, 3, (V, 2)).astype(np.float32)
    matrix[:Q, 0] = 1
    words = [f"w{n}" for n in range(V)]
    step = data.draw(st.integers(1, 15))
    blocks = (Block(words[n : n + step], matrix[n : n + step]) for n in range(0, V, step))
    found = nearest(words[:Q], matrix[:Q], blocks, count)
    for q in range(Q):
        norms = np.linalg.norm(matrix.astype(float), axis=1) * np.linalg.norm(matrix[q].astype(float))
        cosines = matrix.astype(float) @ matrix[q] / np.where(norms > 0, norms, 1)
        order = sorted((n for n in range(V) if n != q), key=lambda n: -round(cosines[n], 9))[:count]
        got = sorted(found[words[q]], key=lambda neighbour: -round(neighbour.cosine, 9))
        assert np.allclose([neighbour.cosine for neighbour in got], cosines[order])
        # Where rounding tells equal cosines apart, which of them come is not said.
        clear = [n for n in order if cosines[n] > cosines[order[-1]] + 1e-9]
        assert {words[n] for n in clear} <= {neighbour.word for neighbour in got}


def reference_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


@given(st.text("ab\u00e9\U0001f600", max_size=6), st.lists(st.text("ab\u00e9\U0001f600", max_size=7), max_size=6))
def test_edit_distances(word, others):
    assert edit_distances(word, others).tolist() == [reference_distance(word, other) for other in others]


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("oslo", "'Oslo'"),
        ("TV", "'tv'"),
        ("televission", "'television'"),
        ("relly", "'telly'"),
        ("x", "nothing"),
        ("parliament", "nothing"),
    ],
)
def test_a_word_that_is_not_there(path, word, near):
    result = neighbours(path, "tv", word)
    assert (result.exit_code, result.stdout) == (2, "")
    expected = f"required words that are in it, got {word!r} ({near} is near it in spelling); ask for others"
    assert result.stderr == f"windownet: {path}: {expected}\n"


def test_words_that_are_not_there_in_a_large_file(tmp_path):
    words = [f"word{n}" for n in range(20_000)] + ["Ljubljana"]
    write_safetensors(tmp_path / "a.safetensors", words, np.ones((len(words), 1)))
    result = neighbours(tmp_path / "a.safetensors", "lubljana", "ljubljama")
    assert result.stderr.count("'Ljubljana' is near") == 2


def test_a_word_without_direction(path):
    result = neighbours(path, "nothing")
    assert result.exit_code == 2
    assert "required a vector with a direction, got zeros for 'nothing'" in result.stderr


def test_bad_lines_and_words_that_come_again(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("tv 1 0\ntelly 1 1\nradio 1\ntv 0 1\ntelly 0 1\n")
    result = neighbours(path, "tv")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"windownet: {path}:3: required a word and 2 numbers, got 1 ('radio 1')")
    assert result.stderr.count("\n") == 1
    result = neighbours(path, "tv", "--skip-bad-lines")
    assert result.exit_code == 0
    assert result.stdout == "tv\n   0.7071  telly\n"
    assert result.stderr == (
        f"warning: {path}: bad lines skipped: 1 of 5; lines that name a word again: 2 (the first is number 4); "
        "the first of each word counts\n"
    )


def test_numbers_are_checked_of_words_that_were_not_asked_for(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("tv 1 0\ntelly 1 nan\nradio 0 1\n")
    assert f"{path}:2: required finite numbers of float32, got nan for 'telly'" in neighbours(path, "tv").stderr
    assert neighbours(path, "tv", "--skip-bad-lines").stdout == "tv\n   0.0000  radio\n"


def test_a_word_whose_own_line_was_skipped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("tv 1 0\nking 1 x\nking2 1 y\nkings 0 1\n")
    told = neighbours(path, "king", "--skip-bad-lines").stderr
    assert "got 'king' ('king2' is near it in spelling)" in told
    assert told.endswith("; ask for others (bad lines skipped, and their words with them: 2 of 4)\n")
    np.save(tmp_path / "b.npy", [[1e300, 0], [1, 0], [0, 1]])
    (tmp_path / "b.vocab.txt").write_text("king\nqueen\nprince\n")
    told = neighbours(tmp_path / "b.npy", "king", "--skip-bad-lines").stderr
    assert "got 'king' (nothing is near it in spelling); ask for others (bad lines skipped" in told


def test_a_word_is_one_short_line(tmp_path):
    path, words = tmp_path / "a.safetensors", ["tv", "a\u2028b\x1b[31m", "x" * 70_000]
    write_safetensors(path, words, np.eye(3))
    lines = neighbours(path, "tv", words[2]).stdout.splitlines()
    assert [line[10:].strip() for line in lines[1:3]] == ["a\\u2028b\\x1b[31m", "x" * 59 + "…"]
    assert lines[3] == "x" * 59 + "…"


def test_every_format_can_be_named(tmp_path):
    choice = next(option for option in main.commands["neighbours"].params if option.name == "form").type
    assert tuple(choice.choices) == FORMATS
    path = tmp_path / "a.txt"
    path.write_text("5 1\n6 2\n7 -1\n")
    assert "as the header says, 5, got 2" in neighbours(path, "6").stderr
    assert neighbours(path, "6", "--format", "glove").stdout == "6\n   1.0000  5\n  -1.0000  7\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_where_there_is_a_terminal(path, terminal):
    result = neighbours(path, "tv", "--count", 1, env={"FORCE_COLOR": "1" if terminal else None})
    assert result.stdout.splitlines() == ["tv", "   0.9806  television"]
    assert ("reading" in result.stderr) == terminal


def test_arguments(path):
    for arguments in [(path,), (path, "tv", "--count", "0"), (path, "tv", "--format", "csv")]:
        assert neighbours(*arguments).exit_code == 2
    assert neighbours(path.with_name("no.txt"), "tv").stderr == (
        f"windownet: {path.with_name('no.txt')}: required a file, found nothing there; check the path\n"
    )


def test_asking_in_another_order_changes_nothing(path):
    there, back = of_words(path, ["tv", "telly"]), of_words(path, ["telly", "tv"])
    assert there.nearest == back.nearest
    assert list(back.nearest) == ["telly", "tv"]
