"""Tagging a stream: running text or column files of any length, written as they come.

What arrives together, at most a chunk, is tagged together and written before more is waited for: so a pipe works line
by line, and a file may be larger than memory. Tags are written in the scheme that the reader of the output asks for,
whatever scheme the model predicts in.
"""

import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Generic, TypeVar

from windownet.data import columns
from windownet.data.columns import ColumnFormat
from windownet.data.misread import looks_like_columns
from windownet.data.tags import Span, encode, spans
from windownet.data.tokens import Token, tokenize
from windownet.tagger.tagger import Tagger

Write = Callable[[bytes], object]
T = TypeVar("T")

_CHUNK_BYTES = 1 << 16
_FIRST = 20


def tag_text(
    tagger: Tagger,
    stream: BinaryIO,
    write: Write,
    *,
    name: str,
    scheme: str,
    form: str,
    warn: Callable[[str], object] | None = None,
) -> None:
    """Tag running text, one sentence a line, tokenized by `windownet.data.tokens`.

    Args:
      tagger: a loaded model.
      stream: UTF-8 text.
      write: is given the output, a batch of lines at a time.
      name: what to call the stream in messages.
      scheme: tag scheme of the output.
      form: "column", a word, a tab and its tag a row and an empty row after each sentence; "jsonl", an object a line;
        "text", the line as it was with every mention written [mention](TYPE).
      warn: is told where the first lines look like those of a column file.

    Raises:
      InputError: a line is not UTF-8 or holds a NUL; what came before it has been written.
    """
    held = _Held[str](lambda texts: _text_output(tagger, texts, scheme, form), write)
    try:
        lines = enumerate(_lines(stream, held.release), start=1)
        texts = (columns.decode_line(raw, name, number) for number, raw in lines)
        first = []
        for text in itertools.islice(texts, _FIRST):
            held.sentences.append(text)
            first.append(text)
        if warn is not None and looks_like_columns(first):
            warn(f"{name} looks like a column file, but was taken for text, one sentence a line; give --columns")
        for text in texts:
            held.sentences.append(text)
    finally:
        held.release()


def tag_columns(tagger: Tagger, stream: BinaryIO, write: Write, *, name: str, layout: ColumnFormat, form: str) -> None:
    """Tag column files: as `tag_text`, but "column" gives every line as it came, a row with its tag behind it.

    Raises:
      InputError: a row is not of this layout; what came before it has been written.
    """
    held = _Held[columns.Block](lambda blocks: _column_output(tagger, blocks, layout, form), write)
    try:
        for block in columns.all_blocks(_lines(stream, held.release), name, layout):
            held.sentences.append(block)
    finally:
        held.release()


class _Held(Generic[T]):
    """Sentences that wait to be tagged together."""

    def __init__(self, output: Callable[[list[T]], bytes], write: Write) -> None:
        self.sentences: list[T] = []
        self._output = output
        self._write = write

    def release(self) -> None:
        sentences, self.sentences = self.sentences, []
        if sentences:
            self._write(self._output(sentences))


def _lines(stream: BinaryIO, before_waiting: Callable[[], None]) -> Iterator[bytes]:
    # A raw stream's read returns what is there; a buffered one's would wait for its whole chunk.
    read = stream.read1 if isinstance(stream, io.BufferedReader) else stream.read
    begun: list[bytes] = []
    while True:
        before_waiting()
        chunk = read(_CHUNK_BYTES)
        if not chunk:
            break
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for line in others:
            yield b"".join(begun) + b"\n"
            begun = [line]
    if last := b"".join(begun):
        yield last


def _text_output(tagger: Tagger, texts: list[str], scheme: str, form: str) -> bytes:
    sentences = [tokenize(text) for text in texts]
    tagged = tagger.tag([[token.text for token in tokens] for tokens in sentences])
    out = []
    for text, tokens, predicted in zip(texts, sentences, tagged, strict=True):
        mentions = spans(predicted)
        if form == "column":
            rows = zip(tokens, encode(mentions, len(tokens), scheme), strict=True)
            out.append("".join(f"{token.text}\t{tag}\n" for token, tag in rows))
        else:
            out.append(_sentence(text, tokens, mentions, scheme, form))
    return _joined(out)


def _column_output(tagger: Tagger, blocks: list[columns.Block], layout: ColumnFormat, form: str) -> bytes:
    tagged = tagger.tag([block.words for block in blocks])
    out: list[bytes] = []
    for block, predicted in zip(blocks, tagged, strict=True):
        mentions = spans(predicted)
        if form == "column":
            tags = iter(encode(mentions, len(block.words), layout.scheme))
            out += [layout.append(line, next(tags)) if is_row else line for line, is_row in block.raw]
            continue
        if not block.words:
            continue
        starts = [0]
        for word in block.words:
            starts.append(starts[-1] + len(word) + 1)
        tokens = [Token(word, start, start + len(word)) for word, start in zip(block.words, starts, strict=False)]
        out.append(_joined([_sentence(" ".join(block.words), tokens, mentions, layout.scheme, form)]))
    return b"".join(out)


def _joined(sentences: Iterable[str]) -> bytes:
    return "".join(f"{sentence}\n" for sentence in sentences).encode()


def _sentence(text: str, tokens: list[Token], mentions: list[Span], scheme: str, form: str) -> str:
    places = [(tokens[start].start, tokens[end - 1].end, type) for start, end, type in mentions]
    if form == "jsonl":
        entities = [{"type": type, "start": start, "end": end, "text": text[start:end]} for start, end, type in places]
        tags = encode(mentions, len(tokens), scheme)
        record: dict[str, Any] = {"text": text, "words": [token.text for token in tokens], "tags": tags}
        return json.dumps({**record, "entities": entities}, ensure_ascii=False)
    out, done = [], 0
    for start, end, type in places:
        out += [text[done:start], f"[{text[start:end]}]({type})"]
        done = end
    return "".join([*out, text[done:]])
