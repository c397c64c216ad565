"""What drift tells of two tables, and of a run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from windownet import metrics, run_folder
from windownet.cli import main
from windownet.data.vectors import write_word2vec_text
from windownet.train.drift import of_tables
from windownet.verbs.vectors import drift_lines

NAMES = ("<padding>", "<rare>", "tv", "telly", "television", "rome")
START = np.array([[9, 9], [9, 9], [1, 0], [1, 0.2], [1, 0.1], [0, 1]], np.float32)
COUNTS = np.array([50, 9, 3, 2, 0, 4])


def test_what_moved_and_what_was_left_behind() -> None:
    end = START.copy()
    end[0] = [0, 0]
    end[[2, 3]] = [[0, 1], [0.2, 1]]
    drift = of_tables(NAMES, START, end, COUNTS, words=2, neighbours=1, examined=9)
    assert (drift.words, drift.trained, drift.untouched, drift.examined) == (4, 3, 2, 3)
    assert drift.distance == pytest.approx((np.sqrt(2) + np.hypot(0.8, 0.8) + 0) / 3)
    assert [moved.word for moved in drift.most] == ["tv", "telly"]
    tv = drift.most[0]
    assert (tv.count, tv.before, tv.after) == (3, ("television",), ("rome",))
    assert tv.distance == pytest.approx(np.sqrt(2))
    assert tv.cosine == pytest.approx(0)
    # Both trained words had television next to them, and rome's nearest trained with it.
    assert drift.pairs == 2
    cosines = [START[n] @ START[4] / np.linalg.norm(START[n]) / np.linalg.norm(START[4]) for n in (2, 3)]
    assert drift.gap_before == pytest.approx(np.mean(cosines), rel=1e-6)
    cosines = [end[n] @ START[4] / np.linalg.norm(end[n]) / np.linalg.norm(START[4]) for n in (2, 3)]
    assert drift.gap_after == pytest.approx(np.mean(cosines), rel=1e-6)
    assert drift.kept == pytest.approx(0)


def test_the_most_frequent_are_examined_and_the_nearest_come_first() -> None:
    end = START.copy()
    end[[3, 5]] *= -1
    drift = of_tables(NAMES, START, end, COUNTS, words=1, neighbours=3, examined=1)
    # Rome is the most frequent. Its nearest words still are, but now television is the furthest of them.
    assert (drift.examined, drift.pairs, drift.kept) == (1, 1, 1)
    (rome,) = of_tables(NAMES, START, end, np.where(COUNTS == 4, 4, 0), words=1, neighbours=3, examined=1).most
    assert (rome.before, rome.after) == (("telly", "television", "tv"), ("telly", "tv", "television"))
    assert drift.most[0].word == "telly"
    cosine = START[5] @ START[4] / np.linalg.norm(START[4])
    assert (drift.gap_before, drift.gap_after) == (pytest.approx(cosine), pytest.approx(-cosine))


def test_nothing_moved() -> None:
    drift = of_tables(NAMES, START, START, COUNTS, words=2, neighbours=2, examined=9)
    assert (drift.untouched, drift.distance, drift.kept) == (4, 0, 1)
    assert drift.gap_before == drift.gap_after
    assert drift.most == ()
    assert drift_lines(drift) == [
        "4 words, 3 of them in training text; 4 vectors are bit for bit what they were",
        "no word in training text moved",
    ]


def test_the_longest_vectors_have_directions() -> None:
    usual, longest = (
        of_tables(NAMES, scale * START, scale * START[:, ::-1], COUNTS, words=2, neighbours=2, examined=9)
        for scale in (1, np.float32(3e37))
    )
    assert longest.gap_before == pytest.approx(usual.gap_before)
    assert longest.gap_after == pytest.approx(usual.gap_after)


def test_no_word_trained_and_fewer_words_than_neighbours() -> None:
    drift = of_tables(NAMES, START, START, np.zeros(6, int), words=2, neighbours=10, examined=9)
    assert (drift.trained, drift.examined, drift.pairs, drift.most) == (0, 0, 0, ())
    assert drift.to_json()["distance"] is None
    assert drift_lines(drift)[1:] == [
        "no word of the table is in training text, so there is none that training could move"
    ]
    alone = of_tables(NAMES[:3], START[:3], -START[:3], COUNTS[:3], words=2, neighbours=10, examined=9)
    assert alone.most[0].before == ()


def test_a_run(tmp_path: Path) -> None:
    text = "ann B-PER\nwatched O\ntv O\n\nbob B-PER\nhad O\ntelly O\n\n" * 8
    (tmp_path / "train.conll").write_text(text, encoding="utf-8")
    words = ["tv", "telly", "television", "ann", "lima"]
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    vectors[2] = vectors[:2].mean(axis=0)
    write_word2vec_text(tmp_path / "vectors.txt", words, vectors)
    (tmp_path / "c.toml").write_text(
        f'[data]\nroot = "{tmp_path}"\ntrain = "train.conll"\ndev = "train.conll"\n'
        f'[words]\nvectors = "{tmp_path / "vectors.txt"}"\n[model]\nword_width = 4\nhidden = [4]\n'
        "[train]\nepochs = 2\nbatch_size = 8\n"
    )
    runner = CliRunner()
    assert runner.invoke(main, ["train", str(tmp_path / "c.toml"), "--run-dir", str(tmp_path / "run")]).exit_code == 0
    result = runner.invoke(main, ["drift", str(tmp_path / "run"), "--json"])
    found = json.loads(result.stdout)
    assert (found["words"], found["trained"], found["untouched"]) == (8, 6, 2)
    assert found["distance"] > 0
    assert {moved["word"] for moved in found["most"]} == {"ann", "watched", "tv", "bob", "had", "telly"}
    wide = {"COLUMNS": "200"}
    shown = runner.invoke(main, ["drift", str(tmp_path / "run"), "--words", "3"], env=wide)
    lines = shown.stdout.splitlines()
    assert lines[1] == "8 words, 6 of them in training text; 2 vectors are bit for bit what they were"
    assert lines[4] == (
        f"cosine with former nearest words that did not train: {found['gap_before']:.3f} before, "
        f"{found['gap_after']:.3f} after ({found['pairs']} pairs)"
    )
    head, *rows = ([cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines if line[0] in "┃│")
    assert head == ["word", "in training", "distance", "cosine", "nearest before", "nearest after"]
    assert rows == [
        [
            *(moved["word"], str(moved["count"]), f"{moved['distance']:.3f}", f"{moved['cosine']:.3f}"),
            *(", ".join(moved[when][:4]) for when in ("before", "after")),
        ]
        for moved in found["most"][:3]
    ]
    none = runner.invoke(main, ["drift", str(tmp_path / "run"), "--words", "0"], env=wide).stdout.splitlines()
    assert none == lines[:5]

    end = metrics.last(tmp_path / "run" / "metrics.jsonl", "end")
    assert end is not None
    assert (found["epoch"], found["epochs"], found["frozen_epochs"]) == (best := end.number("best_epoch"), 2, 0)
    assert shown.stdout.startswith(f"the model of epoch {best}, of 2\n")
    settings = ["words.unfreeze_after=1", "--run-dir", str(tmp_path / "late")]
    assert runner.invoke(main, ["train", str(tmp_path / "c.toml"), *settings]).exit_code == 0
    for model, epoch in (("last", 2), ("model", run_folder.epoch_of(tmp_path / "late" / "model"))):
        late = runner.invoke(main, ["drift", str(tmp_path / "late" / model)])
        assert late.stdout.startswith(f"the model of epoch {epoch}, of 2; the table was frozen up to epoch 1\n")
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "alone")
    assert json.loads(runner.invoke(main, ["drift", str(tmp_path / "alone"), "--json"]).stdout)["epoch"] is None

    write_word2vec_text(tmp_path / "vectors.txt", words, -3 * vectors)
    changed = runner.invoke(main, ["drift", str(tmp_path / "run")])
    assert changed.exit_code == 2
    assert f"{tmp_path / 'run' / 'environment.json'}: required the vectors (words.vectors) that the" in changed.stderr
    write_word2vec_text(tmp_path / "vectors.txt", words, vectors)
    (tmp_path / "train.conll").write_text(text.replace("tv O", "tv B-PER", 1), encoding="utf-8")
    changed = runner.invoke(main, ["drift", str(tmp_path / "run" / "last")])
    assert changed.exit_code == 2
    assert "required the train data (data.train) that the run began with" in changed.stderr
    (tmp_path / "run" / "environment.json").write_text("[]", encoding="utf-8")
    assert "got a file without them" in runner.invoke(main, ["drift", str(tmp_path / "run")]).stderr
    (tmp_path / "train.conll").write_text(text.replace("had", "sold"), encoding="utf-8")
    changed = runner.invoke(main, ["drift", str(tmp_path / "run")])
    assert changed.exit_code == 2
    assert "required what the run was trained on" in changed.stderr
