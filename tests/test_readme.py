"""The README's examples run as printed and print what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", README, re.DOTALL)


def test_examples_are_found() -> None:
    assert [bool(output) for _, output in EXAMPLES] == [False, False, True, False]


@pytest.mark.parametrize(("source", "output"), EXAMPLES, ids=["training", "reverse mode", "checker", "rows"])
def test_example(source: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if output:
        assert done.stdout == output
    for line in re.findall(r"# (PER.*)", source):
        assert done.stdout.endswith(line.replace("], ", "]\n") + "\n")


def test_the_tree_names_every_file() -> None:
    found = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
    assert found is not None
    package = ROOT / "src" / "windownet"
    files = {path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"}
    # These two are told of as folders.
    files = {file for file in files if file.parent.name not in ("ops", "proof")}
    assert set(re.findall(r"\w+\.py", found[1])) == {file.name for file in files}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_link_leads_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    lost = []
    for link in links:
        path, _, place = link.partition("#")
        if path.startswith("http"):
            continue
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists():
            lost.append(link)
        elif place:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            anchors |= set(re.findall(r'id="([^"]+)"', target.read_text(encoding="utf-8")))
            lost += [] if place in anchors else [link]
    assert not lost
