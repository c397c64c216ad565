"""What labelled data have that a tagger will suffer from: errors to mend, and notes to know of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from windownet.data import columns, sources, vectors
from windownet.data.features import CAPITALIZATION, capitalization
from windownet.data.misread import misread
from windownet.data.sentences import Sentence
from windownet.data.tags import convert, spans
from windownet.data.vector_file import Options
from windownet.data.vocabulary import RARE, Normalization, Vocabulary
from windownet.schema.config import Config
from windownet.schema.data import DataConfig

FEW_MENTIONS = 20
LONG_SENTENCE = 200
# Shorter sentences ("By Reuters .") repeat in any text.
_SHORT = 5
_OVERLAP = 0.05
_LINES = 5


@dataclass(frozen=True)
class Finding:
    """Something in the data.

    Attributes:
      level: "error" should be mended before figures are trusted; "note" is to be known.
      check: what was looked for.
      part: train, dev or test.
      message: what was found.
      lines: where, at most the first five: lines of the part's file, or rows of its table.
    """

    level: Literal["error", "note"]
    check: str
    part: str
    message: str
    lines: tuple[int, ...] = ()

    def __str__(self) -> str:
        place = f" (line {', '.join(map(str, self.lines))})" if self.lines else ""
        return f"{self.level}: {self.part}: {self.message}{place}"


@dataclass(frozen=True)
class PartFigures:
    """Figures of one part; shares are of its running words.

    Attributes:
      sentences: how many.
      words: running words.
      longest: words of the longest sentence.
      mentions: mentions by type.
      unknown: share without a row of their own in the word table, as training will make it.
      without_vector: share without a pretrained vector; None without a file of vectors.
      capitalized: share with an upper-case letter.
      digits: share with a digit.
    """

    sentences: int
    words: int
    longest: int
    mentions: dict[str, int]
    unknown: float
    without_vector: float | None
    capitalized: float
    digits: float


@dataclass(frozen=True)
class LintReport:
    """Figures by part, and what was found, errors first."""

    parts: dict[str, PartFigures]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is nothing that should be mended."""
        return all(finding.level != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "ok": self.ok,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "findings": [asdict(finding) for finding in self.findings],
        }


def lint(config: Config) -> LintReport:
    """Look at all parts of a config's data.

    Raises:
      InputError: a part, or the file of vectors, cannot be read.
    """
    splits = sources.load(config.data)
    parts = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    parts = {name: sentences for name, sentences in parts.items() if sentences}
    figures = _figures(config, parts)
    findings = [
        Finding("error", check, name, message)
        for name, sentences in parts.items()
        for check, message in misread(config.data, sentences)
    ]
    findings += [Finding("error", "drop-types", "train", message) for message in splits.not_there]
    findings += [*_transitions(config, splits.held_out), *_types(figures), *_overlap(parts)]
    for name, sentences in parts.items():
        findings += [*_comments(config.data, name), *_repeated(name, sentences), *_long(name, sentences)]
    findings += _casing(figures)
    return LintReport(figures, tuple(sorted(findings, key=lambda finding: finding.level)))


def _figures(config: Config, parts: dict[str, list[Sentence]]) -> dict[str, PartFigures]:
    normalization = Normalization(config.features.case, config.features.digits)
    rows = Vocabulary.build((s.words for s in parts["train"]), normalization, config.features.min_count)
    everything = Vocabulary.build((s.words for sentences in parts.values() for s in sentences), normalization)
    has_vector = None
    if config.words.vectors:
        path, width = config.words.vectors, config.model.word_width
        form = None if config.words.format == "auto" else config.words.format
        options = Options(format=form, skip_bad=config.words.skip_bad_lines, progress=None)
        # Training gives words that only the file has a row as well.
        rows = vectors.extend(rows, path, config.words.extra, expected_width=width, **options)
        table = np.zeros((len(everything), width), np.float32)
        filled = vectors.fill(table, everything, path, **options)
        has_vector = filled.matches > vectors.Match.MISSING
    figures = {}
    for name, sentences in parts.items():
        words = [word for sentence in sentences for word in sentence.words]
        classes = capitalization(words)
        figures[name] = PartFigures(
            sentences=len(sentences),
            words=len(words),
            longest=max(len(sentence.words) for sentence in sentences),
            mentions=dict(sorted(Counter(span.type for s in sentences for span in spans(s.tags)).items())),
            unknown=float(np.mean(rows.encode(words) == RARE)),
            without_vector=None if has_vector is None else float(np.mean(~has_vector[everything.encode(words)])),
            capitalized=float(np.mean(classes != CAPITALIZATION.index("none"))),
            digits=float(np.mean([any(map(str.isdigit, word)) for word in words])),
        )
    return figures


def _transitions(config: Config, held_out: bool) -> Iterable[Finding]:
    # Tables are read tag by tag and their written tags not kept; what a scheme forbids is found in column files.
    data = config.data
    if data.source != "columns" or data.scheme == "IO":
        return
    layout = sources.column_format(data)
    for part, file in (("train", data.train), ("dev", "" if held_out else data.dev), ("test", data.test)):
        if not file:
            continue
        path = sources.path(data, file)
        wrong: list[tuple[int, str, str]] = []
        for block in columns.blocks(columns.file_lines(path), str(path), layout):
            written = [row[data.tag_column].strip() for row in block.rows]
            for line, tag, right in zip(block.lines, written, convert(written, data.scheme), strict=True):
                if tag != right:
                    wrong.append((line, tag, right))
        if wrong:
            _, tag, right = wrong[0]
            message = f"tags that {data.scheme} does not allow there: {len(wrong):,}, the first {tag}, read as {right}"
            yield Finding("error", "transitions", part, message, _first(line for line, _, _ in wrong))


def _types(figures: dict[str, PartFigures]) -> Iterable[Finding]:
    known = figures["train"].mentions
    for type, count in known.items():
        if count < FEW_MENTIONS:
            yield Finding("note", "few-mentions", "train", f"mentions of {type}: {count}, fewer than {FEW_MENTIONS}")
    for part, figure in figures.items():
        if not figure.mentions:
            yield Finding("error", "no-mentions", part, "no mention at all: nothing to learn, or to score")
        for type, count in figure.mentions.items():
            if type not in known:
                yield Finding("error", "unseen-type", part, f"mentions of {type}, a type that train never has: {count}")


def _overlap(parts: dict[str, list[Sentence]]) -> Iterable[Finding]:
    known = {sentence.words for sentence in parts["train"]}
    for name in (name for name in parts if name != "train"):
        long = [sentence for sentence in parts[name] if len(sentence.words) >= _SHORT]
        shared = [sentence for sentence in long if sentence.words in known]
        if shared:
            share = len(shared) / len(long)
            message = f"sentences of {_SHORT} words or more that train has as well: {len(shared):,}, {share:.1%}"
            level: Literal["error", "note"] = "error" if share > _OVERLAP else "note"
            yield Finding(level, "overlap", name, message, _first(sentence.line for sentence in shared))


def _comments(config: DataConfig, part: str) -> Iterable[Finding]:
    file = getattr(config, part)
    if config.source != "columns" or not (config.comment and file):
        return
    path, form = sources.path(config, file), sources.column_format(config)
    if lines := columns.comments_like_rows(columns.file_lines(path), str(path), form):
        message = (
            f"rows that are left out, as they begin with data.comment = {config.comment!r}: {len(lines):,}; make it "
            "longer, such as '# ', or leave it out"
        )
        yield Finding("note", "comments", part, message, _first(lines))


def _repeated(part: str, sentences: Sequence[Sentence]) -> Iterable[Finding]:
    tags: dict[tuple[str, ...], tuple[str, ...]] = {}
    conflicts, repeats = [], 0
    for sentence in sentences:
        before = tags.setdefault(sentence.words, sentence.tags)
        repeats += before is not sentence.tags and len(sentence.words) >= _SHORT
        if before != sentence.tags:
            conflicts.append(sentence.line)
    if repeats:
        yield Finding(
            "note", "repeated", part, f"sentences of {_SHORT} words or more that it has more than once: {repeats:,}"
        )
    if conflicts:
        message = f"sentences tagged unlike the same words before them: {len(conflicts):,}"
        yield Finding("note", "conflicts", part, message, _first(conflicts))


def _long(part: str, sentences: Sequence[Sentence]) -> Iterable[Finding]:
    long = [sentence for sentence in sentences if len(sentence.words) > LONG_SENTENCE]
    if long:
        longest = max(len(sentence.words) for sentence in long)
        message = (
            f"sentences of more than {LONG_SENTENCE} words: {len(long):,}, up to {longest:,}; are blank lines lost?"
        )
        yield Finding("note", "long-sentences", part, message, _first(sentence.line for sentence in long))


def _casing(figures: dict[str, PartFigures]) -> Iterable[Finding]:
    for what in ("capitalized", "digits"):
        of_train = getattr(figures["train"], what)
        for part, figure in figures.items():
            share = getattr(figure, what)
            if max(share, of_train) > 0.01 and not of_train / 2 <= share <= of_train * 2:
                name = "upper-case letters" if what == "capitalized" else "digits"
                message = f"{share:.1%} of the words have {name}, where train has {of_train:.1%}"
                yield Finding("note", what, part, message)


def _first(lines: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(lines)[:_LINES])
