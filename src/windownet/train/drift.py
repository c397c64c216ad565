"""What training did to the word vectors: which moved, how far, away from whom.

A word that no training window holds stays where it was while its former neighbours move: the lecture's television,
left behind by TV and telly. What training began with is not kept but computed again, from the run's config.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from windownet import run_folder
from windownet.data.vocabulary import PADDING, RARE
from windownet.errors import InputError
from windownet.optim.build import TABLE, build_rowwise
from windownet.tagger.artifact import Artifact
from windownet.train import environment
from windownet.train.prepare import Prepared, prepare
from windownet.train.step import Training

_NEIGHBOURS, _EXAMINED = 10, 1000


@dataclass(frozen=True)
class Moved:
    """One word.

    Attributes:
      word: the word, normalized.
      count: how often training text has it, in each epoch.
      distance: Euclidean, from its first vector to its last.
      cosine: of its first vector with its last.
      before: its nearest words before training, nearest first.
      after: and after it.
    """

    word: str
    count: int
    distance: float
    cosine: float
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Drift:
    """How the word table moved.

    Attributes:
      words: V, rows that stand for a word.
      trained: how many of them training text has.
      untouched: how many rows are bit for bit what they were.
      distance: mean Euclidean distance that trained words moved.
      length: mean length of their vectors before training.
      kept: mean share of a trained word's nearest words that still are its nearest.
      gap_before: mean cosine of trained words with those of their first nearest words that did not train.
      gap_after: the same pairs after training.
      pairs: how many such pairs there are.
      examined: trained words whose nearest words were looked for.
      most: the trained words that moved most, farthest first; none that did not move.
      epoch: the one of the model that is looked at; None where no run's records tell it.
      epochs: how many the config asks for.
      frozen_epochs: in how many of these, from the first, the table is frozen.
    """

    words: int
    trained: int
    untouched: int
    distance: float
    length: float
    kept: float
    gap_before: float
    gap_after: float
    pairs: int
    examined: int
    most: tuple[Moved, ...]
    epoch: int | None = None
    epochs: int = 0
    frozen_epochs: int = 0

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; what there were no words for is null."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and np.isnan(value) else value

        most = [{key: plain(value) for key, value in vars(moved).items()} for moved in self.most]
        return {**{key: plain(value) for key, value in vars(self).items()}, "most": most}


def of_run(artifact: Artifact, words: int) -> Drift:
    """Compare a run's word table with what the run began with.

    Args:
      artifact: the run's model.
      words: how many of the words that moved most to tell of.

    Raises:
      InputError: the run's data or vectors are gone or have changed since. Of a model that lies in no run's folder
        only the words are compared, for its run's fingerprints are not there.
    """
    prepared = prepare(artifact.config)
    if prepared.vocabulary.words != artifact.vocabulary.words:
        raise InputError(
            f"data.train or words.vectors: required what the run was trained on, {len(artifact.vocabulary):,} words, "
            f"got {len(prepared.vocabulary):,} or others; drift needs them as they were"
        )
    folder = None if artifact.folder is None else artifact.folder.absolute()
    if folder is not None and folder.name in (run_folder.BEST, run_folder.LAST):
        _require_same_data(folder.parent / run_folder.ENVIRONMENT, prepared)
    table = prepared.words
    training = Training(prepared.network, build_rowwise(artifact.config, 1))
    first = jax.jit(training.init)(jax.random.key(artifact.config.train.seed), table.pretrained, table.found)
    counts = np.bincount(prepared.train.words[prepared.train.positions], minlength=len(prepared.vocabulary))
    start, end = np.asarray(first.params[TABLE]), np.asarray(artifact.params[TABLE])
    found = of_tables(artifact.vocabulary.words, start, end, counts, words, _NEIGHBOURS, _EXAMINED)
    epochs = artifact.config.train.epochs
    return replace(
        found,
        epoch=None if folder is None else run_folder.epoch_of(folder),
        epochs=epochs,
        frozen_epochs=min(table.frozen_epochs, epochs),
    )


def _require_same_data(path: Path, prepared: Prepared) -> None:
    # What a model is scored on has no part in how its words moved.
    required = {name: digest for name, digest in environment.noted(path).items() if name not in ("dev", "test")}
    environment.require_same_data(path, required, environment.fingerprints(prepared))


def of_tables(
    names: tuple[str, ...],
    start: np.ndarray,
    end: np.ndarray,
    counts: np.ndarray,
    words: int,
    neighbours: int,
    examined: int,
) -> Drift:
    """Compare two tables of the same words.

    Args:
      names: V words, the two reserved ones first.
      start: floats [V, D] before training.
      end: [V, D] after it.
      counts: int [V], how often training text has each word.
      words: how many of the words that moved most to tell of.
      neighbours: how many nearest words of a word are looked at.
      examined: at most so many trained words, the most frequent, have their nearest words looked for.
    """
    named = np.arange(len(names)) > max(PADDING, RARE)
    distances = np.linalg.norm(end.astype(np.float64) - start, axis=1)
    trained = np.flatnonzero(named & (counts > 0))
    chosen = trained[np.argsort(-counts[trained], kind="stable")][:examined]
    moved = trained[distances[trained] > 0]
    most = moved[np.argsort(-distances[moved], kind="stable")][:words]
    asked = np.union1d(chosen, most)
    before, after = _directions(start), _directions(end)
    near_before = dict(zip(asked.tolist(), _nearest(before, asked, named, neighbours), strict=True))
    near_after = dict(zip(asked.tolist(), _nearest(after, asked, named, neighbours), strict=True))
    kept = [len(set(near_before[n]) & set(near_after[n])) / max(1, len(near_before[n])) for n in chosen.tolist()]
    pairs = np.array([(n, other) for n in chosen.tolist() for other in near_before[n] if not counts[other]], int)
    pairs = pairs.reshape(-1, 2)

    def cosine(directions: np.ndarray) -> float:
        return _mean((directions[pairs[:, 0]] * directions[pairs[:, 1]]).sum(axis=1))

    return Drift(
        words=int(named.sum()),
        trained=len(trained),
        untouched=int((start[named] == end[named]).all(axis=1).sum()),
        distance=_mean(distances[trained]),
        length=_mean(np.linalg.norm(start[trained].astype(np.float64), axis=1)),
        kept=_mean(np.array(kept)),
        gap_before=cosine(before),
        gap_after=cosine(after),
        pairs=len(pairs),
        examined=len(chosen),
        most=tuple(
            Moved(
                names[n],
                int(counts[n]),
                float(distances[n]),
                float(before[n] @ after[n]),
                tuple(names[m] for m in near_before[n]),
                tuple(names[m] for m in near_after[n]),
            )
            for n in most.tolist()
        ),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _directions(table: np.ndarray) -> np.ndarray:
    # Squares of entries near the largest float32 are beyond it.
    peaks = np.abs(table).max(axis=1, keepdims=True)
    scaled = table / np.where(peaks > 0, peaks, 1)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    directions: np.ndarray = scaled / np.where(norms > 0, norms, 1)
    return directions


def _nearest(directions: np.ndarray, asked: np.ndarray, named: np.ndarray, count: int) -> list[list[int]]:
    # In blocks: all cosines at once would be a matrix of V columns.
    found: list[list[int]] = []
    count = min(count, int(named.sum()) - 1)
    for begin in range(0, len(asked), 128):
        rows = asked[begin : begin + 128]
        cosines = directions[rows] @ directions.T
        cosines[:, ~named] = -np.inf
        cosines[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count] if count else np.zeros((len(rows), 0), int)
        order = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
        found += np.take_along_axis(best, order, axis=1).tolist()
    return found
