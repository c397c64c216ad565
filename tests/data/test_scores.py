"""`score` against an independent conlleval, against seqeval, and against recorded figures."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from windownet.data.scores import Figures, score
from windownet.data.tags import SCHEMES, labels

TYPES = ["PER", "LOC", "creative-work"]
EVERY_TAG = labels(TYPES, "BIOES")


def pairs(tags):
    """Aligned (gold, predicted) tag sequences of a few short sentences; gold is often kept, so that mentions match."""
    token = st.sampled_from(tags).flatmap(lambda tag: st.tuples(st.just(tag), st.sampled_from([tag] * 3 + tags)))
    sentence = st.lists(token, max_size=9)
    return st.lists(sentence, max_size=5).map(
        lambda rows: ([[gold for gold, _ in row] for row in rows], [[got for _, got in row] for row in rows])
    )


class Conlleval:
    """The evaluator's own procedure: two chunkers that step token by token, and one flag 'all right so far'."""

    def __init__(self, gold, predicted):
        self.found_gold, self.found_predicted, self.correct = Counter(), Counter(), Counter()
        self.right_tags = self.tokens = 0
        before_gold = before_predicted = ("O", "")
        running = False
        for gold_tag, predicted_tag in self.rows(gold, predicted):
            now_gold, now_predicted = self.parse(gold_tag), self.parse(predicted_tag)
            gold_ends, predicted_ends = self.ends(before_gold, now_gold), self.ends(before_predicted, now_predicted)
            gold_starts = self.starts(before_gold, now_gold)
            predicted_starts = self.starts(before_predicted, now_predicted)
            if running:
                if gold_ends and predicted_ends and before_gold[1] == before_predicted[1]:
                    self.correct[before_gold[1]] += 1
                    running = False
                elif gold_ends != predicted_ends or now_gold[1] != now_predicted[1]:
                    running = False
            if gold_starts and predicted_starts and now_gold[1] == now_predicted[1]:
                running = True
            self.found_gold[now_gold[1]] += gold_starts
            self.found_predicted[now_predicted[1]] += predicted_starts
            before_gold, before_predicted = now_gold, now_predicted
        assert not running, "the last row is a sentence's end"

    def rows(self, gold, predicted):
        for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
            for row in zip(gold_tags, predicted_tags, strict=True):
                self.tokens += 1
                self.right_tags += row[0] == row[1]
                yield row
            yield "O", "O"

    @staticmethod
    def parse(tag):
        letter, dash, type = tag.partition("-")
        return (letter, type) if dash else (tag, "")

    @staticmethod
    def ends(before, now):
        letters = before[0] + now[0]
        return (
            before[0] in {"E", "S"}
            or letters in {"BB", "BS", "BO", "IB", "IS", "IO"}
            or (before[0] != "O" and before[1] != now[1])
        )

    @staticmethod
    def starts(before, now):
        letters = before[0] + now[0]
        return (
            now[0] in {"B", "S"}
            or letters in {"EE", "EI", "SE", "SI", "OE", "OI"}
            or (now[0] != "O" and before[1] != now[1])
        )

    def figures(self, type=None):
        counts = (self.found_gold, self.found_predicted, self.correct)
        gold, predicted, correct = (count.total() if type is None else count[type] for count in counts)
        precision = 100 * correct / predicted if predicted else 0.0
        recall = 100 * correct / gold if gold else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "gold": gold,
            "predicted": predicted,
            "correct": correct,
        }


def assert_conlleval(gold, predicted):
    scores, expected = score(gold, predicted), Conlleval(gold, predicted)
    types = sorted(type for type in expected.found_gold | expected.found_predicted)
    report = scores.to_json()
    assert list(report["by_type"]) == types
    assert report.pop("by_type") == {type: expected.figures(type) for type in types}
    assert report.pop("tokens") == expected.tokens
    assert report.pop("accuracy") == (100 * expected.right_tags / expected.tokens if expected.tokens else 0)
    assert report == expected.figures()


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(data=st.data())
def test_equals_conlleval_on_any_sequence_of_a_scheme(scheme, data):
    assert_conlleval(*data.draw(pairs(labels(TYPES, scheme))))


@settings(deadline=None)
@given(pair=pairs(["B", "I", "E", "S", "O-PER", *EVERY_TAG]))
def test_equals_conlleval_on_tags_without_a_type(pair):
    assert_conlleval(*pair)


@settings(deadline=None)
@given(pair=pairs(EVERY_TAG))
def test_equals_seqeval_where_every_mention_has_a_type(pair):
    """seqeval's default mode has conlleval's rule; its strict mode has not, nor does it name a missing type ''."""
    gold, predicted = pair
    scores = score(gold, predicted)
    if not any(figures.gold or figures.predicted for figures in scores.by_type.values()):
        return  # seqeval cannot average over no type
    expected = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)[:3]
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx([100 * figure for figure in expected])
    by_type = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    for figures, *expected in zip(scores.by_type.values(), *by_type, strict=True):
        *percents, support = expected
        assert figures.gold == support
        assert (figures.precision, figures.recall, figures.f1) == pytest.approx([100 * part for part in percents])
    assert scores.accuracy == pytest.approx(100 * accuracy_score(gold, predicted))


@pytest.mark.parametrize(
    ("gold", "predicted", "counts", "line"),
    [
        # Recorded from conlleval; seqeval's strict mode (IOB2, IOBES) drops the ill-formed mentions and counts fewer.
        ("B-PER I-PER O", "I-PER I-PER O", (1, 1, 1), "66.67 100.00 100.00 100.00"),
        ("B-PER I-PER O B-LOC", "B-PER I-LOC O I-LOC", (2, 3, 1), "50.00 33.33 50.00 40.00"),
        ("B-PER B-PER I-PER O", "B-PER I-PER I-PER O", (2, 1, 0), "75.00 0.00 0.00 0.00"),
        ("B-PER I-PER | B-PER", "B-PER I-PER | I-PER", (2, 2, 2), "66.67 100.00 100.00 100.00"),
        ("B-X E-X B-X E-X", "B-X I-X I-X E-X", (2, 1, 0), "50.00 0.00 0.00 0.00"),
        ("B-X E-X I-X O S-X", "B-X I-X O O E-X", (3, 2, 2), "40.00 100.00 66.67 80.00"),
        ("B-X O", "O O", (1, 0, 0), "50.00 0.00 0.00 0.00"),
        # Here seqeval's default mode differs too: it names the missing type '_', conlleval leaves it empty.
        ("B-PER I B", "B-PER I-PER B", (3, 2, 1), "66.67 50.00 33.33 40.00"),
    ],
)
def test_equals_recorded_conlleval(gold, predicted, counts, line):
    scores = score(*([sentence.split() for sentence in side.split("|")] for side in (gold, predicted)))
    assert (scores.gold, scores.predicted, scores.correct) == counts
    assert f"{scores.accuracy:.2f} {scores.precision:.2f} {scores.recall:.2f} {scores.f1:.2f}" == line


def test_a_missing_type_is_the_empty_one():
    assert score([["B-PER", "I", "B"]], [["B-PER", "I-PER", "B"]]).by_type == {
        "": Figures(gold=2, predicted=1, correct=1),
        "PER": Figures(gold=1, predicted=1, correct=0),
    }


@pytest.mark.parametrize(
    ("predicted", "expected"), [("O O O", True), ("O O B-LOC", False), ("B-PER I-PER O", False), ("O I-PER O", False)]
)
def test_a_prediction_of_o_throughout_is_told(predicted, expected):
    assert score([["B-PER", "I-PER", "O"]], [predicted.split()]).predicts_only_outside is expected
    assert not score([["O", "O", "O"]], [["O", "O", "O"]]).predicts_only_outside


def test_nothing_scores_zero():
    report = score([], []).to_json()
    assert report.pop("by_type") == {}
    assert set(report.values()) == {0}


def test_schemes_may_differ():
    scores = score([["B-PER", "I-PER", "B-PER"]], [["B-PER", "E-PER", "S-PER"]])
    assert (scores.correct, scores.f1, scores.correct_tokens) == (2, 100, 1)


def test_json_has_every_figure():
    report = json.loads(json.dumps(score([["B-PER", "O"]], [["B-PER", "B-LOC"]]).to_json()))
    assert report == {
        "precision": 50,
        "recall": 100,
        "f1": pytest.approx(200 / 3),
        "gold": 1,
        "predicted": 2,
        "correct": 1,
        "accuracy": 50,
        "tokens": 2,
        "by_type": {
            "LOC": {"precision": 0, "recall": 0, "f1": 0, "gold": 0, "predicted": 1, "correct": 0},
            "PER": {"precision": 100, "recall": 100, "f1": 100, "gold": 1, "predicted": 1, "correct": 1},
        },
    }


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2: required 2 tags as in gold, got 1"),
        ([["O"], ["O"]], [["O"]], "sentence 2: in the gold but not in the prediction"),
        ([], [["O"]], "sentence 1: in the prediction but not in the gold"),
    ],
)
def test_lengths_that_differ_name_the_sentence(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        score(iter(gold), iter(predicted))
