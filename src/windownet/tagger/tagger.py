"""Tagging: words in, tags out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windownet.data import scores
from windownet.data.batches import Encoded, Windows, encode
from windownet.data.scores import Scores
from windownet.data.sentences import Sentence
from windownet.data.tags import convert, spans
from windownet.model.network import Params, WindowNetwork
from windownet.tagger import artifact
from windownet.tagger.artifact import Artifact

# Windows a call: a small program for a line at a time, a large one for the rest. Every shape is compiled once.
_SMALL, _LARGE = 64, 2048


class Predictor:
    """The most likely tag of every word under given parameters."""

    def __init__(self, network: WindowNetwork) -> None:
        self._network = network
        self._best = jax.jit(network.best)

    def __call__(self, params: Params, encoded: Encoded) -> np.ndarray:
        """Tag numbers, int32 [T], of all T words."""
        size = _SMALL if len(encoded.positions) <= _SMALL else _LARGE
        windows = Windows(encoded, self._network.vocabulary, self._network.window, size)
        # Results are fetched at the end, so that the device works while the next batch is cut.
        pending: list[tuple[int, Any]] = [
            (len(tokens), self._best(params, batch)) for tokens, batch in windows.in_order()
        ]
        return np.concatenate([np.asarray(best)[:count] for count, best in pending] or [np.zeros(0, np.int32)])


class Tagger:
    """Tags sentences with a loaded model."""

    def __init__(self, model: Artifact) -> None:
        self._model = model
        self._predict = Predictor(model.network)
        self._params = jax.device_put(model.params)

    @classmethod
    def load(cls, folder: str | Path) -> "Tagger":
        """The tagger of a run or model folder; see `artifact.load`."""
        return cls(artifact.load(Path(folder)))

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """The tags, in the model's scheme, of every word of every sentence; `data.tags.spans` makes mentions of them.

        Raises:
          TypeError: a sentence is a text, not its words; `data.tokens.words` parts one.
        """
        if text := next((sentence for sentence in (sentences, *sentences) if isinstance(sentence, str)), None):
            raise TypeError(
                f"Tagger.tag: required sentences as lists of words, got the text {text[:40]!r}; "
                "windownet.data.tokens.words parts one"
            )
        encoded = encode(sentences, self._model.vocabulary, self._model.config.model.window // 2)
        return by_sentence(self._predict(self._params, encoded), encoded, self._model.tags)


def by_sentence(numbers: np.ndarray, encoded: Encoded, tags: Sequence[str]) -> list[list[str]]:
    """Tag numbers [T] of a data set as tags, sentence by sentence."""
    names = [tags[number] for number in numbers.tolist()]
    return [names[start:stop] for start, stop in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def score(sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]]) -> Scores:
    """Entity scores of predicted tags, in whatever scheme, for labelled sentences."""
    return scores.score((s.tags for s in sentences), (convert(tags, "IOB2") for tags in predicted))


def unseen_types(sentences: Iterable[Sentence], tags: Iterable[str]) -> dict[str, int]:
    """Mentions in labelled sentences, counted by type, of the types that no tag of the model has."""
    known = {tag.partition("-")[2] for tag in tags}
    found = Counter(span.type for sentence in sentences for span in spans(sentence.tags))
    return {type: count for type, count in sorted(found.items()) if type not in known}
