"""Both losses against plain statements of them, their gradients against jax.grad of these and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from windownet.autodiff import RowSparse, value_and_grad
from windownet.autodiff.check import check_gradients
from windownet.pretrain import ranking, skipgram
from windownet.pretrain.block import Block, joined
from windownet.pretrain.ranking import Ranking
from windownet.pretrain.skipgram import SkipGram
from windownet.pretrain.step import Step, rate
from windownet.schema.pretrain import PretrainSection

V, D, C, Q, K, T = 7, 3, 2, 3, 4, 12
WORDS = np.array([0, 0, 3, 1, 3, 2, 5, 5, 1, 6, 3, 2, 0, 4, 1, 0], np.int32)
# The first two are before the text, the last two after it, and two more only fill the block up; two lines end inside a
# window.
LINES = np.array([-1, -1, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, -1, -1, -1, -1], np.int32)


def block():
    rows, slots = np.unique(WORDS, return_inverse=True)
    rows = np.append(rows, [V, V])
    return Block(jnp.asarray(rows, jnp.int32), jnp.asarray(slots, jnp.int32), jnp.asarray(LINES))


def random_params(params):
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.standard_normal(leaf.shape) * 0.5, leaf.dtype) for name, leaf in params.items()}


def skip_gram_plainly(params, widths, negatives):
    """Pair by pair, as the paper has it; each drawn word counts 5/K."""
    pairs, against = [], []
    for t in range(T):
        centre = t + C
        for other in range(centre - C, centre + C + 1):
            in_window = 1 <= abs(other - centre) <= widths[t // Q][t % Q]
            if in_window and LINES[centre] == LINES[other] >= 0:
                pairs.append((WORDS[centre], WORDS[other]))
                against += [(WORDS[centre], negative) for negative in negatives[t // Q]]
    x, y = params["words"], params["contexts"]
    (a, b), (c, d) = np.array(pairs).T, np.array(against).T
    true, drawn = (x[a] * y[b]).sum(1), (x[c] * y[d]).sum(1)
    return -jnp.log(jax.nn.sigmoid(true)).sum() - 5 / K * jnp.log(jax.nn.sigmoid(-drawn)).sum()


def ranking_plainly(params, drawn):
    weights = jnp.concatenate([params["context"][: C * D], params["middle"], params["context"][C * D :]])
    middles = [t + C for t in range(T) if LINES[t + C] >= 0]
    around = np.array(middles)[:, None] + np.arange(-C, C + 1)
    # Row V, beyond a line's ends, is zeros.
    true = np.where(LINES[around] == LINES[middles][:, None], WORDS[around], V)
    corrupted = true.copy()
    corrupted[:, C] = drawn[np.array(middles) - C]
    table = jnp.concatenate([params["words"], jnp.zeros((1, D))])

    def score(windows):
        inputs = table[windows].reshape(len(windows), -1)
        return jnp.clip(inputs @ weights + params["bias"], -1, 1) @ params["output"][:, 0]

    return jnp.maximum(0, 1 - score(true) + score(corrupted)).sum()


def problem(kind):
    """The objective, its parameters, block and draws, and the plain loss of the parameters."""
    loss = SkipGram(radius=C, negatives=5, chunk=Q, shared=K) if kind == "skipgram" else Ranking(radius=C, hidden=5)
    params = random_params(loss.init(jax.random.key(0), V, D))
    drawn, _ = loss.draw(
        jax.random.key(3), block(), jnp.asarray([1 << 29] * V).cumsum(dtype=jnp.uint32), jnp.ones(V, int)
    )
    rows = np.asarray(drawn.rows)
    if kind == "skipgram":
        return loss, params, drawn, lambda p: skip_gram_plainly(p, np.asarray(drawn.widths), rows[drawn.negatives])
    return loss, params, drawn, lambda p: ranking_plainly(p, rows[drawn.corrupted])


@pytest.mark.parametrize("kind", ["skipgram", "ranking"])
def test_loss_and_gradient_are_those_of_the_plain_statement(kind):
    loss, params, drawn, plain = problem(kind)
    (value, count), gradient = jax.jit(value_and_grad(loss.loss, has_aux=True, row_sparse=True))(params, block(), drawn)
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert count > 0
    for name, cotangent in gradient.items():
        assert isinstance(cotangent, RowSparse) == (name in loss.tables)
        dense = cotangent.to_dense() if isinstance(cotangent, RowSparse) else cotangent
        np.testing.assert_allclose(dense, expected_gradient[name], rtol=2e-4, atol=1e-5, err_msg=name)
        assert np.abs(dense).max() > 0.01


@pytest.mark.parametrize("kind", ["skipgram", "ranking"])
def test_gradient_stands_the_check(kind):
    loss, params, drawn, _ = problem(kind)
    report = check_gradients(lambda p: loss.loss(p, block(), drawn)[0], params)
    assert report.ok, str(report)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_rows_and_draws_are_joined_without_repetition(data):
    word = st.integers(0, V - 1)
    rows = np.array(data.draw(st.lists(word, unique=True, min_size=3, max_size=3)), np.int32)
    rows = np.append(rows, np.int32(V))
    drawn = np.array(data.draw(st.lists(word, min_size=6, max_size=6)), np.int32)
    # What blocks before left in the scratch: positions that were right for other lists.
    scratch = np.array(data.draw(st.lists(st.integers(-1, 12), min_size=V, max_size=V)), np.int32)
    together, slots, _ = _joined(rows, drawn, scratch)
    np.testing.assert_array_equal(together[:4], rows)
    np.testing.assert_array_equal(np.asarray(together)[slots], drawn)
    named = together[together < V].tolist()
    assert sorted(named) == sorted({*rows[:3].tolist(), *drawn.tolist()})


_joined = jax.jit(joined)


def test_every_width_and_word_is_drawn():
    loss = SkipGram(radius=5, negatives=5, chunk=32, shared=32)
    text = Block(
        jnp.arange(4, dtype=jnp.int32), jnp.zeros(32 * 100 + 10, jnp.int32), jnp.zeros(32 * 100 + 10, jnp.int32)
    )
    ends = jnp.asarray([1 << 30, 1 << 31, 3 << 30, (1 << 32) - 1], jnp.uint32)
    drawn: skipgram.Drawn
    drawn, _ = loss.draw(jax.random.key(0), text, ends, jnp.zeros(4, jnp.int32))
    share = np.bincount(np.asarray(drawn.widths).reshape(-1), minlength=7) / drawn.widths.size
    np.testing.assert_allclose(share, [0, 0.2, 0.2, 0.2, 0.2, 0.2, 0], atol=0.03)
    other: ranking.Drawn
    other, _ = Ranking(radius=5, hidden=3).draw(jax.random.key(0), text, ends, jnp.zeros(4, jnp.int32))
    for slots in (drawn.negatives, other.corrupted):
        np.testing.assert_allclose(np.bincount(np.asarray(slots).reshape(-1)) / slots.size, 0.25, atol=0.03)


def test_a_block_of_ranking_moves_its_network_by_less_than_what_it_began_with() -> None:
    # Summed over a block's windows the gradient is large: at the words' rate all hidden units would go flat at once.
    section = PretrainSection(objective="ranking")
    words = np.random.default_rng(0).integers(500, size=section.block + 2 * section.window)
    rows, slots = np.unique(words, return_inverse=True)
    one = Block(rows.astype(np.int32)[None], slots.astype(np.int32)[None], np.zeros((1, len(words)), np.int32))
    step = Step(section, np.full(500, 10), 100)
    before = jax.device_get(step.init().params)
    state, _ = step(step.init(), one)
    for name in ("middle", "output"):
        moved = np.abs(np.asarray(state.params[name]) - before[name])
        assert 0 < moved.max() < before[name].std() / 2, name


def test_the_rate_falls_in_a_line_to_a_thousandth():
    falling = rate(PretrainSection(learning_rate=0.5), 1000)
    np.testing.assert_allclose([falling(k) for k in (0, 500, 1000, 2000)], [0.5, 0.25025, 0.0005, 0.0005], rtol=1e-5)
