import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.batches import encode
from windownet.data.features import capitalization
from windownet.data.sentences import Sentence
from windownet.data.vocabulary import PADDING, Normalization, Vocabulary
from windownet.schema.config import Config
from windownet.tagger import tagger
from windownet.tagger.artifact import Artifact, network, save
from windownet.tagger.tagger import Predictor, Tagger, by_sentence, score, unseen_types

WORDS = ("<padding>", "<rare>", "a", "b", "c", "D", "Ee", "fF", "1")
TAGS = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC")
SENTENCES = st.lists(st.lists(st.sampled_from([*WORDS[2:], "new"]), max_size=6), max_size=6)


@pytest.fixture(scope="module", params=[1, 5])
def made(request):
    config = Config(
        model={"window": request.param, "word_width": 6, "capitalization_width": 3, "hidden": (7,)},
        # Dropout is for training: tagging must not be touched by it.
        regularization={"input_dropout": 0.5, "hidden_dropout": 0.5},
    )
    vocabulary = Vocabulary(WORDS, Normalization("keep", "keep"))
    shapes = jax.eval_shape(network(config, len(WORDS), len(TAGS)).init, jax.random.key(0))
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    return Artifact(config, vocabulary, TAGS, params)


@pytest.fixture(scope="module")
def loaded(made):
    return Tagger(made)


def naive(made, words):
    """The tags of a sentence, with the network written out in numpy, a window at a time."""
    params, window = made.params, made.config.model.window
    edge = [PADDING] * (window // 2)
    ids = [*edge, *made.vocabulary.encode(words), *edge]
    capitals = [*edge, *capitalization(words), *edge]
    found = []
    for place in range(len(words)):
        around = slice(place, place + window)
        x = np.concatenate([params["words"][ids[around]], params["capitals"][capitals[around]]], axis=1).reshape(-1)
        x = np.clip(x @ params["hidden"][0]["w"] + params["hidden"][0]["b"], -1, 1)
        found.append(made.tags[np.argmax(x @ params["output"]["w"] + params["output"]["b"])])
    return found


@settings(max_examples=25, deadline=None)
@given(sentences=SENTENCES)
def test_tags_are_those_of_the_network_written_out(made, loaded, sentences):
    assert loaded.tag(sentences) == [naive(made, words) for words in sentences]


def test_tags_do_not_depend_on_what_else_is_tagged(made, loaded, monkeypatch):
    draw = np.random.default_rng(0)
    sentences = [[str(word) for word in draw.choice(WORDS[2:], size)] for size in (1, 0, 300, 5, 2500, 1, 40)]
    expected = [naive(made, words) for words in sentences]
    assert len({tag for tags in expected for tag in tags}) > 2
    assert loaded.tag(sentences) == expected
    assert [loaded.tag([words])[0] for words in sentences] == expected
    monkeypatch.setattr(tagger, "_SMALL", 3)
    monkeypatch.setattr(tagger, "_LARGE", 7)
    assert Tagger(made).tag(sentences) == expected


def test_two_programs_serve_sentences_of_every_length(made):
    predict = Predictor(made.network)
    for length in (0, 1, 5, 63, 64, 65, 2000, 5000):
        numbers = predict(made.params, encode([["a"] * length], made.vocabulary, made.config.model.window // 2))
        assert (numbers.shape, numbers.dtype) == ((length,), np.int32)
    assert predict._best._cache_size() == 2


def test_a_folder_is_loaded_by_its_name(made, loaded, tmp_path):
    save(made, tmp_path / "model")
    for name in (str(tmp_path), tmp_path / "model"):
        assert Tagger.load(name).tag([["Rome", "slept"]]) == loaded.tag([["Rome", "slept"]])


@pytest.mark.parametrize("sentences", ["Rome slept", ["Rome slept"], [["Rome"], "slept"]])
def test_a_text_is_no_list_of_words(loaded, sentences):
    with pytest.raises(TypeError, match=r"required sentences as lists of words, got the text '.*'; .*tokens.words"):
        loaded.tag(sentences)


def test_nothing_is_tagged_with_nothing(loaded):
    assert loaded.tag([]) == []
    assert loaded.tag([[], []]) == [[], []]


def test_numbers_are_shared_out_by_sentence(made):
    encoded = encode([["a", "b"], [], ["c"]], made.vocabulary, 1)
    assert by_sentence(np.array([0, 4, 5]), encoded, TAGS) == [["O", "S-PER"], [], ["S-LOC"]]


def test_predictions_are_scored_as_mentions():
    sentences = [Sentence(("a", "b"), ("B-PER", "I-PER"), 1), Sentence(("c",), ("B-LOC",), 4)]
    scores = score(sentences, [["B-PER", "E-PER"], ["S-PER"]])
    assert (scores.gold, scores.predicted, scores.correct, scores.tokens) == (2, 2, 1, 3)
    assert scores.correct_tokens == 2


def test_types_without_a_tag_are_counted():
    sentences = [
        Sentence(("a", "b", "c"), ("B-X-Y", "I-X-Y", "B-PER"), 1),
        Sentence(("d", "e"), ("B-GPE", "B-X-Y"), 5),
    ]
    assert unseen_types(sentences, TAGS) == {"GPE": 1, "X-Y": 2}
    assert unseen_types(sentences, [*TAGS, "B-X-Y", "S-GPE"]) == {}
