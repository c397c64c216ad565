"""Entity scores: conlleval's precision, recall and F1."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from windownet.data.tags import spans


@dataclass(frozen=True)
class Figures:
    """Mentions counted, and the figures that follow from the counts.

    A predicted mention is correct where gold has one of the same start, end and type.

    Attributes:
      gold: mentions in gold.
      predicted: mentions in the prediction.
      correct: predicted mentions that are correct.
    """

    gold: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float:
        """Correct among the predicted, percent; 0 where nothing is predicted."""
        return _percent(self.correct, self.predicted)

    @property
    def recall(self) -> float:
        """Found among gold's, percent; 0 where gold has none."""
        return _percent(self.correct, self.gold)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, percent; 0 where both are 0."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if self.correct else 0.0

    def to_json(self) -> dict[str, Any]:
        """The figures, then the counts they follow from."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "gold": self.gold,
            "predicted": self.predicted,
            "correct": self.correct,
        }


@dataclass(frozen=True)
class Scores(Figures):
    """Scores of a prediction; the figures inherited are micro-averaged, over the mentions of all types.

    Attributes:
      by_type: the figures of each type that gold or the prediction has, sorted by type.
      tokens: tokens scored.
      correct_tokens: tokens whose tag is gold's to the letter.
    """

    by_type: Mapping[str, Figures]
    tokens: int
    correct_tokens: int

    @property
    def accuracy(self) -> float:
        """Tokens whose tag is gold's to the letter, percent; means little across two schemes."""
        return _percent(self.correct_tokens, self.tokens)

    @property
    def predicts_only_outside(self) -> bool:
        """Whether the prediction is `O` throughout while gold has mentions."""
        return self.predicted == 0 and self.gold > 0

    def to_json(self) -> dict[str, Any]:
        """All figures, micro-averaged and by type, and the counts of mentions."""
        return {
            **super().to_json(),
            "accuracy": self.accuracy,
            "tokens": self.tokens,
            "by_type": {type: figures.to_json() for type, figures in self.by_type.items()},
        }


def score(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> Scores:
    """Scores predicted tags as conlleval does, on well-formed and ill-formed sequences alike.

    Mentions are read by `windownet.data.tags.spans`, so gold and prediction may each use any scheme.

    Args:
      gold: S tag sequences.
      predicted: S tag sequences as long as gold's.

    Returns:
      The scores.

    Raises:
      ValueError: the numbers of sentences differ, a sentence's lengths differ, or a tag has an unknown prefix.
    """
    in_gold: Counter[str] = Counter()
    in_prediction: Counter[str] = Counter()
    in_both: Counter[str] = Counter()
    tokens = correct_tokens = 0
    for number, (wanted, got) in enumerate(zip_longest(gold, predicted), start=1):
        if wanted is None or got is None:
            longer, shorter = ("gold", "prediction") if got is None else ("prediction", "gold")
            raise ValueError(f"sentence {number}: in the {longer} but not in the {shorter}")
        if len(wanted) != len(got):
            raise ValueError(f"sentence {number}: required {len(wanted)} tags as in gold, got {len(got)}")
        tokens += len(wanted)
        correct_tokens += sum(map(str.__eq__, wanted, got))
        gold_spans, predicted_spans = spans(wanted), spans(got)
        in_gold.update(span.type for span in gold_spans)
        in_prediction.update(span.type for span in predicted_spans)
        in_both.update(span.type for span in set(gold_spans).intersection(predicted_spans))
    by_type = {
        type: Figures(in_gold[type], in_prediction[type], in_both[type]) for type in sorted(in_gold | in_prediction)
    }
    return Scores(in_gold.total(), in_prediction.total(), in_both.total(), by_type, tokens, correct_tokens)


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
