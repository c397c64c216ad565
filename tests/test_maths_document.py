"""docs/maths.md keeps up with the table of ops, and its formulas are such as GitHub renders."""

import re
from pathlib import Path

from windownet.autodiff.ops import OPS

TEXT = (Path(__file__).parents[1] / "docs" / "maths.md").read_text("utf-8")
FENCED = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$([^$]+)\$")


def sections(level: str, text: str) -> dict[str, str]:
    parts = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    titles = parts[1::2]
    assert len(set(titles)) == len(titles), "two headings of one name"
    return dict(zip(titles, parts[2::2], strict=True))


def test_every_op_has_its_entry_under_its_module() -> None:
    documented = {(title, name) for title, body in sections("##", TEXT).items() for name in sections("###", body)}
    table = {(op.forward.__module__.rsplit(".", 1)[1].capitalize(), name) for name, op in OPS.items()}
    assert documented == table, "docs/maths.md: one heading '### op' an op, under '## Module', and no other '###'"


def test_every_entry_has_a_formula() -> None:
    entries = {name: body for part in sections("##", TEXT).values() for name, body in sections("###", part).items()}
    assert not [name for name, body in entries.items() if not INLINE.search(body) and not FENCED.search(body)]


def test_axes_are_stated() -> None:
    stated = re.findall(r"^\| \*\*(\w)\*\* \|", sections("##", TEXT)["Axes and signs"], re.MULTILINE)
    assert stated == list("BWDFHLVUTS")


def test_formulas_survive_markdown() -> None:
    prose = FENCED.sub("", TEXT)
    assert "```math" not in prose, "a math block without its end"
    for paragraph in prose.split("\n\n"):
        assert paragraph.count("$") % 2 == 0, paragraph
    inline, blocks = INLINE.findall(prose), FENCED.findall(TEXT)
    # Markdown reads these before the formula is: it takes the backslash from punctuation, and a tag from a sign.
    fragile = re.compile(r"\\[^a-zA-Z]|[<>|*]|^\s|\s$")
    assert not [formula for formula in inline if fragile.search(formula)]
    for formula in [*inline, *blocks]:
        assert formula.count("{") == formula.count("}"), formula
        assert formula.count(r"\begin") == formula.count(r"\end"), formula
