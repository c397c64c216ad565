"""How soon the command line answers, against Python alone and the import of jax."""

import subprocess
import sys
from functools import partial

import _report

ROUNDS = 7
HELP, BARE, JAX = "windownet --help", "python -c ''", "import jax"
ARGUMENTS = {HELP: ("-m", "windownet", "--help"), BARE: ("-c", ""), JAX: ("-c", "import jax")}


def start(name: str) -> None:
    subprocess.run([sys.executable, *ARGUMENTS[name]], check=True, capture_output=True)


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    seconds = _report.alternate({name: partial(start, name) for name in ARGUMENTS}, ROUNDS)
    rows = [
        _report.row(HELP, seconds[HELP], "s", peer=(BARE, seconds[BARE]), at_most=0.5),
        _report.row(HELP, seconds[HELP], "s", peer=(JAX, seconds[JAX]), ratio_at_least=1),
    ]
    _report.write(rows, args)


if __name__ == "__main__":
    main()
