"""The README's examples run as printed and print what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\n```\n(.*?)```)?", README, re.DOTALL)


def test_examples_are_found() -> None:
    assert len(EXAMPLES) == 3
    assert [bool(output) for _, output in EXAMPLES] == [False, True, False]


@pytest.mark.parametrize(("source", "output"), EXAMPLES, ids=["reverse mode", "checker", "rows"])
def test_example(source: str, output: str) -> None:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if output:
        assert done.stdout == output
