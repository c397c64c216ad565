"""The window network against its specification in flax: same parameters in, same logits and gradients out."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.autodiff import ops, value_and_grad
from windownet.data.batches import Batch
from windownet.model import reference
from windownet.model.network import WindowNetwork
from windownet.schema.choices import Nonlinearity

B, W, U, V, D, F, L = 7, 5, 6, 11, 4, 3, 5


def make(
    nonlinearity: str = "tanh", hidden: tuple[int, ...] = (8, 6), dropout: float = 0.0, **penalties: float
) -> WindowNetwork:
    return WindowNetwork(V, 5, L, W, D, F, hidden, nonlinearity, dropout, dropout, **penalties)


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(V)[: U - 1], [V]]).astype(np.int32)
    mask = np.arange(B) < B - 2
    words = rng.integers(0, U - 1, (B, W)).astype(np.int32)
    tags = rng.integers(0, L, B).astype(np.int32)
    return Batch(rows, words, rng.integers(0, 5, (B, W)).astype(np.int32), tags, mask)


def params_of(network: WindowNetwork) -> Any:
    params = network.init(jax.random.key(0), jnp.float64)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)


def difference(a: Any, b: Any) -> float:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max() / jnp.maximum(jnp.abs(y).max(), 1e-30)) for x, y in leaves)


@pytest.mark.parametrize(
    ("nonlinearity", "hidden", "dropout"),
    [(name, (8, 6), 0.4) for name in get_args(Nonlinearity)] + [("tanh", (), 0.0), ("prelu", (8,), 0.0)],
)
def test_equals_the_reference(nonlinearity: str, hidden: tuple[int, ...], dropout: float) -> None:
    with jax.enable_x64(True):
        network = make(nonlinearity, hidden, dropout)
        params, data = params_of(network), batch()
        key = jax.random.key(5) if dropout else None
        module = reference.from_params(network, params)
        logits = module(jnp.asarray(data.rows)[data.words], data.capitals, key)
        assert difference(network.scores(params, data, key), logits) < 1e-12
        value, gradient = value_and_grad(network.loss)(params, data, key)
        expected, witness = jax.value_and_grad(lambda p: reference.loss(network, p, data, key))(params)
        assert abs(value - expected) < 1e-12
        assert difference(gradient, witness) < 1e-10


@pytest.mark.parametrize("penalties", [{"label_smoothing": 0.2}, {"l2": 0.3}, {"margin": True}])
def test_penalties_and_other_losses_equal_the_reference(penalties: dict[str, float]) -> None:
    with jax.enable_x64(True):
        network, data = make("tanh", (8,), **penalties), batch()
        params = params_of(network)
        value, gradient = value_and_grad(network.loss)(params, data)
        expected, witness = jax.value_and_grad(lambda p: reference.loss(network, p, data))(params)
        assert abs(value - expected) < 1e-12
        assert difference(gradient, witness) < 1e-10
        assert abs(value - make("tanh", (8,)).loss(params, data)) > 1e-3


def test_the_l2_penalty_is_of_the_layers_weights_alone() -> None:
    with jax.enable_x64(True):
        network, data = make("prelu", (8,), l2=0.3), batch()
        params = params_of(network)
        penalized = value_and_grad(network.loss)(params, data)[1]
        plain = value_and_grad(make("prelu", (8,)).loss)(params, data)[1]
        added = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), penalized, plain)
        params = jax.tree.map(np.asarray, params)
    for layer, weights in ((added["hidden"][0], params["hidden"][0]["w"]), (added["output"], params["output"]["w"])):
        np.testing.assert_allclose(layer.pop("w"), 0.3 * weights, rtol=1e-9)
    assert not any(leaf.any() for leaf in jax.tree.leaves(added))


def test_dropout_is_off_without_a_key_and_differs_by_key() -> None:
    network, plain = make(dropout=0.5), make()
    params, data = network.init(jax.random.key(0)), batch()
    assert (network.scores(params, data) == plain.scores(params, data)).all()
    first, second = (network.scores(params, data, jax.random.key(n)) for n in (0, 1))
    assert (first != second).any()


def test_rows_that_a_batch_does_not_touch_get_exactly_zero() -> None:
    network, data = make(), batch()
    gradient = value_and_grad(network.loss)(network.init(jax.random.key(0)), data)[1]["words"]
    touched = np.zeros(V, bool)
    touched[data.rows[np.unique(data.words[data.mask])]] = True
    assert (np.abs(gradient).max(1) > 0).tolist() == touched.tolist()


def test_masked_windows_count_for_nothing() -> None:
    network, data = make(), batch()
    params = network.init(jax.random.key(0))
    other = data._replace(tags=np.where(data.mask, data.tags, (data.tags + 1) % L).astype(np.int32))
    assert network.loss(params, data) == network.loss(params, other)
    logits = network.scores(params, data)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data.tags)
    assert np.allclose(network.loss(params, data), losses[data.mask].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        ops.Op(
            "embed",
            ops.embed.forward,
            lambda g, y, table, ids: (
                jnp.zeros_like(table).at[ids.reshape(-1)].set(g.reshape(-1, table.shape[1])),
                None,
            ),
        ),
        ops.Op("affine", ops.affine.forward, lambda g, y, x, w, b: (g @ w.T, x.T @ g, g.mean(0))),
        ops.Op("tanh", ops.tanh.forward, lambda g, y, x: (g * (1 - y),)),
    ],
    ids=lambda op: op.name,
)
def test_a_wrong_rule_is_seen(wrong: ops.Op, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, wrong.name, wrong)
    monkeypatch.setattr(ops, "OPS", {**ops.OPS, wrong.name: wrong})
    with pytest.raises(AssertionError):
        test_equals_the_reference("tanh", (8,), 0.0)


def test_first_values() -> None:
    params = make("prelu").init(jax.random.key(0))
    assert np.abs(params["words"]).max() <= 0.1
    assert not params["hidden"][0]["b"].any()
    assert (params["hidden"][1]["slope"] == 0.25).all()
    width = W * (D + F)
    assert params["hidden"][0]["w"].shape == (width, 8)
    assert np.abs(params["hidden"][0]["w"]).max() <= (6 / (width + 8)) ** 0.5
    again = make("prelu").init(jax.random.key(0))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True))
