import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.batches import Epochs, Windows, encode
from windownet.data.features import capitalization
from windownet.data.vocabulary import PADDING, RARE, Normalization, Vocabulary

WINDOWS = st.sampled_from([1, 3, 5, 9, 63])
# A small alphabet repeats words inside a batch; sentences without words occur in running text.
SENTENCES = st.lists(st.lists(st.sampled_from(["a", "B", "cD", "ee", "f", "1", "?"]), max_size=9), max_size=9)


def naive_windows(sentences, ids, window, padding):
    """The windows around every word, straight from the sentences."""
    radius = window // 2
    found = []
    for words in sentences:
        padded = [padding] * radius + list(ids(words)) + [padding] * radius
        found += [padded[place : place + window] for place in range(len(words))]
    return found


class Case:
    """Sentences, their tags and what each token's window must be."""

    def __init__(self, sentences, window, batch_size, min_count=1):
        self.sentences, self.window, self.batch_size = sentences, window, batch_size
        self.vocabulary = Vocabulary.build(sentences, Normalization("keep", "keep"), min_count)
        self.size = len(self.vocabulary)
        self.words = naive_windows(sentences, self.vocabulary.encode, window, PADDING)
        self.capitals = naive_windows(sentences, capitalization, window, 0)
        # A tag of its own for every token tells which one a row of a batch stands for.
        numbers = itertools.count(1)
        tags = [[next(numbers) for _ in words] for words in sentences]
        self.tokens = next(numbers) - 1
        encoded = encode(sentences, self.vocabulary, window // 2, tags)
        self.windows = Windows(encoded, self.size, window, batch_size)

    def check(self, batch):
        """Hold a batch against the naive windows; return the numbers of its tokens."""
        shapes = ((min(self.batch_size + self.window, self.size),), *[(self.batch_size, self.window)] * 2)
        assert tuple(array.shape for array in batch) == (*shapes, *[(self.batch_size,)] * 2)
        assert [array.dtype for array in batch] == [np.int32] * 4 + [np.bool_]
        count = int(batch.mask.sum())
        assert batch.mask.tolist() == [True] * count + [False] * (self.batch_size - count)
        tokens = batch.tags[:count] - 1
        assert not batch.tags[count:].any()
        used = batch.rows[batch.rows != self.size]
        assert len(set(used.tolist())) == len(used)
        assert (batch.rows[: len(used)] == used).all()
        assert set(batch.words.reshape(-1).tolist()) == set(range(len(used)))
        assert batch.rows[batch.words][:count].tolist() == [self.words[token] for token in tokens]
        assert batch.capitals[:count].tolist() == [self.capitals[token] for token in tokens]
        return tokens.tolist()


def stacked(stack):
    """The batches of one call."""
    return [type(stack)(*arrays) for arrays in zip(*stack, strict=True)]


def drawn(epochs, epoch):
    """The tokens of an epoch as they are drawn, step by step."""
    return [batch.tags[batch.mask].tolist() for stack in epochs.epoch(epoch) for batch in stacked(stack)]


@settings(deadline=None)
@given(SENTENCES, WINDOWS, st.integers(1, 40), st.integers(1, 3))
def test_in_order_gives_every_token_its_own_window(sentences, window, batch_size, min_count):
    case = Case(sentences, window, batch_size, min_count)
    given_tokens = []
    for tokens, batch in case.windows.in_order():
        assert case.check(batch) == tokens.tolist()
        given_tokens += tokens.tolist()
    assert given_tokens == list(range(case.tokens))


@settings(deadline=None)
@given(SENTENCES.filter(any), WINDOWS, st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_an_epoch_gives_every_token_once(sentences, window, batch_size, steps_per_call, seed):
    case = Case(sentences, window, batch_size)
    epochs = Epochs(case.windows, steps_per_call, seed)
    for epoch in (1, 2):
        tokens = []
        calls = list(epochs.epoch(epoch))
        for stack in calls:
            batches = stacked(stack)
            assert len(batches) == epochs.steps_per_call <= steps_per_call
            for batch in batches:
                step = case.check(batch)
                assert step or batch_size == 1
                tokens += step
        assert sorted(tokens) == list(range(case.tokens))
        assert len(calls) == epochs.calls
        assert epochs.steps == epochs.calls * epochs.steps_per_call
        assert epochs.steps < -(-case.tokens // batch_size) + epochs.calls


@settings(deadline=None)
@given(SENTENCES.filter(any), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_the_sentences_of_a_step_are_those_of_its_windows(sentences, batch_size, steps_per_call, epoch):
    case = Case(sentences, 3, batch_size)
    epochs = Epochs(case.windows, steps_per_call, 0)
    sentence_of = [number for number, words in enumerate(sentences) for _ in words]
    for step, tokens in enumerate(drawn(epochs, epoch)):
        expected = list(dict.fromkeys(sentence_of[token - 1] for token in tokens))
        assert epochs.sentences(epoch, step) == expected


def test_the_order_follows_from_seed_and_epoch_alone():
    case = Case([["a", "b"]] * 40 + [["c"]] * 20, 3, 8)
    epochs = Epochs(case.windows, 3, seed=7)
    second, first = drawn(epochs, 2), drawn(epochs, 1)
    assert first != second
    again = Epochs(case.windows, 3, seed=7)
    assert [drawn(again, 1), drawn(again, 2)] == [first, second]
    assert drawn(Epochs(case.windows, 3, seed=8), 1) != first
    # However many steps a call has, the tokens come in the same order.
    flat = list(itertools.chain(*first))
    assert list(itertools.chain(*drawn(Epochs(case.windows, 1, seed=7), 1))) == flat
    # Sentences are shuffled whole: a word is followed by its neighbour.
    assert all(flat[flat.index(token) + 1] == token + 1 for token in range(1, 80, 2))


@pytest.mark.parametrize("window", [1, 5, 63])
def test_a_sentence_of_20000_tokens_is_cut_into_batches(window):
    case = Case([["x"], [f"w{n % 700}" for n in range(20_000)], ["y"]], window, 512)
    epochs = Epochs(case.windows, 16, seed=0)
    tokens = [token for stack in epochs.epoch(1) for batch in stacked(stack) for token in case.check(batch)]
    assert sorted(tokens) == list(range(20_002))


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_the_bound_on_rows_is_no_larger_than_need_be(window, batch_size):
    # All words differ and fill a batch from the middle of a sentence, with every context word beyond its ends.
    case = Case([[f"w{n}" for n in range(batch_size + window)]], window, batch_size)
    batch = case.windows.batch(np.arange(window // 2, window // 2 + batch_size))
    case.check(batch)
    assert len(batch.rows) - (batch.rows != case.size).sum() <= 1


def test_tokens_without_tags_get_zeros():
    vocabulary = Vocabulary.build([["a"]], Normalization("keep", "keep"))
    encoded = encode([["a", "b"], [], ["a"]], vocabulary, 2)
    assert encoded.tags.tolist() == [0, 0, 0]
    assert encoded.offsets.tolist() == [0, 2, 2, 3]
    assert encode([], vocabulary, 2).offsets.tolist() == [0]
    assert list(Windows(encode([], vocabulary, 0), 3, 1, 4).in_order()) == []


def test_word_dropout_makes_words_rare_in_all_windows_of_an_epoch():
    words = [f"w{n}" for n in range(40)]
    sentences = [words[n:] + words[:n] for n in range(40)]
    vocabulary = Vocabulary.build(sentences, Normalization("keep", "keep"))
    tags = np.arange(1600).reshape(40, 40).tolist()
    windows = Windows(encode(sentences, vocabulary, 1, tags), len(vocabulary), 3, 64)

    def seen(epochs, epoch):
        """By token: the row of its word in its own window, and in that of the token before."""
        own, next_to = np.zeros(1600, int), np.full(1600, PADDING)
        for stack in epochs.epoch(epoch):
            for rows, places, tags, mask in zip(stack.rows, stack.words, stack.tags, stack.mask, strict=True):
                assert len(set(rows[rows < len(vocabulary)])) == (rows < len(vocabulary)).sum()
                ids = rows[places][mask]
                own[tags[mask]], next_to[tags[mask]] = ids[:, 1], ids[:, 2]
        return own, next_to

    dropping = Epochs(windows, 4, 7, word_dropout=0.25)
    plain, _ = seen(Epochs(windows, 4, 7), 1)
    own, next_to = seen(dropping, 1)
    dropped = own != plain
    assert (own[dropped] == RARE).all()
    assert 0.21 < dropped.mean() < 0.29
    inner = np.arange(1600) % 40 != 39
    assert (next_to[inner] == own[np.flatnonzero(inner) + 1]).all()
    assert (next_to[~inner] == PADDING).all()
    again, other = seen(dropping, 1)[0], seen(dropping, 2)[0]
    assert (again == own).all()
    assert (other != own).any()
    assert (seen(dropping.seeded(8), 1)[0] != own).any()
    assert (seen(dropping.seeded(7), 1)[0] == own).all()
