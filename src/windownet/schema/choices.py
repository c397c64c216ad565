"""What fields choose from and others name too; imports no pydantic, so that help can name it."""

from typing import Literal

Nonlinearity = Literal[
    "sigmoid",
    "tanh",
    "hard_tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "silu",
    "gelu",
    "gelu_tanh",
    "softplus",
]
Scheme = Literal["IO", "IOB1", "IOB2", "BIOES"]
Separator = Literal["whitespace", "tab", "space"]
TagFormat = Literal["column", "jsonl", "text"]
VectorFormat = Literal["glove", "word2vec", "word2vec-binary", "npy", "safetensors"]
