"""Sentences out of tables: the Hugging Face hub, and local Parquet, Arrow and JSON files.

The `datasets` library is imported when something is read, not before: tagging does without it.
"""

import contextlib
import glob
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windownet.data.sentences import Sentence
from windownet.data.tags import SCHEMES, problem, remedy, to_iob2
from windownet.errors import InputError

SUFFIXES = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json"}


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How a table with one sentence a row is laid out.

    Attributes:
      words_column: name of the column of word lists.
      tags_column: name of the column of tag lists: strings, or integers with names.
      scheme: the tags' scheme, one of `windownet.data.tags.SCHEMES`.
      drop_types: types whose mentions become O.
      tag_names: names of integer tags 0, 1, ...; empty: the names that the table itself bears (a `ClassLabel`).
      empty_word: stands for a word of nothing but blanks; empty: such a word is an error.
    """

    words_column: str = "tokens"
    tags_column: str = "ner_tags"
    scheme: str = "IOB2"
    drop_types: tuple[str, ...] = ()
    tag_names: tuple[str, ...] = ()
    empty_word: str = ""

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InputError(f"data.scheme: required one of {', '.join(SCHEMES)}, got {self.scheme!r}")


def read_hub(
    dataset: str, split: str, format: TableFormat, *, subset: str | None = None, cache_dir: str | Path | None = None
) -> list[Sentence]:
    """Reads one split of a data set of the Hugging Face hub.

    Args:
      dataset: name on the hub ('tomaarsen/conll2003'), or a local folder laid out like one there.
      split: name of the split; a slice of it ('train[:10%]') too.
      format: how its table is laid out.
      subset: which configuration, for a data set of several.
      cache_dir: where it is downloaded to; None: where `datasets` keeps all of its data.

    Returns:
      The sentences in order; rows without words are left out.

    Raises:
      InputError: the data set cannot be had, lacks the split or a column, or has no sentence; or a row is malformed.
    """
    options = {"path": dataset, "name": subset, "split": split, "cache_dir": cache_dir}
    return _read(f"{dataset} {split}", options, format)


def read_table(path: str | Path, format: TableFormat, *, cache_dir: str | Path | None = None) -> list[Sentence]:
    """Reads a local table: .parquet, .arrow, .json or .jsonl.

    Args:
      path: the file; its suffix says what it is.
      format: how the table is laid out.
      cache_dir: where `datasets` keeps its Arrow copy of the file; None: where it keeps all of its data.

    Returns:
      The sentences in order; rows without words are left out.

    Raises:
      InputError: the file cannot be read, lacks a column, or has no sentence; or a row is malformed.
    """
    builder = SUFFIXES.get(Path(path).suffix)
    if builder is None:
        raise InputError(f"{path}: required a table that ends in {', '.join(SUFFIXES)}; name such a file")
    if not Path(path).is_file():
        came = "got a directory" if Path(path).is_dir() else "found nothing there"
        raise InputError(f"{path}: required a file, {came}; check the path")
    options = {"path": builder, "data_files": glob.escape(str(path)), "split": "train", "cache_dir": cache_dir}
    return _read(str(path), options, format)


def _read(source: str, options: dict[str, Any], format: TableFormat) -> list[Sentence]:
    sentences = list(_sentences(_load(source, options), source, format))
    if not sentences:
        raise InputError(f"{source}: required at least one sentence, found no sentence in it; check the source")
    return sentences


def _load(source: str, options: dict[str, Any]) -> Any:
    import datasets

    try:
        with _quiet():
            return datasets.load_dataset(**options)
    except StopIteration:
        raise InputError(
            f"{source}: required at least one sentence, found no sentence in it; check the source"
        ) from None
    except ConnectionError as error:
        raise InputError(
            f"{source}: required the Hugging Face hub, which was not reached ({_one_line(error)}); "
            "check the network and the name, or read a local file"
        ) from error
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        if "scripts are no longer supported" in str(error):
            raise InputError(
                f"{source}: required a data set without a loading script ({_one_line(error)}): datasets >= 4 refuses "
                "them; use a script-free copy such as lhoestq/conll2003"
            ) from error
        raise InputError(
            f"{source}: required a data set to read, got: {_one_line(error)}; mend the file, or name another"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # How a run goes is told by who runs it, and what went wrong by the error.
    from datasets import utils as of_datasets
    from huggingface_hub import utils as of_hub

    with contextlib.ExitStack() as restored:
        for bars in (of_datasets, of_hub):
            if not bars.are_progress_bars_disabled():
                with warnings.catch_warnings(action="ignore"):
                    # An environment variable that wants them has the last word.
                    bars.disable_progress_bars()
                restored.callback(bars.enable_progress_bars)
        for logger in map(logging.getLogger, ("datasets", "huggingface_hub")):
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
        yield


def _one_line(error: BaseException) -> str:
    # A failed generation says why in its cause only.
    while error.__cause__ is not None and "error occurred while generating" in str(error):
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")


def _sentences(table: Any, source: str, format: TableFormat) -> Iterator[Sentence]:
    columns = (format.words_column, format.tags_column)
    for key, column in zip(("words_column", "tags_column"), columns, strict=True):
        if column not in table.column_names:
            there = ", ".join(map(repr, table.column_names))
            raise InputError(f"{source}: required a column {column!r}, got {there}; set data.{key}")
    names = format.tag_names or _class_names(table.features[format.tags_column])
    valid: set[str] = set()
    for row, values in enumerate(table.select_columns(columns), start=1):
        where = f"{source}, row {row}"
        words = [_word(word, where, format) for word in _list(values, format.words_column, where)]
        tags = [_tag(tag, where, names, format) for tag in _list(values, format.tags_column, where)]
        if len(words) != len(tags):
            raise InputError(
                f"{where}: required as many tags as words, got {len(words)} words in {format.words_column!r} "
                f"and {len(tags)} tags in {format.tags_column!r}; correct the row"
            )
        for tag in tags:
            if tag in valid:
                continue
            if wrong := problem(tag, format.scheme):
                advice = remedy(tag) or "set data.scheme or data.tags_column to what the table has"
                raise InputError(f"{where}: {wrong}; {advice}")
            valid.add(tag)
        if words:
            yield Sentence(tuple(words), to_iob2(tags, format.scheme, format.drop_types), row)


def _class_names(feature: Any) -> tuple[str, ...]:
    inner = getattr(feature, "feature", None)
    return tuple(getattr(inner, "names", None) or ())


def _list(values: dict[str, Any], column: str, where: str) -> list[Any]:
    value = values[column]
    if not isinstance(value, list):
        raise InputError(f"{where}: required a list in column {column!r}, got {value!r:.40}; name a column of lists")
    return value


def _word(word: Any, where: str, format: TableFormat) -> str:
    if not isinstance(word, str):
        raise InputError(f"{where}: required words in {format.words_column!r}, got {word!r:.40}; set data.words_column")
    stripped = word.strip() or format.empty_word
    if not stripped:
        raise InputError(
            f"{where}: required words in {format.words_column!r}, got an empty one ({word!r:.40}); "
            "correct the row or set data.empty_word to the word that shall stand for it"
        )
    return stripped


def _tag(tag: Any, where: str, names: tuple[str, ...], format: TableFormat) -> str:
    if isinstance(tag, str):
        return tag.strip()
    column = format.tags_column
    if not isinstance(tag, int):
        raise InputError(f"{where}: required tags in {column!r}, got {tag!r:.40}; set data.tags_column")
    if not names:
        raise InputError(f"{where}: required names for the integer tags in {column!r}, got none; set data.tag_names")
    if not 0 <= tag < len(names):
        raise InputError(
            f"{where}: required tags from 0 to {len(names) - 1} in {column!r}, got {tag}; "
            f"set data.tag_names to the names of all tags (now {', '.join(names)})"
        )
    return names[tag]
