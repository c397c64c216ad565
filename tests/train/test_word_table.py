"""The word table of a run: what a file fills, what training moves, and what is said of it."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from windownet import config, run_folder
from windownet.data.vectors import write_word2vec_text
from windownet.errors import InputError
from windownet.tagger import artifact
from windownet.tagger.tagger import Tagger
from windownet.train import loop
from windownet.train.prepare import Prepared, prepare

TRAIN = [
    "ann B-PER|watched O|tv O|in O|rome B-LOC",
    "bob B-PER|watched O|telly O|in O|oslo B-LOC",
    "ann B-PER|met O|bob B-PER",
] * 6
WORDS = ["ann", "bob", "tv", "telly", "television", "rome", "Lima", "watched"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)
numbers = itertools.count()


def make(folder: Path, **sections: dict[str, object]) -> Prepared:
    text = "".join(sentence.replace("|", "\n") + "\n\n" for sentence in TRAIN)
    for part in ("train", "dev"):
        (folder / f"{part}.conll").write_text(text, encoding="utf-8")
    write_word2vec_text(folder / "vectors.txt", WORDS, VECTORS)
    tree: dict[str, Any] = {
        "data": {"root": str(folder), "train": "train.conll", "dev": "dev.conll"},
        "model": {"hidden": [8], "word_width": 6},
        "optimizer": {"learning_rate": 0.02},
        "words": {"vectors": str(folder / "vectors.txt")},
        "train": {"epochs": 3, "batch_size": 8, "steps_per_call": 4},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return prepare(config.parse(tree, "test"))


def trained(prepared: Prepared, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The word table at the end of a run and which of its rows are bit for bit what they were."""
    run = folder / f"run{next(numbers)}"
    run_folder.create(run, prepared.config.to_toml())
    loop.train(prepared, run, Console(file=io.StringIO()))
    words = np.asarray(artifact.load(run / run_folder.LAST).params["words"])
    assert prepared.words.pretrained is not None
    return words, (words == prepared.words.pretrained).all(axis=1)


def test_rows_of_the_file_and_words_that_only_it_has(tmp_path: Path) -> None:
    prepared = make(tmp_path)
    table, vocabulary = prepared.words, prepared.vocabulary
    assert {"television", "lima"} <= set(vocabulary.words)
    assert table.pretrained is not None
    assert table.found is not None
    row = {word: n for n, word in enumerate(vocabulary.words)}
    for word, vector in zip(WORDS, VECTORS, strict=True):
        assert (table.pretrained[row[word.lower()]] == vector).all()
    assert not table.found[[0, 1, row["in"], row["oslo"], row["met"]]].any()
    assert "6 of 9 words of training have one, 2 words beside them" in table.notes[0]
    assert "7 matched exactly, 0 in lower case, 1 normalized" in table.notes[0]
    assert len(make(tmp_path, words={"extra": 1}).vocabulary) == len(vocabulary) - 1
    assert "television" not in make(tmp_path, words={"extra": 0}).vocabulary.words


@pytest.mark.parametrize("rows", ["exact", "lazy", "replay", "dense"])
def test_words_that_never_trained_keep_their_bits_and_stay_usable(tmp_path: Path, rows: str) -> None:
    prepared = make(tmp_path, optimizer={"rows": rows})
    _, kept = trained(prepared, tmp_path)
    row = {word: n for n, word in enumerate(prepared.vocabulary.words)}
    assert kept[[row["television"], row["lima"]]].all()
    assert not kept[[row[word] for word in ("ann", "bob", "tv", "telly", "rome", "watched")]].any()
    assert prepared.vocabulary.encode(["TELEVISION"]) == row["television"] > 1


def test_modes_agree_at_the_end_of_a_run(tmp_path: Path) -> None:
    ends = {
        rows: trained(make(tmp_path, optimizer={"rows": rows}), tmp_path)[0] for rows in ("exact", "replay", "dense")
    }
    assert np.allclose(ends["exact"], ends["dense"], rtol=1e-4, atol=1e-6)
    assert np.allclose(ends["replay"], ends["dense"], rtol=1e-4, atol=1e-6)
    lazy, _ = trained(make(tmp_path, optimizer={"rows": "lazy"}), tmp_path)
    assert not np.allclose(lazy, ends["dense"], rtol=1e-4, atol=1e-6)


def test_a_frozen_table_and_one_that_thaws(tmp_path: Path) -> None:
    decay = {"name": "adamw", "weight_decay": 0.5, "learning_rate": 0.02}
    frozen = make(tmp_path, words={"update": "freeze"}, optimizer=decay)
    assert frozen.words.notes[-1] == "word table: frozen"
    found = frozen.words.found
    assert trained(frozen, tmp_path)[1][found].all()
    thawing = make(tmp_path, words={"unfreeze_after": 2}, optimizer=decay)
    assert thawing.words.notes[-1] == "word table: frozen for 2 epochs, then fine-tuned"
    late = trained(thawing, tmp_path)[0]
    early = trained(make(tmp_path, optimizer=decay), tmp_path)[0]
    assert not trained(thawing, tmp_path)[1][2:8].any()
    start = frozen.words.pretrained
    assert np.abs(late - start)[found].mean() < 0.7 * np.abs(early - start)[found].mean()


def test_the_anchor_and_the_rate_hold_words_back(tmp_path: Path) -> None:
    def moved(**sections: dict[str, object]) -> float:
        prepared = make(tmp_path, **sections)
        return float(np.abs(trained(prepared, tmp_path)[0] - prepared.words.pretrained)[prepared.words.found].mean())

    free = moved()
    assert moved(words={"anchor": 1.0}) < 0.7 * free
    assert moved(optimizer={"learning_rate": 0.02, "rates": {"words": 0.1}}) < 0.3 * free
    assert moved(optimizer={"learning_rate": 0.02, "rates": {"words": 0.0}}) == 0


def test_auto_says_what_it_chose_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from windownet.train import word_table

    monkeypatch.setattr(word_table, "ENOUGH_WORDS", 78)
    auto = make(tmp_path, words={"update": "auto"})
    assert auto.words.frozen_epochs == 0
    assert auto.words.notes[-1] == "word table: fine-tuned, as 78 training words are 78 or more"
    monkeypatch.setattr(word_table, "ENOUGH_WORDS", 79)
    auto = make(tmp_path, words={"update": "auto"})
    assert auto.words.frozen_epochs == 3
    assert auto.words.notes[-1] == "word table: frozen, as 78 training words are fewer than 79"
    without = make(tmp_path, words={"update": "auto", "vectors": ""})
    assert without.words.frozen_epochs == 0
    assert "no pretrained vectors" in without.words.notes[-1]


def test_auto_says_how_long_it_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from windownet.train import word_table

    def decided(**words: object) -> tuple[int, str]:
        table = make(tmp_path, words={"update": "auto", **words}).words
        return table.frozen_epochs, table.notes[-1]

    monkeypatch.setattr(word_table, "ENOUGH_WORDS", 78)
    reason = "as 78 training words are 78 or more"
    assert decided(unfreeze_after=2) == (2, f"word table: frozen for 2 epochs, then fine-tuned, {reason}")
    reason = "as there are no pretrained vectors to keep"
    assert decided(unfreeze_after=1, vectors="") == (1, f"word table: frozen for 1 epoch, then fine-tuned, {reason}")
    monkeypatch.setattr(word_table, "ENOUGH_WORDS", 79)
    reason = "as 78 training words are fewer than 79"
    assert decided(unfreeze_after=2) == (3, f"word table: frozen for all 3 epochs, not only 2, {reason}")


def test_warnings(tmp_path: Path) -> None:
    assert "stay random" in make(tmp_path, words={"update": "freeze", "vectors": ""}).words.warnings[0]
    foreign = tmp_path / "foreign.txt"
    write_word2vec_text(foreign, ["huis", "boom"], VECTORS[:2])
    assert "none of the 9 words" in make(tmp_path, words={"vectors": str(foreign)}).words.warnings[0]
    # Too rare for rows of their own, they have one by the file.
    rare = make(tmp_path, features={"min_count": 1000})
    assert "6 of 6 words of training have one, 2 words beside them" in rare.words.notes[0]
    assert rare.words.warnings == ()
    assert make(tmp_path, features={"min_count": 1000}, words={"extra": 0}).words.warnings == ()
    twice = tmp_path / "twice.txt"
    twice.write_text("ann 1 2 3 4 5 6\nann 1 2 3 4 5 6\nbob 1 2\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"twice.txt:3: "):
        make(tmp_path, words={"vectors": str(twice)})
    warnings = make(tmp_path, words={"vectors": str(twice), "skip_bad_lines": True}).words.warnings
    assert "bad lines skipped: 1 of 3; lines that name a word again: 1" in warnings[0]
    # Words that training does not have are met before the table is filled; their bad lines count as well.
    strangers = tmp_path / "strangers.txt"
    strangers.write_text("ann 1 2 3 4 5 6\nhuis 1 2 nan 4 5 6\nboom 1 2 3 4 5 x\nbos 1\n", encoding="utf-8")
    for extra in (0, 100):
        words = {"vectors": str(strangers), "skip_bad_lines": True, "extra": extra}
        assert "bad lines skipped: 3 of 4" in make(tmp_path, words=words).words.warnings[0]


def test_a_bar_is_for_a_terminal(tmp_path: Path) -> None:
    told = io.StringIO()
    prepare(make(tmp_path).config, Console(file=told))
    assert told.getvalue() == ""
    prepare(make(tmp_path).config, Console(file=told, force_terminal=True))
    assert "word vectors" in told.getvalue()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="6"):
        make(tmp_path, model={"word_width": 7})
    with pytest.raises(InputError, match=r"unfreeze_after: required words.update = 'fine-tune'"):
        make(tmp_path, words={"update": "freeze", "unfreeze_after": 1})
    with pytest.raises(InputError, match=r"fewer than train.epochs = 3, got 3"):
        make(tmp_path, words={"unfreeze_after": 3})
    for b1 in (0.99, 0.9):
        with pytest.raises(InputError, match=r"set optimizer.rows = 'replay'"):
            make(tmp_path, optimizer={"b1": b1, "b2": 0.9})
    for patterns in ({"rates": {"word": 0.1}}, {"undecayed": ["*.b", "word"]}):
        with pytest.raises(InputError, match=r"got 'word', which matches none of capitals, hidden.0.b, hidden.0.w,"):
            make(tmp_path, optimizer=patterns)


def test_a_loaded_model_tags_with_what_only_the_file_had(tmp_path: Path) -> None:
    # Lima stands where Rome stands in the file: a name that training never saw is found by its vector alone.
    vectors = VECTORS.copy()
    vectors[WORDS.index("Lima")] = vectors[WORDS.index("rome")]
    prepared = make(tmp_path, words={"update": "freeze"}, train={"epochs": 20})
    write_word2vec_text(tmp_path / "vectors.txt", WORDS, vectors)
    prepared = prepare(prepared.config)
    run_folder.create(tmp_path / "run", prepared.config.to_toml())
    loop.train(prepared, tmp_path / "run", Console(file=io.StringIO()))
    tags = Tagger(artifact.load(tmp_path / "run")).tag([["ann", "watched", "tv", "in", "lima"]])
    assert tags[0][-1] == "S-LOC"
