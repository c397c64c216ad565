import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from windownet.data import demo
from windownet.data.sentences import Sentence
from windownet.errors import InputError

Span = tuple[int, int, str]

SPLITS = {split: demo.sentences(split) for split in demo.SPLITS}


def spans(tags: Sequence[str]) -> set[Span]:
    """The entities of valid IOB2 tags as (first word, word past the last, type)."""
    starts = [position for position, tag in enumerate(tags) if tag.startswith("B-")]
    ends = [
        next((end for end in range(start + 1, len(tags)) if not tags[end].startswith("I-")), len(tags))
        for start in starts
    ]
    return {(start, end, tags[start][2:]) for start, end in zip(starts, ends, strict=True)}


def mentions(sentences: Sequence[Sentence]) -> list[tuple[str, str]]:
    return [
        (" ".join(sentence.words[start:end]), entity_type)
        for sentence in sentences
        for start, end, entity_type in sorted(spans(sentence.tags))
    ]


def checksum(sentences: Sequence[Sentence]) -> str:
    rows = ("\n".join(f"{word}\t{tag}" for word, tag in zip(s.words, s.tags, strict=True)) for s in sentences)
    return hashlib.sha256("\n\n".join(rows).encode()).hexdigest()


@pytest.mark.parametrize(
    ("split", "seed", "expected"),
    [
        ("train", 0, "545d03e2df58bf4095daffd189646b6f7928deb4466aa5b2eb417f458fac2107"),
        ("dev", 0, "b616f3114f29a644000894335b58862c0028f69a346f0960c404c831ff442fb9"),
        ("test", 0, "cf191447007b53d712aec208bd734427833cbb52ab46ae96826047a001701ee9"),
        ("test", 7, "86945103dde1b5e57c517172fb1a4c730df107ad5601275a25df5d0ada9519d8"),
    ],
)
def test_a_seed_gives_the_same_sentences_everywhere(split: str, seed: int, expected: str) -> None:
    assert checksum(demo.sentences(split, seed)) == expected


@pytest.mark.parametrize("split", demo.SPLITS)
def test_sizes_lines_and_no_repeats(split: str) -> None:
    sentences = SPLITS[split]
    assert len(sentences) == {"train": 4000, "dev": 600, "test": 800}[split]
    assert [sentence.line for sentence in sentences] == list(range(1, len(sentences) + 1))
    assert len({sentence.words for sentence in sentences}) == len(sentences)


def test_train_has_about_sixty_thousand_words() -> None:
    assert 54_000 < sum(len(sentence.words) for sentence in SPLITS["train"]) < 66_000


def test_frames_are_many_distinct_and_of_many_lengths() -> None:
    frames = [frame for split in demo.SPLITS for frame in demo.frames(split)]
    assert len(frames) >= 900
    assert len({" ".join(frame.lower().split()) for frame in frames}) == len(frames)
    lengths = {len(frame.split()) for frame in frames}
    assert min(lengths) <= 4
    assert max(lengths) >= 30


@pytest.mark.parametrize("split", demo.SPLITS)
def test_every_frame_is_used(split: str) -> None:
    openings = {sentence.words[0].lower() for sentence in SPLITS[split]}
    literal = {frame.split()[0].lower() for frame in demo.frames(split) if re.match(r"\w", frame)}
    assert literal <= openings


@pytest.mark.parametrize("split", demo.SPLITS)
def test_tags_are_valid_iob2_and_every_type_is_there(split: str) -> None:
    for sentence in SPLITS[split]:
        assert len(sentence.words) == len(sentence.tags)
        for previous, tag in zip(("O", *sentence.tags), sentence.tags, strict=False):
            assert re.fullmatch(r"O|[BI]-(PER|LOC|ORG|MISC)", tag)
            assert not tag.startswith("I-") or previous[2:] == tag[2:]
    share = Counter(entity_type for _, entity_type in mentions(SPLITS[split]))
    assert set(share) == set(demo.TYPES)
    assert min(share.values()) > 0.12 * share.total()


@pytest.mark.parametrize("split", demo.SPLITS)
def test_words_are_plain_tokens_in_good_english(split: str) -> None:
    for sentence in SPLITS[split]:
        for word, following in zip(sentence.words, (*sentence.words[1:], ""), strict=True):
            assert not re.search(r"[\s\[\]{}|]|\w[.,;:!?]$|\w's$|\wn't$", word), sentence
            if word in ("a", "A", "an", "An") and re.match(r"[aio]", following, re.IGNORECASE):
                assert word.endswith("n") != following.lower().startswith("one")
            if word in ("an", "An"):
                assert re.match(r"[aeiou]|hour", following, re.IGNORECASE), sentence


@pytest.mark.parametrize("held_out", ["dev", "test"])
def test_held_out_frames_and_mentions_are_unseen_in_train(held_out: str) -> None:
    assert not set(demo.frames(held_out)) & set(demo.frames("train"))
    seen = {mention.lower() for mention, _ in mentions(SPLITS["train"])}
    assert not {mention.lower() for mention, _ in mentions(SPLITS[held_out])} & seen
    seen_words = {word for mention in seen for word in mention.split()}
    unseen = [not set(mention.lower().split()) & seen_words for mention, _ in mentions(SPLITS[held_out])]
    assert sum(unseen) > 0.9 * len(unseen)


def test_no_name_is_listed_for_two_splits() -> None:
    listed = {
        split: {name.lower() for of_kind in demo.names(split).values() for name in of_kind}
        | {name.lower() for name in demo.ambiguous(split)}
        for split in demo.SPLITS
    }
    assert not listed["train"] & listed["dev"]
    assert not listed["train"] & listed["test"]
    assert not listed["dev"] & listed["test"]


@pytest.mark.parametrize("split", demo.SPLITS)
def test_only_context_tells_what_an_ambiguous_name_is(split: str) -> None:
    types = defaultdict(set)
    found = mentions(SPLITS[split])
    for mention, entity_type in found:
        types[mention.lower()].add(entity_type)
    ambiguous = {name.lower() for name in demo.ambiguous(split)}
    assert {name for name in ambiguous if len(types[name]) < 2} == set()
    assert sum(mention.lower() in ambiguous for mention, _ in found) >= 0.25 * len(found)
    unlisted = {mention for mention, of in types.items() if len(of) > 1} - ambiguous
    assert not unlisted


@pytest.mark.parametrize("split", demo.SPLITS)
def test_capitals_alone_do_not_decide(split: str) -> None:
    capitalised = [
        tag
        for sentence in SPLITS[split]
        for word, tag in zip(sentence.words, sentence.tags, strict=True)
        if word[0].isupper()
    ]
    assert capitalised.count("O") > 0.25 * len(capitalised)
    assert sum(set(sentence.tags) == {"O"} for sentence in SPLITS[split]) > 0.03 * len(SPLITS[split])


def tag_outside(word: str, position: int) -> str:
    return "O"


def tag_capitalised(word: str, position: int) -> str:
    return "B-LOC" if position and word[0].isupper() else "O"


@pytest.mark.parametrize("unknown", [tag_outside, tag_capitalised])
@pytest.mark.parametrize("held_out", ["dev", "test"])
def test_the_most_frequent_tag_of_each_word_is_a_poor_tagger(held_out: str, unknown: Callable[[str, int], str]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in SPLITS["train"]:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            counts[word][tag] += 1
    entity_tags = sum(counts.values(), Counter())
    del entity_tags["O"]
    assert entity_tags.most_common(1)[0][0] == "B-LOC"
    majority = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    right = predicted = expected = 0
    for sentence in SPLITS[held_out]:
        guess = spans([majority.get(word, unknown(word, i)) for i, word in enumerate(sentence.words)])
        truth = spans(sentence.tags)
        right, predicted, expected = right + len(guess & truth), predicted + len(guess), expected + len(truth)
    assert 100 * 2 * right / (predicted + expected) < 45


def test_another_seed_draws_other_sentences_from_the_same_frames_and_names() -> None:
    other = demo.sentences("test", seed=1)
    assert len({s.words for s in other} & {s.words for s in SPLITS["test"]}) < 0.1 * len(other)
    assert not {mention for mention, _ in mentions(other)} & {mention for mention, _ in mentions(SPLITS["train"])}


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"^split: required one of train, dev, test, got 'valid'; "):
        demo.sentences("valid")


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match=r"^seed: required 0 or more, got -1; "):
        demo.sentences("train", seed=-1)


FILES = {
    "fillers.txt": "month: May, June\nnear: near, in\n",
    "frames/news.txt": (
        "== train\n{city} in {month} .\nA {city} , an old {city} [and|or] a {city} .\n{near} {CITY} {NEAR} .\n"
    ),
    "names/LOC/city.txt": "== train\nOslo, Aden,\nUtrecht, Novi Sad\n== dev\nGraz\n== test\nBari\n",
    "names/PER/given.txt": "== train\nAda\n== dev\nBo\n== test\nCleo\n",
    "names/PER/surname.txt": "== train\nHopper\n== dev\nBai\n== test\nDas\n",
    "names/ORG/club.txt": "== train\nAjax\n== dev\nBrann\n== test\nCeltic\n",
    "names/MISC/nation.txt": "== train\nDutch\n== dev\nThai\n== test\nWelsh\n",
    "names/ambiguous.txt": "== train\nParis: given city\n",
}


@pytest.fixture
def write_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    caches = (demo._fillers, demo.kinds, demo.names, demo.ambiguous, demo.frames)

    def write(**changed: str) -> None:
        for path, text in (FILES | changed).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        monkeypatch.setattr(demo, "_corpus", lambda: tmp_path)
        for cached in caches:
            monkeypatch.setattr(demo, cached.__name__, cached.__wrapped__)

    return write


def test_a_corpus_of_ones_own_is_filled_as_documented(
    write_corpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus()
    monkeypatch.setitem(demo.SIZES, "train", 16)
    sentences = demo.sentences("train")
    assert len(sentences) == 16
    shouted = [s for s in sentences if s.words[0] in ("Near", "In")]
    assert shouted
    assert all(s.words[1].isupper() and s.words[-2] in ("NEAR", "IN") for s in shouted)
    counts = Counter(mention.upper() for mention, _ in mentions(sentences))
    assert counts.keys() == {"OSLO", "ADEN", "PARIS", "UTRECHT", "NOVI SAD"}
    assert min(counts["OSLO"], counts["ADEN"], counts["PARIS"]) > 1
    assert counts["UTRECHT"] == counts["NOVI SAD"] == 1
    assert {s.words[0] for s in sentences if s.words[1] in ("Oslo", "Aden")} == {"An"}
    assert {s.words[0] for s in sentences if s.words[1] == "Paris"} == {"A"}
    assert {s.tags for s in sentences if s.words[1] == "in"} == {("B-LOC", "O", "O", "O")}


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("frames/news.txt", "== train\nIn {town} .\n", r"news\.txt:2: required one of the slots .*, got 'town'"),
        ("frames/news.txt", "In {city} .\n", r"news\.txt:1: required a heading, got 'In \{city\} \.'"),
        ("frames/news.txt", "== valid\nIn {city} .\n", r"news\.txt:1: required one of train, dev, test, got 'valid'"),
        ("frames/news.txt", "== train\nIn Oslo .\n", r"train: required frames for 4000 sentences, got 1"),
        ("frames/news.txt", "== train\n" + 9 * "{city} " + "\n", r"names of kind city: required a new one"),
        ("fillers.txt", "month May, June\n", r"fillers\.txt:1: required a slot, a colon and words, got 'month May"),
        ("names/LOC/city.txt", "== dev\nGraz\n", r"city\.txt: required names under '== train', got none"),
        ("names/ambiguous.txt", "== train\nParis: city\n", r"ambiguous\.txt:2: required kinds of two .*, got 'city'"),
        ("names/ambiguous.txt", "== train\nParis: town given\n", r"ambiguous\.txt:2: required kinds .*'town given'"),
    ],
)
def test_a_mistake_in_the_files_is_told_with_its_place(
    write_corpus: Callable[..., None], path: str, text: str, message: str
) -> None:
    write_corpus(**{path: text})
    with pytest.raises(InputError, match=message):
        demo.sentences("train")
