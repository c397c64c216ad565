"""Standard output and error that are closed."""

import subprocess
import sys
from pathlib import Path

CODE = """
import os, sys
from windownet.verbs import streams

streams.prepare()
streams.require_output("train")
print("told"), print("told", file=sys.stderr)
os.write(1, b"by a library"), os.write(2, b"by a library")
with open(sys.argv[1], "w") as file:
    file.write(f"{file.fileno()} {os.get_inheritable(1) and os.get_inheritable(2)}")
"""


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" >&- 2>&-', "-", sys.executable, "-c", CODE, str(tmp_path / "file")]
    assert subprocess.run(command, check=False).returncode == 0
    number, inherited = (tmp_path / "file").read_text().split()
    assert (int(number) > 2, inherited) == (True, "True")
