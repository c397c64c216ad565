"""First values: their variances, bounds and what they make of a network."""

import math
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet.data.batches import Batch
from windownet.model.initializers import Initializers
from windownet.model.network import WindowNetwork
from windownet.schema.network import InitConfig

I, O = 320, 80  # noqa: E741
# Variance, and the largest value in standard deviations: sqrt(3) for a uniform distribution, and 2 over what cutting
# leaves of the deviation for a normal one.
UNIFORM, CUT_NORMAL = math.sqrt(3), 2 / 0.87962566
EXPECTED = {
    "glorot_uniform": (2 / (I + O), UNIFORM),
    "glorot_normal": (2 / (I + O), CUT_NORMAL),
    "he_uniform": (2 / I, UNIFORM),
    "he_normal": (2 / I, CUT_NORMAL),
    "lecun_uniform": (1 / I, UNIFORM),
    "lecun_normal": (1 / I, CUT_NORMAL),
    "fan_in": (1 / (3 * I), UNIFORM),
    "uniform": (0.3**2 / 3, UNIFORM),
}


def weight(name: str, shape: tuple[int, int] = (I, O), dtype: Any = jnp.float32) -> np.ndarray:
    config = InitConfig(weights=name, weight_bound=0.3)  # type: ignore[arg-type]
    drawn = Initializers(config).weight(jax.random.key(3), shape, dtype)
    assert (drawn.shape, drawn.dtype) == (shape, dtype)
    return np.asarray(drawn)


def network(config: InitConfig, counts: tuple[int, ...] = ()) -> WindowNetwork:
    return WindowNetwork(9, 5, 4, 3, 4, 2, (6,), "tanh", initializers=Initializers(config, counts))


def test_every_choice_is_tested() -> None:
    assert set(get_args(InitConfig.model_fields["weights"].annotation)) == {*EXPECTED, "orthogonal", "zeros"}


@pytest.mark.parametrize("name", EXPECTED)
def test_variance_and_bound(name: str) -> None:
    variance, largest = EXPECTED[name]
    drawn = weight(name)
    assert drawn.var() == pytest.approx(variance, rel=0.03)
    assert abs(drawn.mean()) < 0.03 * math.sqrt(variance)
    assert np.abs(drawn).max() / math.sqrt(variance) == pytest.approx(largest, rel=0.01)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (7, 7)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    with jax.enable_x64(True):
        drawn = weight("orthogonal", shape, jnp.float64)
    gram = drawn.T @ drawn if shape[0] > shape[1] else drawn @ drawn.T
    np.testing.assert_allclose(gram, np.eye(7), atol=1e-12)


def test_tables_lie_in_their_bound() -> None:
    params = network(InitConfig(table_bound=0.02)).init(jax.random.key(0))
    both = np.concatenate([np.ravel(params["words"]), np.ravel(params["capitals"])])
    assert 0.018 < np.abs(both).max() <= 0.02
    assert both.min() < 0 < both.max()


def test_log_odds_give_the_tags_shares_from_the_first_step() -> None:
    counts = (89, 7, 0, 0)
    config = InitConfig(weights="zeros", output_bias="log_odds")
    params = network(config, counts).init(jax.random.key(0))
    assert np.exp(params["output"]["b"]).sum() == pytest.approx(1)
    place = np.zeros((2, 3), np.int32)
    batch = Batch(np.arange(5, dtype=np.int32), place, place, np.zeros(2, np.int32), np.ones(2, bool))
    shares = jax.nn.softmax(network(config, counts).scores(params, batch))
    np.testing.assert_allclose(shares, [[0.9, 0.08, 0.01, 0.01]] * 2, rtol=1e-5)
    with pytest.raises(ValueError, match="needs the counts of 4 tags"):
        network(config, counts[:3]).init(jax.random.key(0))


def test_zeros_leave_hidden_units_alike() -> None:
    params = network(InitConfig(weights="zeros")).init(jax.random.key(0))
    assert not any(np.any(leaf) for name in ("hidden", "output") for leaf in jax.tree.leaves(params[name]))
