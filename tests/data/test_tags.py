import pytest
from hypothesis import given, settings, strategies as st

from windownet.data.tags import SCHEMES, Span, convert, encode, labels, problem, remedy, spans, to_iob2

TYPES = ["PER", "LOC", "creative-work", "O"]


@st.composite
def sentences(draw, touching=True):
    """(mentions, length): mentions in order, none overlapping; without `touching`, an O between any two."""
    found, end = [], 0
    for gap, size, type in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(TYPES)))):
        start = end + gap + (0 if touching else 1)
        end = start + size
        found.append(Span(start, end, type))
    return found, end + draw(st.integers(0, 2))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # before O, or the start of the sentence
        ("O O", []),
        ("O B-X", [(1, 2, "X")]),
        ("O I-X", [(1, 2, "X")]),
        ("O E-X", [(1, 2, "X")]),
        ("O S-X", [(1, 2, "X")]),
        ("I-X I-X", [(0, 2, "X")]),
        # after B- and I-
        ("B-X O", [(0, 1, "X")]),
        ("B-X B-X", [(0, 1, "X"), (1, 2, "X")]),
        ("B-X I-X", [(0, 2, "X")]),
        ("B-X E-X", [(0, 2, "X")]),
        ("B-X S-X", [(0, 1, "X"), (1, 2, "X")]),
        ("I-X O", [(0, 1, "X")]),
        ("I-X B-X", [(0, 1, "X"), (1, 2, "X")]),
        ("I-X E-X", [(0, 2, "X")]),
        ("I-X S-X", [(0, 1, "X"), (1, 2, "X")]),
        # after E- and S-, which nothing continues
        ("B-X E-X O", [(0, 2, "X")]),
        ("B-X E-X B-X", [(0, 2, "X"), (2, 3, "X")]),
        ("B-X E-X I-X", [(0, 2, "X"), (2, 3, "X")]),
        ("B-X E-X E-X", [(0, 2, "X"), (2, 3, "X")]),
        ("B-X E-X S-X", [(0, 2, "X"), (2, 3, "X")]),
        ("S-X O", [(0, 1, "X")]),
        ("S-X B-X", [(0, 1, "X"), (1, 2, "X")]),
        ("S-X I-X", [(0, 1, "X"), (1, 2, "X")]),
        ("S-X E-X", [(0, 1, "X"), (1, 2, "X")]),
        ("S-X S-X", [(0, 1, "X"), (1, 2, "X")]),
        # after another type
        ("B-Y I-X", [(0, 1, "Y"), (1, 2, "X")]),
        ("I-Y E-X", [(0, 1, "Y"), (1, 2, "X")]),
        ("E-Y I-X", [(0, 1, "Y"), (1, 2, "X")]),
        ("I-Y I-X I-Y", [(0, 1, "Y"), (1, 2, "X"), (2, 3, "Y")]),
        # an O between does not join, and a type may hold a '-' or be O
        ("I-X O I-X", [(0, 1, "X"), (2, 3, "X")]),
        ("B-creative-work I-creative-work I-creative", [(0, 2, "creative-work"), (2, 3, "creative")]),
        ("B-O I-O O", [(0, 2, "O")]),
        ("", []),
    ],
)
def test_every_transition_is_read_as_conlleval_reads_it(tags, expected):
    assert spans(tags.split()) == [Span(*span) for span in expected]


@pytest.mark.parametrize("tag", ["PER", "X-PER", "-PER", "", "b-PER", "BI-PER"])
def test_a_tag_that_no_scheme_has_is_refused(tag):
    with pytest.raises(ValueError, match=f"token 1: .*got '{tag}'"):
        spans(["O", tag])


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES"])
@settings(deadline=None)
@given(sentence=sentences())
def test_mentions_survive_encoding(scheme, sentence):
    mentions, length = sentence
    tags = encode(mentions, length, scheme)
    assert len(tags) == length
    assert spans(tags) == mentions
    assert set(tags) <= set(labels(TYPES, scheme))
    assert all(problem(tag, scheme) is None for tag in tags)
    assert [convert(convert(tags, other), scheme) for other in ("IOB1", "IOB2", "BIOES")] == [tags] * 3


@settings(deadline=None)
@given(sentence=sentences(touching=False))
def test_mentions_apart_survive_io(sentence):
    mentions, length = sentence
    assert spans(encode(mentions, length, "IO")) == mentions


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("IO", "I-X I-X I-X I-X O I-Y"),
        ("IOB1", "I-X B-X B-X I-X O I-Y"),
        ("IOB2", "B-X B-X B-X I-X O B-Y"),
        ("BIOES", "S-X S-X B-X E-X O S-Y"),
    ],
)
def test_encodings_are_the_schemes_own(scheme, expected):
    mentions = [Span(0, 1, "X"), Span(1, 2, "X"), Span(2, 4, "X"), Span(5, 6, "Y")]
    assert encode(mentions, 6, scheme) == expected.split()


def test_iob1_begins_only_where_one_type_touches_itself():
    mentions = [Span(0, 2, "X"), Span(2, 3, "Y"), Span(3, 5, "Y"), Span(6, 7, "Y")]
    assert encode(mentions, 7, "IOB1") == ["I-X", "I-X", "I-Y", "B-Y", "I-Y", "O", "I-Y"]


@pytest.mark.parametrize(
    "mentions", [[Span(0, 3, "X")], [Span(1, 1, "X")], [Span(0, 2, "X"), Span(1, 2, "X")], [Span(-1, 1, "X")]]
)
def test_mentions_that_do_not_fit_are_refused(mentions):
    with pytest.raises(ValueError, match="required mentions in order inside 2 tokens"):
        encode(mentions, 2, "IOB2")


def test_labels_begin_with_o_and_follow_the_types():
    assert labels(["PER", "LOC", "PER"], "IOB2") == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert labels(["PER"], "BIOES") == ["O", "B-PER", "I-PER", "E-PER", "S-PER"]
    assert labels(["PER"], "IO") == ["O", "I-PER"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tags_of_a_scheme_are_without_problem(scheme):
    assert [tag for tag in labels(TYPES, scheme) if problem(tag, scheme)] == []


@pytest.mark.parametrize(
    ("tag", "scheme", "expected"),
    [
        ("E-PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'E-PER', a tag of BIOES"),
        ("S-PER", "IOB1", "required a tag of IOB1 ('O', 'B-TYPE', 'I-TYPE'), got 'S-PER', a tag of BIOES"),
        ("B-PER", "IO", "required a tag of IO ('O', 'I-TYPE'), got 'B-PER', a tag of IOB2"),
        ("PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'PER', a tag of IO"),
        ("I-", "BIOES", "required a tag of BIOES ('O', 'B-TYPE', 'I-TYPE', 'E-TYPE', 'S-TYPE'), got 'I-'"),
        ("B", "IO", "required a tag of IO ('O', 'I-TYPE'), got 'B'"),
        ("O-PER", "IO", "required a tag of IO ('O', 'I-TYPE'), got 'O-PER'"),
        ("", "IO", "required a tag of IO ('O', 'I-TYPE'), got ''"),
        ("U-PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'U-PER', a tag of BILOU"),
        ("u-PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'u-PER', a tag of BILOU"),
        ("M-PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'M-PER'"),
        ("b-per", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'b-per'"),
        ("o", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'o'"),
        ("B_PER", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got 'B_PER'"),
        ("17", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got '17'"),
        ("_", "IOB2", "required a tag of IOB2 ('O', 'B-TYPE', 'I-TYPE'), got '_'"),
        ("PER", "IO", None),
        ("creative-work", "IO", None),
    ],
)
def test_a_problem_names_the_scheme_the_tag_and_where_it_belongs(tag, scheme, expected):
    assert problem(tag, scheme) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("o", "write 'O' for 'o'"),
        ("b-PER", "write 'B-PER' for 'b-PER', and so with every tag"),
        ("I_creative-work", "write 'I-creative-work' for 'I_creative-work', and so with every tag"),
        ("s_x", "write 'S-x' for 's_x', and so with every tag"),
        ("U-PER", "write U- as S- and L- as E-, which data.scheme=BIOES reads"),
        ("l-PER", "write U- as S- and L- as E-, which data.scheme=BIOES reads"),
        ("L_PER", "write U- as S- and L- as E-, which data.scheme=BIOES reads"),
        *((tag, None) for tag in ("O", "B-PER", "S-PER", "PER", "M-PER", "creative-work", "B_", "B", "", "loc")),
    ],
)
def test_misspelt_tags_have_a_remedy(tag, expected):
    assert remedy(tag) == expected


@pytest.mark.parametrize(
    "call", [lambda: labels(["X"], "BIO"), lambda: encode([], 1, "BIO"), lambda: problem("O", "BIO")]
)
def test_an_unknown_scheme_is_named(call):
    with pytest.raises(ValueError, match="scheme: required one of IO, IOB1, IOB2, BIOES, got 'BIO'"):
        call()


@pytest.mark.parametrize(
    ("tags", "scheme", "drop_types", "expected"),
    [
        ("PER PER O I-LOC creative-work", "IO", (), "B-PER I-PER O B-LOC B-creative-work"),
        ("I-PER I-PER B-PER O", "IOB1", (), "B-PER I-PER B-PER O"),
        ("S-PER B-LOC E-LOC", "BIOES", (), "B-PER B-LOC I-LOC"),
        ("B-O O B-PER I-OTH", "IOB2", ("O", "OTH"), "O O B-PER O"),
    ],
)
def test_source_tags_become_iob2(tags, scheme, drop_types, expected):
    assert to_iob2(tags.split(), scheme, drop_types) == tuple(expected.split())
