"""Every finding of lint is there where its fault is planted, and nowhere else."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from windownet import config as config_module
from windownet.cli import main
from windownet.data.lint import Finding, _overlap, lint
from windownet.data.sentences import Sentence
from windownet.data.vocabulary import RARE
from windownet.train.prepare import prepare

PEOPLE = ["Anna", "Tom", "Mary", "Lee", "Kim"]


def sentence(*rows):
    return "".join(f"{row.replace(' ', chr(9))}\n" for row in rows) + "\n"


def corpus(start, count):
    return [
        sentence(f"{PEOPLE[n % 5]} B-PER", "Lee I-PER", "bought O", f"{n % 7 + 1}{n // 7:02} O", "shares O", ". O")
        for n in range(start, start + count)
    ]


@pytest.fixture
def parts():
    return {"train": corpus(0, 40), "dev": corpus(100, 30), "test": corpus(200, 30)}


@pytest.fixture
def look(tmp_path, parts):
    def run(**data):
        for part, sentences in parts.items():
            (tmp_path / f"{part}.conll").write_text("".join(sentences))
        files = {part: f"{part}.conll" for part in parts}
        (tmp_path / "a.toml").write_text("")
        sections = {name: data.pop(name, {}) for name in ("words", "features")}
        config = {"data": {"root": str(tmp_path), "separator": "tab", **files, **data}, **sections}
        run.config = config_module.parse(config | {"model": {"word_width": 2}}, "test")
        return lint(run.config)

    return run


def found(report):
    return [(finding.level, finding.check, finding.part, finding.lines) for finding in report.findings]


def test_rows_that_are_left_out_as_comments(look, parts):
    parts["dev"][:2] = ["# Anna bought shares\n", sentence("Anna B-PER", "#shares O", "# O", "#x Y-1", "#a b O", ". O")]
    parts["dev"].insert(0, sentence("-DOCSTART- -X- O"))
    report = look(comment="#")
    (finding,) = report.findings
    # The first sentence is a comment, and so is no line of the second that is not a row with a tag.
    assert str(finding) == (
        "note: dev: rows that are left out, as they begin with data.comment = '#': 2; make it longer, such as '# ', or "
        "leave it out (line 5, 6)"
    )
    assert finding.check == "comments"
    parts["dev"][2] = sentence("Anna B-PER", ". O")
    assert look(comment="#").findings == ()


def test_good_data_have_no_finding(look):
    report = look()
    assert (found(report), report.ok) == ([], True)
    train = report.parts["train"]
    assert (train.sentences, train.words, train.longest, train.mentions) == (40, 240, 6, {"PER": 40})
    assert (train.capitalized, train.digits) == (pytest.approx(2 / 6), pytest.approx(1 / 6))
    assert train.without_vector is None


def test_transitions_are_checked_in_every_scheme(look, parts):
    parts["dev"][1] = sentence("Anna O", "Lee I-PER", "left O", "for O", "2 O", ". O")
    assert found(look()) == [("error", "transitions", "dev", (9,))]
    assert str(look().findings[0]) == (
        "error: dev: tags that IOB2 does not allow there: 1, the first I-PER, read as B-PER (line 9)"
    )
    # In IOB1 a mention begins with I-, and with B- only where it touches another.
    assert found(look(scheme="IOB1"))[:2] == [
        ("error", "transitions", "train", (1, 8, 15, 22, 29)),
        ("error", "transitions", "dev", (1, 15, 22, 29, 36)),
    ]
    bad = [text.replace("B-PER", "PER").replace("I-PER", "PER") for text in parts["train"]]
    parts.update(train=bad, dev=bad[:20], test=bad[:20])
    assert not [f for f in look(scheme="IO").findings if f.check == "transitions"]


def test_a_column_that_is_not_the_words(look, parts):
    rows = [text.replace("\t", "\tNN\t") for text in parts["train"] * 6]
    parts.update(train=rows, dev=rows[:40], test=rows[40:70])
    (first, *_) = look(word_column=1).findings
    assert str(first) == (
        "error: train: different words among its 1,440: only 1 ('NN'); set data.word_column to the column of the "
        "words, if that is another one"
    )
    assert not [finding for finding in look().findings if finding.check == "words"]


def test_bioes_transitions(look, parts):
    for part, sentences in parts.items():
        parts[part] = [text.replace("I-PER", "E-PER") for text in sentences]
    assert found(look(scheme="BIOES")) == []
    parts["test"][0] = sentence("Anna B-PER", "Lee O", "left O", "for O", "2 O", ". O")
    assert found(look(scheme="BIOES")) == [("error", "transitions", "test", (1,))]


def test_types(look, parts):
    parts["train"][0] = sentence("Oslo B-LOC", "Lee B-PER", "bought O", "1 O", "share O", ". O")
    parts["test"][3] = sentence("Oslo B-GPE", "Lee B-PER", "bought O", "2 O", "share O", ". O")
    report = look()
    assert found(report) == [("error", "unseen-type", "test", ()), ("note", "few-mentions", "train", ())]
    assert [finding.message for finding in report.findings] == [
        "mentions of GPE, a type that train never has: 1",
        "mentions of LOC: 1, fewer than 20",
    ]
    assert not report.ok
    assert ("error", "drop-types", "train", ()) in found(look(drop_types=["LOCC"]))
    parts["dev"] = [sentence("we O", "Saw O", "99 O", "Things O", "there O")] + [sentence("Yes O")] * 2
    assert ("error", "no-mentions", "dev", ()) in found(look())


def test_overlap_is_an_error_where_it_is_large(look, parts):
    parts["dev"][4] = parts["train"][7]
    assert found(look()) == [("note", "overlap", "dev", (29,))]
    parts["test"][:2] = parts["train"][:2]
    report = look()
    assert found(report) == [("error", "overlap", "test", (1, 8)), ("note", "overlap", "dev", (29,))]
    assert report.findings[0].message == "sentences of 5 words or more that train has as well: 2, 6.7%"
    # What is short repeats in any text.
    parts["dev"][4:5], parts["test"][:2] = [], []
    for part in parts:
        parts[part].append(sentence("Lee B-PER", "left O", ". O"))
    assert found(look()) == []


def test_repeated_and_conflicting_sentences(look, parts):
    parts["train"] += [parts["train"][0], parts["train"][1].replace("B-PER", "O").replace("I-PER", "B-PER")]
    report = look()
    assert found(report) == [("note", "repeated", "train", ()), ("note", "conflicts", "train", (288,))]
    assert report.findings[0].message == "sentences of 5 words or more that it has more than once: 2"


def test_long_sentences(look, parts):
    parts["test"].append(sentence("Lee B-PER", *["sold O", "1 O", "Thing O"] * 70))
    assert found(look()) == [("note", "long-sentences", "test", (211,))]


@pytest.mark.parametrize(("words", "notes"), [(200, []), (201, ["long-sentences"])])
def test_a_sentence_is_long_from_its_bound_on(look, parts, words, notes):
    rows = ["Lee B-PER", "Thing O", "sold O", "7 O", "by O", ". O"] * 34
    parts["dev"].append(sentence(*rows[:words]))
    assert [finding.check for finding in look().findings] == notes


@pytest.mark.parametrize(("mentions", "notes"), [(19, ["few-mentions"]), (20, [])])
def test_mentions_are_few_below_their_bound(look, parts, mentions, notes):
    for n in range(mentions):
        parts["train"][n] = parts["train"][n].replace("shares\tO", "oslo\tB-LOC")
    assert [finding.check for finding in look().findings] == notes


@pytest.mark.parametrize(("shared", "level"), [(1, "note"), (2, "error")])
def test_overlap_is_an_error_above_its_bound(shared, level):
    def part(numbers):
        return [Sentence(("a", "b", "c", "d", str(n)), ("O",) * 5, 1) for n in numbers]

    (finding,) = _overlap({"train": part(range(20)), "dev": part(range(20 - shared, 40 - shared))})
    assert (finding.level, finding.message.split(", ")[-1]) == (level, f"{shared * 5:.1f}%")


def test_short_sentences_may_be_repeated(look, parts):
    parts["train"] += [sentence("Lee B-PER", "sold O", "it O", ". O")] * 2
    assert found(look()) == []


def test_casing_and_digits_unlike_those_of_train(look, parts):
    parts["test"] = [text.replace("Lee", "lee").replace("Tom", "tom").replace("Mary", "mary") for text in parts["test"]]
    parts["dev"] = [text.replace("shares", "77").replace("bought", "9") for text in parts["dev"]]
    report = look()
    assert found(report) == [("note", "capitalized", "test", ()), ("note", "digits", "dev", ())]
    assert ["have " + finding.message.split(" have ")[1].split(",")[0] for finding in report.findings] == [
        "have upper-case letters",
        "have digits",
    ]


def test_unknown_words_and_words_without_vectors(look, parts, tmp_path):
    (tmp_path / "v.txt").write_text("lee 1 2\nanna 3 4\n. 5 6\n")
    report = look(words={"vectors": str(tmp_path / "v.txt")})
    # Of six words two are Lee and the full stop, and every fifth sentence begins with Anna, another with Lee.
    assert report.parts["train"].without_vector == pytest.approx(1 - (2 + 2 / 5) / 6)
    assert report.parts["dev"].without_vector == pytest.approx(1 - (2 + 2 / 5) / 6)
    parts["dev"] = [text.replace("bought", "sold") for text in parts["dev"]]
    assert (look().parts["train"].unknown, look().parts["dev"].unknown) == (0, pytest.approx(1 / 6))


@pytest.mark.parametrize("extra", [0, 1, 100])
@pytest.mark.parametrize("min_count", [1, 30])
def test_unknown_words_are_those_of_the_table_that_training_makes(look, parts, tmp_path, extra, min_count):
    parts["dev"] = [text.replace("bought", "sold").replace("shares", "Bonds") for text in parts["dev"]]
    (tmp_path / "v.txt").write_text("bonds 1 2\nsold 3 4\ntom 5 6\n")
    sections = {"words": {"vectors": str(tmp_path / "v.txt"), "extra": extra}, "features": {"min_count": min_count}}
    report = look(**sections)
    prepared = prepare(look.config)
    for part, figures in report.parts.items():
        rows = prepared.vocabulary.encode([word for s in getattr(prepared.splits, part) for word in s.words])
        assert figures.unknown == pytest.approx(np.mean(rows == RARE)), part
    if min_count == 1:
        assert report.parts["dev"].unknown == pytest.approx({0: 2, 1: 1, 100: 0}[extra] / 6)


def test_findings_come_in_the_order_of_the_parts():
    # Names shuffled by the hash seed are in this order by chance in one of 40,320 runs.
    everything = {"train": [Sentence(("Lee", "bought", "9", "shares", "."), ("O",) * 5, 1)]}
    everything |= {f"part{n}": everything["train"] for n in range(8)}
    assert [finding.part for finding in _overlap(everything)] == [f"part{n}" for n in range(8)]


def test_the_verb_exits_as_its_findings_are(look, parts, tmp_path):
    parts["train"][0] = sentence("Oslo B-LOC", "Lee B-PER", "bought O", "1 O", "share O", ". O")
    settings = [f"data.{part}={part}.conll" for part in parts] + [f"data.root={tmp_path}", "data.separator=tab"]
    for bad in (False, True):
        if bad:
            parts["test"][3] = sentence("Oslo I-GPE", "Lee B-PER", "bought O", "1 O", "share O", ". O")
        report = look()
        plain, as_json = (
            CliRunner().invoke(main, ["lint", str(tmp_path / "a.toml"), *settings, *more]) for more in ([], ["--json"])
        )
        assert (plain.exit_code, as_json.exit_code) == (bad, bad)
        assert json.loads(as_json.stdout) == json.loads(json.dumps(report.to_json()))
        assert plain.stdout.splitlines()[-len(report.findings) :] == [str(finding) for finding in report.findings]
        assert "note: train: mentions of LOC: 1, fewer than 20" in plain.stdout
        assert ("error: test" in plain.stdout) == bad


def test_no_figure_is_cut_on_a_narrow_terminal(look, tmp_path):
    figures = look().parts["test"]
    settings = [f"data.{part}={part}.conll" for part in ("train", "dev", "test")] + [f"data.root={tmp_path}"]
    arguments = ["lint", str(tmp_path / "a.toml"), *settings, "data.separator=tab"]
    shown = CliRunner().invoke(main, arguments, env={"COLUMNS": "40"}).stdout
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    rows = {row[1].strip(): row[-2].strip() for line in shown.splitlines() if len(row := line.split("\u2502")) > 2}
    assert (rows["sentences"], rows["words"], rows["longest"]) == ("30", "180", "6")
    assert (rows["unknown"], rows["upper case"], rows["digits"]) == (f"{figures.unknown:.1%}", "33.3%", "16.7%")
    assert (rows["PER"], "no vector" in rows) == ("30", False)


def test_a_finding_says_where_it_is():
    assert str(Finding("note", "x", "dev", "this", (3, 5))) == "note: dev: this (line 3, 5)"
