"""What is drawn on the device, what is thinned out, and what comes in the blocks."""

import jax
import numpy as np
import pytest

from windownet.pretrain import sampler
from windownet.pretrain.stream import Stream, keep_probabilities
from windownet.pretrain.text import Text


def a_text(lines, counts=None):
    """A text of lines of numbers of words."""
    size = 1 + max(n for line in lines for n in line)
    flat = [n for line in lines for n in (*line, size)]
    numbers = np.array(flat, np.int32)
    counts = np.bincount(numbers, minlength=size + 1)[:size]
    return Text(tuple(f"w{n}" for n in range(size)), counts, numbers, int(counts.sum()))


def a_stream(text, **changes):
    given = {"radius": 2, "block": 8, "steps": 3, "epochs": 1, "subsample": 0.0, "seed": 4} | changes
    return Stream(text, **given)


def words_of(stack):
    """The middle words of a stack and their lines, in order."""
    blocks = stack.blocks
    rows = [blocks.rows[k][blocks.slots[k]][2:-2] for k in range(len(blocks.rows))]
    words, lines = np.concatenate(rows), blocks.lines[:, 2:-2].reshape(-1)
    return words[lines >= 0], lines[lines >= 0]


def test_words_are_drawn_by_their_shares():
    counts = np.array([100_000, 10_000, 1000, 100, 10, 1])
    ends = sampler.bounds(counts)
    assert ends.dtype == np.uint32
    drawn = np.asarray(jax.jit(sampler.draw)(jax.random.bits(jax.random.key(1), (400, 500)), ends))
    assert sampler.draw(np.uint32([0, 2**32 - 1]), ends).tolist() == [0, 5]
    expected = counts**0.75 / (counts**0.75).sum()
    found = np.bincount(drawn.reshape(-1), minlength=6) / drawn.size
    np.testing.assert_allclose(found, expected, atol=0.001, rtol=0.02)


def test_the_rarest_of_many_words_keeps_its_share():
    counts = np.concatenate([[10**9], np.full(300_000, 5)])
    shares = np.diff(sampler.bounds(counts).astype(np.int64), prepend=0) / 2**32
    np.testing.assert_allclose(shares[-1000:], 5**0.75 / (counts**0.75).sum(), rtol=1e-3)


def test_frequent_words_are_kept_as_by_word2vec():
    counts = np.array([900_000, 90_000, 9_990, 10])
    share = counts / counts.sum()
    expected = np.minimum(1, (np.sqrt(share / 1e-3) + 1) * 1e-3 / share)
    np.testing.assert_allclose(keep_probabilities(counts, 1e-3), expected, rtol=1e-6)
    assert expected[0] < 0.04 and expected[3] == 1
    np.testing.assert_array_equal(keep_probabilities(counts, 0.0), 1)


def test_the_text_is_thinned_out_by_these_shares():
    rng = np.random.default_rng(0)
    text = a_text([rng.choice(3, 50, p=[0.9, 0.09, 0.01]).tolist() for _ in range(400)])
    stream = a_stream(text, subsample=0.05, epochs=3)
    words = np.concatenate([words_of(stack)[0] for stack in stream.stacks()])
    first, second = (words[at : at + 1000] for at in (0, round(len(words) / 3)))
    assert first.tolist() != second.tolist()
    kept = np.bincount(words, minlength=3) / (3 * text.counts)
    np.testing.assert_allclose(kept, keep_probabilities(text.counts, 0.05), atol=0.03)
    assert stream.expected_words == pytest.approx(len(words), rel=0.03)


@pytest.mark.parametrize("segment", [1 << 20, 7])
def test_every_word_comes_once_an_epoch_with_its_neighbours(monkeypatch, segment):
    monkeypatch.setattr("windownet.pretrain.stream._SEGMENT", segment)
    rng = np.random.default_rng(1)
    lines = [rng.integers(0, 9, rng.integers(0, 12)).tolist() for _ in range(30)]
    text = a_text([*lines, [8]])
    stacks = list(a_stream(text, epochs=2).stacks())
    words, numbers = (np.concatenate(parts) for parts in zip(*map(words_of, stacks), strict=True))
    flat = [n for line in [*lines, [8]] for n in line]
    np.testing.assert_array_equal(words, flat * 2)
    # A new line and a new pass have a number of their own.
    expected = [k for k, line in enumerate([*lines, [8]] * 2) for _ in line]
    assert (np.diff(numbers) != 0).tolist() == (np.diff(expected) != 0).tolist()
    assert sum(stack.words for stack in stacks) == len(words)
    assert stacks[-1].share == 1
    # The context beyond a block's ends is that of the text.
    for blocks in (stack.blocks for stack in stacks):
        for k in range(1, 3):
            here, before = (blocks.rows[n][blocks.slots[n]] for n in (k, k - 1))
            np.testing.assert_array_equal(here[:4], before[-4:])
            assert len(set(blocks.rows[k][blocks.rows[k] < 9].tolist())) == (blocks.rows[k] < 9).sum()


def test_a_stream_that_is_entered_later_gives_what_it_would_have_given(monkeypatch):
    monkeypatch.setattr("windownet.pretrain.stream._SEGMENT", 100)
    rng = np.random.default_rng(2)
    text = a_text([rng.choice(9, 40, p=[0.4] + [0.075] * 8).tolist() for _ in range(12)])
    whole = list(a_stream(text, subsample=0.1, epochs=2).stacks())
    assert len(whole) > 10
    for skip in (1, 7, len(whole)):
        rest = list(a_stream(text, subsample=0.1, epochs=2).stacks(skip))
        assert len(rest) == len(whole) - skip
        for one, other in zip(rest, whole[skip:], strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)
    other = list(a_stream(text, subsample=0.1, epochs=2, seed=5).stacks())
    assert not np.array_equal(*(words_of(stacks[0])[0] for stacks in (whole, other))), "the seed decides nothing"
