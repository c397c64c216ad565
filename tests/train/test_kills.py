"""benchmarks/kills.py with a few kills: whatever the moment, the bits are those of a run that nobody killed."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    found = tmp_path / "kills.json"
    # Warnings are no errors there: jax warns of a fork.
    command = [sys.executable, "-W", "default", str(SCRIPT), "--kills", "3", "--seed", "1", "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(found.read_text())
    assert (row["value"], row["ok"]) == (3, True)
