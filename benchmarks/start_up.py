"""How soon the command line answers, and what it drags in."""

import subprocess
import sys
import time

import _report

ROUNDS = 7


def seconds(*command: str) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return sorted(times)[ROUNDS // 2]


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    python = sys.executable
    value = seconds(python, "-m", "windownet", "--help")
    bare = seconds(python, "-c", "")
    jax = seconds(python, "-c", "import jax")
    rows = [
        _report.row("windownet --help", value, "s", "python -c ''", bare, "under 0.5 s", value < 0.5),
        _report.row("windownet --help", value, "s", "import jax", jax, "ratio >= 1", jax >= value),
    ]
    _report.write(rows, args)


if __name__ == "__main__":
    main()
