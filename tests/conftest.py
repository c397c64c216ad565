"""Strict settings for the tests of our own arithmetic: no silent promotion of dtypes or ranks."""

from collections.abc import Iterator

import jax
import pytest

# optax promotes dtypes itself, so what runs an optimizer cannot be held to it.
_STRICT = {"autodiff", "model"}


@pytest.fixture(autouse=True)
def no_silent_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    if not _STRICT & set(request.path.parts):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
