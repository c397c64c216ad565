"""The config of `pretrain`: word vectors from raw text."""

from typing import Any, Literal

import pydantic
from pydantic import Field

from windownet.schema.section import Count, Schema, Section, Width

# What suits ranking, found on 4.8 million words: its gradients are smaller, its network wants more steps.
_OF_RANKING = {"learning_rate": 0.2, "accumulator": 0.01, "block": 2048}


class TextConfig(Section):
    """The text, and which of its words have a vector."""

    source: Literal["files", "demo"] = Field("files", description="files; demo: the text of the embedded corpus")
    root: str = Field(".", description="folder that relative file names below are taken from")
    files: tuple[str, ...] = Field((), description="files of UTF-8 text, plain or packed by gzip or xz, in their order")
    case: Literal["lower", "keep"] = Field("lower", description="case of words, as in the tagger's features")
    digits: Literal["keep", "zero", "number"] = Field(
        "zero", description="zero: each digit becomes 0; number: a word of digits and ,.- becomes NUMBER"
    )
    min_count: Count = Field(5, description="words seen less often are left out of the text")
    max_words: int = Field(0, ge=0, description="so many words at most, the most frequent ones; 0: no bound")


class PretrainSection(Section):
    """The vectors and the run."""

    objective: Literal["skipgram", "ranking"] = Field(
        "skipgram", description="skipgram: with negative sampling; ranking: true above corrupted windows"
    )
    width: Width = Field(100, description="width D of a word vector")
    window: int = Field(5, ge=1, le=31, description="words C on each side; skipgram: at most, it is drawn from 1..C")
    negatives: Count = Field(5, description="skipgram: words drawn against each pair, in expectation")
    hidden: Width = Field(100, description="ranking: units H of the hidden layer")
    subsample: float = Field(
        1e-3, ge=0, lt=1, description="words of a larger share of the text are thinned out; 0: none"
    )
    learning_rate: float = Field(
        0.5, gt=0, description="Adagrad's first rate; it falls in a line to a thousandth (ranking: 0.2)"
    )
    accumulator: float = Field(10.0, gt=0, description="Adagrad's sum of squares before the first step (ranking: 0.01)")
    epochs: Count = Field(1, description="passes over the text")
    block: int = Field(8192, ge=64, le=1 << 20, description="words T of a step, a multiple of 64 (ranking: 2048)")
    steps_per_call: Count = Field(32, description="steps that one call of the compiled program runs")
    checkpoint_seconds: float = Field(60.0, ge=0, description="least time between two checkpoints")
    seed: int = Field(0, ge=0, lt=2**32, description="of the first values, the thinning, windows and drawn words")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _defaults_suit_the_objective(cls, given: Any) -> Any:
        ranking = isinstance(given, dict) and given.get("objective") == "ranking"
        return {**_OF_RANKING, **given} if ranking else given

    @pydantic.field_validator("block")
    @classmethod
    def _block_is_whole_chunks(cls, block: int) -> int:
        if block % 64:
            raise ValueError("a multiple of 64")
        return block


class PretrainConfig(Schema):
    """A whole run of `pretrain`."""

    text: TextConfig = TextConfig()
    pretrain: PretrainSection = PretrainSection()
