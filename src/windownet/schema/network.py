"""The sections about the network: model, init."""

from typing import Literal

import pydantic
from pydantic import Field

from windownet.schema.choices import Nonlinearity, Scheme
from windownet.schema.section import Section, Width


class ModelConfig(Section):
    """The window network."""

    window: int = Field(5, ge=1, le=63, description="words in a window: an odd number, the tagged word in the middle")
    word_width: Width = Field(50, description="width D of a word vector")
    capitalization_width: Width = Field(5, description="width F of a capitalization vector")
    hidden: tuple[Width, ...] = Field((300,), description="units H of each hidden layer; [] for none")
    nonlinearity: Nonlinearity = Field("hard_tanh", description="nonlinearity of the hidden layers")
    scheme: Scheme = Field("BIOES", description="tag scheme that the network predicts in")

    @pydantic.field_validator("window")
    @classmethod
    def _window_is_odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("an odd number, so that the tagged word stands in the middle")
        return window


class InitConfig(Section):
    """The first values of the parameters."""

    weights: Literal[
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_uniform",
        "lecun_normal",
        "fan_in",
        "orthogonal",
        "uniform",
        "zeros",
    ] = Field("glorot_uniform", description="distribution of the weight matrices")
    weight_bound: float = Field(0.05, gt=0, description="uniform: weights are drawn from -weight_bound to weight_bound")
    table_bound: float = Field(
        0.1, gt=0, description="vectors of words and capitalizations are drawn from -table_bound to table_bound"
    )
    output_bias: Literal["zeros", "log_odds"] = Field(
        "zeros", description="bias of each tag's score; log_odds: the logarithm of the tag's share of the training data"
    )
