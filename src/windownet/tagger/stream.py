"""Tagging a stream: running text or column files of any length, written as they come.

Lines that arrive together are tagged together; nothing waits for more input than has come, so a pipe works line by
line, and nothing is held longer than a batch, so a file may be larger than memory.
"""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from windownet.data import columns
from windownet.data.columns import ColumnFormat
from windownet.data.tags import spans
from windownet.data.tokens import Token, tokenize
from windownet.errors import InputError
from windownet.tagger.tagger import Tagger

FORMATS = ("column", "jsonl", "text")

_CHUNK_BYTES = 1 << 16
_WORDS_AT_ONCE = 8192


class Lines:
    """The lines of a binary stream; `waiting` says that the next one may have to be waited for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.waiting = False

    def __iter__(self) -> Iterator[bytes]:
        # A raw stream's read returns what is there; a buffered one's would wait for its whole chunk.
        read = self._stream.read1 if isinstance(self._stream, io.BufferedReader) else self._stream.read
        rest = b""
        while chunk := read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for number, line in enumerate(lines, start=1):
                self.waiting = number == len(lines)
                yield line
        self.waiting = True
        if rest:
            yield rest


def tag_text(tagger: Tagger, stream: BinaryIO, name: str, form: str) -> Iterator[bytes]:
    """Tag running text, one sentence a line, tokenized by `windownet.data.tokens`.

    Args:
      tagger: a loaded model.
      stream: UTF-8 text.
      name: what to call it in messages.
      form: "column", a word, a tab and its tag a row and an empty row after each sentence; "jsonl", an object a line;
        "text", the line as it was with every mention written [mention](TYPE).

    Yields:
      Output, a batch of lines at a time.

    Raises:
      InputError: a line is not UTF-8 or holds a NUL; what came before it has been yielded.
    """
    lines = Lines(stream)
    texts: list[str] = []
    words = 0
    for number, raw in enumerate(lines, start=1):
        try:
            texts.append(columns.decode_line(raw, name, number))
        except InputError:
            yield _text_output(tagger, texts, form)
            raise
        words += len(raw) // 5
        if lines.waiting or words >= _WORDS_AT_ONCE:
            yield _text_output(tagger, texts, form)
            texts, words = [], 0
    yield _text_output(tagger, texts, form)


def tag_columns(tagger: Tagger, stream: BinaryIO, name: str, layout: ColumnFormat, form: str) -> Iterator[bytes]:
    """Tag column files: as `tag_text`, but "column" repeats the row's columns before the tag.

    Raises:
      InputError: a row is not of this layout; what came before it has been yielded.
    """
    lines = Lines(stream)
    blocks: list[columns.Block] = []
    words = 0
    source = columns.blocks(lines, name, layout)
    while True:
        try:
            block = next(source, None)
        except InputError:
            yield _column_output(tagger, blocks, layout, form)
            raise
        if block is not None:
            blocks.append(block)
            words += len(block.words)
        if block is None or lines.waiting or words >= _WORDS_AT_ONCE:
            yield _column_output(tagger, blocks, layout, form)
            blocks, words = [], 0
        if block is None:
            return


def _text_output(tagger: Tagger, texts: list[str], form: str) -> bytes:
    sentences = [tokenize(text) for text in texts]
    tagged = tagger.tag([[token.text for token in tokens] for tokens in sentences])
    out = []
    for text, tokens, tags in zip(texts, sentences, tagged, strict=True):
        if form == "column":
            out.append("".join(f"{token.text}\t{tag}\n" for token, tag in zip(tokens, tags, strict=True)))
        elif form == "jsonl":
            out.append(_json(text, tokens, tags))
        else:
            out.append(_marked(text, tokens, tags))
    return _joined(out)


def _column_output(tagger: Tagger, blocks: list[columns.Block], layout: ColumnFormat, form: str) -> bytes:
    tagged = tagger.tag([block.words for block in blocks])
    out = []
    for block, tags in zip(blocks, tagged, strict=True):
        if form == "column":
            rows = zip(block.rows, tags, strict=True)
            out.append("".join(f"{layout.join([*row, tag])}\n" for row, tag in rows))
            continue
        text = " ".join(block.words)
        starts = [0]
        for word in block.words:
            starts.append(starts[-1] + len(word) + 1)
        tokens = [Token(word, start, start + len(word)) for word, start in zip(block.words, starts, strict=False)]
        out.append((_json if form == "jsonl" else _marked)(text, tokens, tags))
    return _joined(out)


def _joined(sentences: Iterable[str]) -> bytes:
    return "".join(f"{sentence}\n" for sentence in sentences).encode()


def _json(text: str, tokens: list[Token], tags: list[str]) -> str:
    entities: list[dict[str, Any]] = []
    for span in spans(tags):
        start, end = tokens[span.start].start, tokens[span.end - 1].end
        entities.append({"type": span.type, "start": start, "end": end, "text": text[start:end]})
    record = {"text": text, "words": [token.text for token in tokens], "tags": tags, "entities": entities}
    return json.dumps(record, ensure_ascii=False)


def _marked(text: str, tokens: list[Token], tags: list[str]) -> str:
    out, done = [], 0
    for span in spans(tags):
        start, end = tokens[span.start].start, tokens[span.end - 1].end
        out += [text[done:start], f"[{text[start:end]}]({span.type})"]
        done = end
    return "".join([*out, text[done:]])
