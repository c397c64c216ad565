"""Eight seeds of the default config in one program, against eight runs one after the other.

Both through `windownet.experiment`, compilation, batches and scores included, as a person would wait for them.
"""

import time

import _report
from windownet import config, experiment

SEEDS = 8
EPOCHS = 3


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    base = config.load(_report.ROOT / "configs" / "demo.toml", [f"train.epochs={EPOCHS}"])
    runs = experiment.grid({"train.seed": range(SEEDS)})
    start = time.perf_counter()
    together = experiment.run(base, runs)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    singly = [experiment.run(base, [run])[0] for run in runs]
    alone = time.perf_counter() - start
    equal = sum(
        a.test == b.test and a.dev == b.dev and a.best_epoch == b.best_epoch
        for a, b in zip(together, singly, strict=True)
    )
    furthest = max(
        abs(x - y) / y for a, b in zip(together, singly, strict=True) for x, y in zip(a.losses, b.losses, strict=True)
    )
    rows = [
        _report.row(
            f"{SEEDS} seeds together", seconds, "s", "one after the other", alone, "ratio >= 2", alone >= 2 * seconds
        ),
        _report.row("runs with equal scores", equal, f"of {SEEDS}", "-", None, f"{SEEDS}", equal == SEEDS),
        _report.row("losses differ by, relative", 1e6 * furthest, "1e-6", "-", None, "at most 100", furthest <= 1e-4),
    ]
    _report.write(rows, args)


if __name__ == "__main__":
    main()
