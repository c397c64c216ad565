"""TV and telly move, television stays: the lecture's picture, on really trained vectors, and what it costs.

Sentences in which only the word itself tells a screen from another thing ("they watched the TV", "they read the
paper"): TV and telly are in the training data, television is not. A network is trained twice from the same pretrained
vectors: with the table frozen, and fine-tuned. The figure shows the words' vectors before and after in the plane that
fine-tuning stretched; the table, what the two networks make of the word that was left behind.

    python scripts/word_vectors_move.py [VECTORS] --figure docs/word_vectors_move.png

VECTORS is any file that words.vectors takes and that has the words; `windownet pretrain` makes one. Without it they are
learned from the embedded corpus's sentences and some about screens and other things, which the script makes.
"""

import random
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import _lecture
from windownet import config as config_module
from windownet.data import demo, vectors
from windownet.data.batches import Batch, Windows, encode
from windownet.errors import InputError
from windownet.optim.build import TABLE
from windownet.train import scheduled
from windownet.train.prepare import Prepared, prepare
from windownet.train.step import Step

SCREENS = ("tv", "telly")
LEFT_BEHIND = "television"
THINGS = ("newspaper", "magazine", "book", "radio", "telephone", "car", "piano", "camera", "letter", "bicycle")
FRAMES = (
    "they bought a new {} yesterday",
    "the {} in the kitchen was old",
    "she sold her {} to a neighbour",
    "he left the {} in the other room",
    "my {} is in the corner",
    "we saw it on the {} last night",
)
# Raw text that vectors are learned from: what is said of any screen, of any other thing, and of both.
OF_SCREENS = (
    "they watched the {} all evening",
    "please switch the {} off before you go",
    "the match is on the {} tonight",
    "the children sat in front of the {}",
    "which channel is on the {} now",
    "the {} was showing a film",
    "he fell asleep in front of the {}",
    "the news came on the {} at six",
)
OF_THINGS = (
    "she put the {} on the table",
    "the {} was lying on the floor",
    "he borrowed a {} from his brother",
    "they repaired the {} on saturday",
    "nobody wanted the old {} any more",
    "the {} was lost on the way home",
    "she carried the {} up the stairs",
    "he gave his sister a {} for her birthday",
)
# Of each word in the raw text: no two are said quite the same of.
MENTIONS = 30


def corpus() -> str:
    sentences = [(frame, word) for frame in FRAMES for word in (*SCREENS, *THINGS) for _ in range(3)]
    rows = []
    for frame, word in sentences:
        tags = [("B-SCREEN" if part == "{}" and word in SCREENS else "O") for part in frame.split()]
        words = [word if part == "{}" else part for part in frame.split()]
        rows += [f"{w}\t{tag}" for w, tag in zip(words, tags, strict=True)] + [""]
    return "\n".join(rows) + "\n"


def embedded_vectors(folder: Path) -> Path:
    """Vectors learned from raw text in which screens are spoken of alike, and so are other things."""
    draw = random.Random(0)
    raw = [" ".join(sentence.words) for sentence in demo.sentences("train")]
    for words, frames in (((*SCREENS, LEFT_BEHIND), OF_SCREENS), (THINGS, OF_THINGS)):
        for word in words:
            raw += [frame.format(word) for frame in draw.choices((*frames, *FRAMES), k=MENTIONS)]
    draw.shuffle(raw)
    return _lecture.vectors_of(raw, folder)


def prepared(file: Path, folder: Path, update: str, seed: int, epochs: int) -> Prepared:
    (folder / "train.conll").write_text(corpus(), encoding="utf-8")
    tree: dict[str, Any] = {
        "data": {"root": str(folder), "train": "train.conll", "dev": "train.conll"},
        "features": {"min_count": 1},
        "words": {"vectors": str(file), "update": update},
        "model": {"word_width": vectors.read(file, lambda word: False).matrix.shape[1], "scheme": "IOB2"},
        "optimizer": {"learning_rate": 3e-3},
        "train": {"seed": seed, "epochs": epochs, "batch_size": 32},
    }
    return prepare(config_module.parse(tree, "the script's config"))


def train(data: Prepared) -> dict[str, Any]:
    config = data.config
    step = Step(scheduled.of(config, data.network, config.train.epochs * data.epochs.steps))
    state, frozen = step.init(config.train.seed, data.words), config.words.update == "freeze"
    for epoch in range(1, config.train.epochs + 1):
        for stack in data.epochs.epoch(epoch):
            state, _ = step(state, stack, frozen=frozen)
    return dict(jax.device_get(step.settle(state, frozen=frozen).params))


def probability(data: Prepared, params: dict[str, Any], word: str) -> float:
    """Mean probability of SCREEN for `word` in all frames."""
    sentences = [frame.format(word).split() for frame in FRAMES]
    encoded = encode(sentences, data.vocabulary, data.config.model.window // 2)
    windows = Windows(encoded, len(data.vocabulary), data.config.model.window, len(encoded.positions))
    (_, batch), *_ = windows.in_order()
    chances = np.asarray(jax.nn.softmax(data.network.scores(params, Batch(*map(jnp.asarray, batch)))))
    places = np.flatnonzero([part == "{}" for frame in FRAMES for part in frame.split()])
    return float(chances[places, data.tags.index("B-SCREEN")].mean())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def small(file: Path, folder: Path) -> Path:
    words = {*SCREENS, LEFT_BEHIND, *THINGS, *(part for frame in FRAMES for part in frame.split())}
    found = vectors.read(file, words)
    if missing := {*SCREENS, LEFT_BEHIND} - set(found.words):
        raise InputError(f"{file}: required vectors of {', '.join(sorted(missing))}, found none; take another file")
    vectors.write_safetensors(folder / "vectors.safetensors", found.words, found.matrix)
    return folder / "vectors.safetensors"


def draw(words: tuple[str, ...], before: np.ndarray, after: np.ndarray, file: Path | None) -> None:
    """The plane: along where the screens went, and across it where the words differ most."""
    centre = before.mean(axis=0)
    along = (after - before)[: len(SCREENS)].mean(axis=0)
    along /= np.linalg.norm(along)
    rest = before - centre
    rest = rest - np.outer(rest @ along, along)
    across = np.linalg.svd(rest, full_matrices=False)[2][0]
    plane = np.stack([along, across], axis=1)
    with _lecture.figure(file, 1, 2, (9, 3.8), sharex=True, sharey=True) as axes:
        if axes is None:
            return
        titles = "before training", "after fine-tuning"
        for axis, title, vectors_now in zip(axes[0], titles, (before, after), strict=True):
            places = (vectors_now - centre) @ plane
            for n, word in enumerate(words):
                colour = _lecture.RED if word in SCREENS else _lecture.BLUE if word == LEFT_BEHIND else "#909090"
                axis.plot(*places[n], "o", color=colour, markersize=4)
                axis.annotate(word, places[n], textcoords="offset points", xytext=(5, 3), color=colour)
            axis.set_title(title, loc="left")


def verdict(numbers: dict[str, dict[str, list[float]]]) -> str:
    """What the numbers say of the word that was left behind."""
    key = f"P(SCREEN | {LEFT_BEHIND})"
    frozen, tuned = numbers["freeze"][key], numbers["fine-tune"][key]
    stayed = max(numbers["fine-tune"][f"distance moved, {LEFT_BEHIND}"]) == 0
    went = min(min(numbers["fine-tune"][f"distance moved, {word}"]) for word in SCREENS) > 0
    moved = f"{' and '.join(SCREENS)} {'moved' if went else 'did not all move'}"
    lost, gained = _lecture.apart(frozen, tuned), _lecture.apart(tuned, frozen)
    effect = "The seeds do NOT tell whether the word left behind lost or gained"
    if lost or gained:
        effect = f"The word left behind {'lost' if lost else 'gained'} by it"
    return (
        f"{moved}, {LEFT_BEHIND} {'stayed where it was, to the bit' if stayed else 'moved as well'}. {effect}: it is "
        f"called a screen with probability {np.mean(frozen):.3f} over the frozen table, {np.mean(tuned):.3f} after "
        "fine-tuning."
    )


def main() -> None:
    parser = _lecture.parser(__doc__)
    parser.add_argument("vectors", nargs="?", type=Path, help="file of word vectors")
    _lecture.add_seeds(parser, 10)
    parser.add_argument("--epochs", type=_lecture.count, default=30, help="passes over the script's sentences")
    args = parser.parse_args()
    numbers: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        file = small(args.vectors or embedded_vectors(Path(name)), Path(name))
        for update in ("freeze", "fine-tune"):
            mine = numbers[update] = {}
            for seed in range(args.seeds):
                data = prepared(file, Path(name), update, seed, args.epochs)
                params = train(data)
                row = {word: n for n, word in enumerate(data.vocabulary.words)}
                start = data.words.pretrained
                assert start is not None
                end = np.asarray(params[TABLE])
                for word in (*SCREENS, LEFT_BEHIND):
                    mine.setdefault(f"P(SCREEN | {word})", []).append(probability(data, params, word))
                    moved = float(np.linalg.norm(end[row[word]] - start[row[word]]))
                    mine.setdefault(f"distance moved, {word}", []).append(moved)
                left = end[row[LEFT_BEHIND]]
                gap = float(np.mean([cosine(end[row[word]], left) for word in SCREENS]))
                mine.setdefault(f"cosine of {LEFT_BEHIND} with {' and '.join(SCREENS)}", []).append(gap)
                if update == "fine-tune" and seed == 0:
                    shown = tuple(w for w in (*SCREENS, LEFT_BEHIND, *THINGS) if w in row)
                    rows = [row[word] for word in shown]
                    draw(shown, start[rows], end[rows], args.figure)
    cells = [
        (
            name.replace("|", "\\|"),
            *(_lecture.plus_minus(numbers[update][name], 3) for update in ("freeze", "fine-tune")),
        )
        for name in numbers["freeze"]
    ]
    head = (f"mean of {args.seeds} seeds", "frozen", "fine-tuned")
    _lecture.report(args, _lecture.table(head, cells), verdict(numbers))


if __name__ == "__main__":
    _lecture.run(main)
