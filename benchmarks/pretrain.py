"""Skip-gram on raw text against gensim with two workers: time and vectors, on one text in one run.

Both train the same words of the same lines: 100 dimensions, 5 negatives, windows of 5, sub-sampling at 0.001. gensim
draws 5 words for each pair; ours draws 22 for 64 words of the text and weighs them, so that a pair meets 5
in expectation: the scores of word similarity (wordsim353, which comes with gensim) show what that does to the vectors.
Trained words are those that sub-sampling and vocabulary leave, as gensim counts them; words of the text are all.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gensim.models import KeyedVectors, Word2Vec
from gensim.test.utils import datapath

import _report
from windownet.data.prefetch import prefetch
from windownet.data.vocabulary import Normalization
from windownet.pretrain import text
from windownet.pretrain.step import State, Step
from windownet.pretrain.stream import Stream
from windownet.schema.pretrain import PretrainSection

TEXT = Path("text", "wiki_en.txt.xz")
SLICE = 24 << 20
MIN_COUNT = 5
ROUNDS = 3


def a_slice(file: Path, folder: Path) -> text.Text:
    def pieces() -> Iterator[tuple[str, bytes]]:
        size = 0
        for name, piece in text.read([file]):
            yield name, piece
            size += len(piece)
            if size >= SLICE:
                return

    return text.encode(pieces(), folder, Normalization("lower", "zero"), min_count=MIN_COUNT)


def lines(given: text.Text) -> list[list[str]]:
    words = np.array([*given.words, ""], object)
    ends = np.flatnonzero(given.numbers == len(given.words))
    return [words[line[:-1]].tolist() for line in np.split(np.asarray(given.numbers), ends + 1) if len(line) > 1]


class Ours:
    """A pass over the text a call, as `windownet pretrain` makes it."""

    def __init__(self, given: text.Text) -> None:
        settings = PretrainSection()
        self._stream = Stream(
            given,
            radius=settings.window,
            block=settings.block,
            steps=settings.steps_per_call,
            epochs=1,
            subsample=settings.subsample,
            seed=settings.seed,
        )
        self._step = Step(settings, given.counts, self._stream.expected_blocks)
        self.trained = 0

    def __call__(self) -> State:
        state = self._step.init()
        self.trained = 0
        for stack in prefetch(self._stream.stacks()):
            state, _ = self._step(state, stack.blocks)
            self.trained += stack.words
        return state


def gensim_model(sentences: list[list[str]]) -> Word2Vec:
    model = Word2Vec(vector_size=100, window=5, min_count=MIN_COUNT, sg=1, negative=5, sample=1e-3, workers=2, seed=1)
    model.build_vocab(sentences)
    return model


def similarity(words: Any, matrix: np.ndarray) -> float:
    found = KeyedVectors(matrix.shape[1])
    found.add_vectors(list(words), matrix)
    return float(found.evaluate_word_pairs(datapath("wordsim353.tsv"))[1][0])


def main() -> None:
    arguments = _report.data_parser(__doc__).parse_args()
    if not (file := arguments.data / TEXT).is_file():
        _report.refuse(
            f"--data {arguments.data}: required {file}, found nothing there; give the folder that has {TEXT}"
        )
    with tempfile.TemporaryDirectory() as folder:
        given = a_slice(file, Path(folder))
        sentences = lines(given)
        ours = Ours(given)
        trained: dict[str, float] = {}
        models: dict[str, Any] = {}

        def gensim() -> None:
            models["gensim"] = model = gensim_model(sentences)
            trained["gensim"], _ = model.train(sentences, total_examples=model.corpus_count, epochs=1)

        def windownet() -> State:
            models["windownet"] = state = ours()
            return state

        # gensim's count of the vocabulary is no part of its training, nor is ours.
        counting = _report.alternate({"counting": lambda: gensim_model(sentences)}, 1)["counting"]
        seconds = _report.alternate({"windownet": windownet, "gensim": gensim}, ROUNDS)
        seconds["gensim"] -= counting
        trained["windownet"] = ours.trained
        scores = {
            "windownet": similarity(given.words, np.array(models["windownet"].params["words"])),
            "gensim": similarity(models["gensim"].wv.index_to_key, models["gensim"].wv.vectors),
        }
    print(f"{given.all_words:,} words of text, {len(given.words):,} with a vector")
    for name, took in seconds.items():
        print(f"{name}: {trained[name] / took:,.0f} trained words/s, {given.all_words / took:,.0f} words of text/s")
    per_million = {name: seconds[name] / trained[name] * 1e6 for name in seconds}
    raw = {name: seconds[name] / given.all_words * 1e6 for name in seconds}

    def row(name: str, values: dict[str, float], unit: str, **condition: float) -> dict[str, Any]:
        peer = ("gensim, 2 workers", values["gensim"])
        return _report.row(f"skip-gram: {name}", values["windownet"], unit, peer=peer, **condition)

    rows = [
        row("a million trained words", per_million, "s", ratio_at_least=1.5),
        row("a million words of text", raw, "s"),
        row("similarity of words, one pass", scores, "Spearman", ratio_at_most=1),
    ]
    _report.write(rows, arguments)


if __name__ == "__main__":
    main()
