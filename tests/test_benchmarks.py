"""What benchmarks share: a target's words and verdict are one condition; no partial table is put over a full one."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import _report

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "measurements.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
# Of each condition: its bound, its words, a value at the bound and one just beyond it, where the peer's value is 6.
CONDITIONS = {
    "at_least": (1_000.5, "at least 1,000.5", 1_000.5, 1_000.499_999_9),
    "at_most": (3, "at most 3", 3, 3.000_000_1),
    "ratio_at_least": (1.5, "ratio at least 1.5", 4, 4.000_000_1),
    "ratio_at_most": (1, "ratio at most 1", 6, 5.999_999_9),
    "times_at_most": (1.25, "at most 1.25 times the peer's", 7.5, 7.500_000_1),
}
PARTS = {
    "wnut17": ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
    "btc": ("btc.train", "btc.dev", "btc.test"),
    "uner_ewt": ("en_ewt-ud-train.iob2", "en_ewt-ud-dev.iob2", "en_ewt-ud-test.iob2"),
    "ncbi_disease": ("train.tsv", "devel.tsv", "test.tsv"),
    "bc5cdr": ("train.tsv", "devel.tsv", "test.tsv"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_decides_on_both_sides_of_its_bound(name: str) -> None:
    bound, words, within, beyond = CONDITIONS[name]
    rows = [_report.row("a", value, "s", peer=("b", 6), **{name: bound}) for value in (within, beyond)]
    # By the rounded values alone the two could not be told apart.
    assert rows[0]["value"] == rows[1]["value"] and rows[0]["ratio"] == rows[1]["ratio"]
    assert [(row["target"], row["ok"]) for row in rows] == [(words, True), (words, False)]
    assert _report.row("a", math.nan, "s", peer=("b", 6), **{name: bound})["ok"] is False


def test_a_row_of_a_value_alone_and_of_a_peer_without_ratio() -> None:
    nothing = {"peer": None, "peer_value": None, "ratio": None, "target": None, "ok": True}
    assert _report.row("a", 0.123_46, "s") == {"name": "a", "value": 0.1235, "unit": "s", **nothing}
    assert _report.row("a", 0, "s", peer=("b", 1))["ratio"] is None


@pytest.mark.parametrize("given", [{"at_least": 1, "at_most": 2}, {"ratio_at_least": 1}, {"times_at_most": 1}])
def test_a_condition_too_many_or_on_no_peer(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a: required"):
        _report.row("a", 1, "s", **given)


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/start_up.py"])
    document, found = tmp_path / "page.md", tmp_path / "found.json"
    document.write_text("above\n<!-- start_up -->\nold\n<!-- end of start_up -->\nbelow\n")
    args = _report.parser("A benchmark.").parse_args(["--json", str(found), "--document", str(document)])
    rows = [_report.row("a", 1, "s"), _report.row("b", 2, "s", peer=("c", 3), ratio_at_least=2)]
    _report.write(rows, args)
    assert json.loads(found.read_text()) == rows
    text = document.read_text()
    assert "| a | 1 | s | - | - | - | - | True |\n| b | 2 | s | c | 3 | 1.5 | ratio at least 2 | False |\n" in text
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text


def data(folder: Path) -> None:
    for name, parts in PARTS.items():
        (folder / name).mkdir()
        for part in parts:
            (folder / name / part).touch()


def available(capsys: pytest.CaptureFixture[str], *arguments: str, **options: Any) -> tuple[list[str], str]:
    found = _report.available(_report.data_parser("A benchmark.").parse_args(list(arguments)), **options)
    return [one.name for one in found], capsys.readouterr().err


def test_a_document_without_a_place_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/start_up.py"])
    (tmp_path / "page.md").write_text("<!-- start_up -->\nno end\n")
    for name in ("page.md", "absent.md"):
        with pytest.raises(SystemExit) as refused:
            _report.parser("A benchmark.").parse_args(["--document", str(tmp_path / name)])
        assert refused.value.code == 2
        assert capsys.readouterr().err == (
            f"{tmp_path / name}: required the lines <!-- start_up --> and <!-- end of start_up -->, found not both\n"
        )


def test_what_data_is_missing_is_skipped_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/data_sets.py"])
    page = tmp_path / "page.md"
    page.write_text("<!-- data_sets -->\n\n<!-- end of data_sets -->\n")
    data(tmp_path)
    given = ["--data", str(tmp_path)]
    # WikiGold has no test part.
    assert available(capsys, *given, "--document", str(page), tested=True) == (["demo", *PARTS], "")
    lost = tmp_path / "wikigold" / "CONLL-format" / "data" / "wikigold.conll.txt"
    assert available(capsys, *given) == (["demo", *PARTS], f"wikigold: skipped, as there is no {lost}\n")
    with pytest.raises(SystemExit) as refused:
        available(capsys, *given, "--document", str(page))
    assert refused.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and f"required {lost}, found nothing there" in said.err
    (tmp_path / "btc" / "btc.dev").unlink()
    assert "btc" not in available(capsys, *given, tested=True)[0]


def test_make_bench_and_make_figures_fill_every_place() -> None:
    marks = re.findall(r"^<!-- (\w+) -->$", DOCUMENT, re.MULTILINE)
    bench = re.findall(r"benchmarks/(\w+)\.py .*\$\(RESULTS\)", MAKEFILE)
    figures = re.findall(r"scripts/(\w+)\.py .*--document docs/measurements\.md", MAKEFILE)
    assert sorted(marks) == sorted(bench + figures) and len(bench) >= 10 and figures
    for name in bench:
        assert f"python benchmarks/{name}.py" in DOCUMENT, name


def test_the_document_has_the_words_of_conditions() -> None:
    targets = re.findall(r"\| ([^|]+) \| (?:True|False) \|$", DOCUMENT, re.MULTILINE)
    number = r"[\d,.]+"
    words = rf"-|at least {number}|at most {number}( times the peer's)?|ratio at (least|most) {number}"
    assert len(targets) > 80
    assert [target for target in targets if not re.fullmatch(words, target)] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")))
def test_a_benchmark_finds_what_it_imports(name: str) -> None:
    if name == "pretrain":
        pytest.importorskip("gensim", reason="gensim is what it compares with")
    command = [sys.executable, "-W", "ignore", "-c", f"import {name}"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
