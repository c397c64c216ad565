"""The sections about what a tagger reads: data, features, words."""

from typing import Literal

from pydantic import Field

from windownet.schema.choices import Scheme, Separator, VectorFormat
from windownet.schema.section import Count, Section


class DataConfig(Section):
    """Where the sentences come from and how their source writes them."""

    source: Literal["demo", "columns", "table", "hub"] = Field(
        "columns",
        description="demo: the embedded corpus; columns: CoNLL-like files; table: Arrow, Parquet or JSON files; "
        "hub: a data set of the Hugging Face hub",
    )
    root: str = Field(".", description="folder that relative file names below are taken from")
    train: str = Field("train", description="training part: a file, or the split's name for demo and hub")
    dev: str = Field("", description="development part, likewise; empty: dev_share of train is held out for it")
    test: str = Field("", description="test part, likewise; empty: none")
    limit: int = Field(0, ge=0, description="use only so many sentences of train, drawn evenly from it; 0: all")
    dev_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of the training sentences held out if dev is empty; whatever the seed, the same ones",
    )
    scheme: Scheme = Field("IOB2", description="tag scheme that the source is written in")
    drop_types: tuple[str, ...] = Field((), description="entity types whose mentions are read as no mention")
    word_column: int = Field(0, description="columns: number of the word's column from 0; negative: from the end")
    tag_column: int = Field(-1, description="columns: number of the tag's column from 0; negative: from the end")
    separator: Separator = Field("whitespace", description="columns: what parts them")
    comment: str = Field(
        "", description="columns: lines that begin with this are comments (hashtags too, where it is #); empty: none"
    )
    document_marker: str = Field("-DOCSTART-", description="columns: a row with this word parts documents")
    empty_word: str = Field("", description="stands for a word of nothing but blanks; empty: such a word is an error")
    dataset: str = Field("", description="hub: name of the data set, such as tomaarsen/conll2003")
    subset: str = Field("", description="hub: name of its configuration; empty: the default one")
    words_column: str = Field("tokens", description="hub, table: column with a list of words a row")
    tags_column: str = Field("ner_tags", description="hub, table: column with a list of tags a row")
    tag_names: tuple[str, ...] = Field((), description="hub, table: names of integer tags that come without names")


class FeaturesConfig(Section):
    """What the network is told of a word."""

    case: Literal["lower", "keep"] = Field("lower", description="case of words before look-up")
    digits: Literal["keep", "zero", "number"] = Field(
        "zero", description="zero: each digit becomes 0; number: a word of digits and ,.- becomes NUMBER"
    )
    min_count: Count = Field(2, description="words seen less often in training share the row of rare words")


class WordsConfig(Section):
    """The word table: pretrained vectors, and whether training moves them."""

    vectors: str = Field("", description="file of pretrained word vectors; empty: none")
    format: Literal["auto", VectorFormat] = Field(
        "auto", description="layout of that file; auto: told by its name and first bytes"
    )
    skip_bad_lines: bool = Field(False, description="count its bad lines and go on, instead of stopping at the first")
    extra: int = Field(
        400_000, ge=0, description="at most this many words that only the file has get a row, its first ones"
    )
    update: Literal["fine-tune", "freeze", "auto"] = Field(
        "fine-tune", description="whether training moves the table; auto: decided by the size of the training data"
    )
    unfreeze_after: int = Field(0, ge=0, description="fine-tune, auto: epochs in which the table still stays as it is")
    anchor: float = Field(0.0, ge=0, description="L2 penalty that draws a step's rows to what training began with")
