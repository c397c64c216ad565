"""Strict settings for the tests of our own arithmetic, and one cache of compiled programs for all processes."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

_CACHE = "JAX_COMPILATION_CACHE_DIR"
# Half of the suite's time is XLA compiling programs that another test has compiled. Set before jax is imported, and
# inherited by the processes that tests start.
_OWN_CACHE = _CACHE not in os.environ
if _OWN_CACHE:
    os.environ[_CACHE] = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax  # noqa: E402
import pytest  # noqa: E402

# optax promotes dtypes itself, so what runs an optimizer cannot be held to it.
_STRICT = {"autodiff", "model"}


@pytest.fixture(autouse=True)
def no_silent_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    if not _STRICT & set(request.path.parts):
        yield
        return
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    # What a shell starts in the background inherits that it is not, and hands it on to the programs that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    if _OWN_CACHE:
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)
