"""From the config's [data] section to labelled sentences."""

import difflib
import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from windownet.data import columns, demo, hub
from windownet.data.sentences import Sentence
from windownet.data.tags import spans, to_iob2
from windownet.errors import InputError
from windownet.schema.data import DataConfig


@dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Attributes:
      train: what the network learns from.
      dev: what decides which epoch is best.
      test: what is scored at the end; empty where there is none.
      held_out: whether dev was taken out of the training data.
      not_there: of `drop_types`, what the training data do not have: sentences that say so.
    """

    train: list[Sentence]
    dev: list[Sentence]
    test: list[Sentence]
    held_out: bool
    not_there: tuple[str, ...] = ()


def load(config: DataConfig) -> Splits:
    """Read all parts that the config names; where that is no dev part, the same sentences are held out every time.

    Raises:
      InputError: a part is missing or malformed, or there are too few sentences to hold any out.
    """
    for key in ("train", "dev", "test"):
        _require_file(config, key)
    train = read(config.model_copy(update={"drop_types": ()}), config.train)
    not_there = tuple(_not_there(config.drop_types, train))
    train = _without(config.drop_types, train)
    test = read(config, config.test) if config.test else []
    if config.dev:
        train = _drawn_evenly(train, config.limit)
        return Splits(train, read(config, config.dev), test, held_out=False, not_there=not_there)
    count = max(1, round(config.dev_share * len(train)))
    if count >= len(train):
        raise InputError(
            "data.dev: required a development part, or at least 2 training sentences to hold one out of, "
            f"got {len(train)}"
        )
    # Whatever the run's seed: scores of runs compare only on the same sentences.
    chosen = set(random.Random(0).sample(range(len(train)), count))
    dev = [sentence for n, sentence in enumerate(train) if n in chosen]
    train = [sentence for n, sentence in enumerate(train) if n not in chosen]
    return Splits(_drawn_evenly(train, config.limit), dev, test, held_out=True, not_there=not_there)


def _require_file(config: DataConfig, key: str) -> None:
    part = getattr(config, key)
    if config.source not in ("columns", "table") or not (part or key == "train"):
        return
    file = path(config, part)
    try:
        if not stat.S_ISDIR(file.stat().st_mode):
            return
        came = "got a directory"
    except FileNotFoundError:
        came = "found nothing there"
    except OSError:
        # Who reads it says what is wrong.
        return
    raise InputError(
        f"data.{key}: required a file, {came}: {file}; set data.{key} to its name and data.root, now {config.root!r}, "
        "to the folder that it is in" + ("" if key == "train" else f", or leave it out by data.{key}=")
    )


def _not_there(dropped: Sequence[str], train: Sequence[Sentence]) -> Iterator[str]:
    if not dropped:
        return
    types = sorted({span.type for sentence in train for span in spans(sentence.tags)})
    for name in dropped:
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0.5)
            yield f"data.drop_types: {name!r} has no effect, as data.train has {', '.join(types) or 'none'}" + (
                f"; did you mean {near[0]}?" if near else ""
            )


def _without(types: Sequence[str], sentences: list[Sentence]) -> list[Sentence]:
    if not types:
        return sentences
    return [replace(sentence, tags=to_iob2(sentence.tags, "IOB2", types)) for sentence in sentences]


def _drawn_evenly(sentences: list[Sentence], limit: int) -> list[Sentence]:
    if not 0 < limit < len(sentences):
        return sentences
    return [sentences[n * len(sentences) // limit] for n in range(limit)]


def read(config: DataConfig, part: str) -> list[Sentence]:
    """Read one part: a file under `data.root`, or a split by name, as `data.source` has it.

    Raises:
      InputError: it is missing or malformed; names file and line, or table and row.
    """
    table = hub.TableFormat(
        words_column=config.words_column,
        tags_column=config.tags_column,
        scheme=config.scheme,
        drop_types=config.drop_types,
        tag_names=config.tag_names,
        empty_word=config.empty_word,
    )
    match config.source:
        case "demo":
            if part not in demo.SPLITS:
                raise InputError(
                    f"{part}: required a split of the demo corpus ({', '.join(demo.SPLITS)}); "
                    "set data.source=columns to read a file"
                )
            return _without(config.drop_types, demo.sentences(part))
        case "columns":
            return columns.read(path(config, part), column_format(config))
        case "table":
            return hub.read_table(path(config, part), table)
        case "hub":
            return hub.read_hub(config.dataset, part, table, subset=config.subset or None)


def path(config: DataConfig, part: str) -> Path:
    """Where a part's file is, under `data.root`."""
    file = Path(config.root, part)
    # A shell leaves the ~ of data.train=~/x alone, and no shell sees a config.
    return file.expanduser() if file.parts[:1] == ("~",) else file


def column_format(config: DataConfig) -> columns.ColumnFormat:
    """The layout of the config's column files."""
    return columns.ColumnFormat(
        word_column=config.word_column,
        tag_column=config.tag_column,
        separator=config.separator,
        comment=config.comment,
        document_marker=config.document_marker,
        scheme=config.scheme,
        drop_types=config.drop_types,
        empty_word=config.empty_word,
    )
