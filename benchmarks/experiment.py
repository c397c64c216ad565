"""Eight seeds of the default config in one program, against eight runs one after the other.

Both through `windownet.experiment`, compilation, batches and scores included, as a person would wait for them. One
round of both, behind one that does not count, since a round takes more than a minute.
"""

import _report
from windownet import config, experiment

SEEDS = 8
EPOCHS = 3


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    base = config.load(_report.ROOT / "configs" / "demo.toml", [f"train.epochs={EPOCHS}"])
    runs = experiment.grid({"train.seed": range(SEEDS)})
    outcomes: dict[str, list[experiment.Outcome]] = {}

    def together() -> None:
        outcomes["together"] = experiment.run(base, runs)

    def singly() -> None:
        outcomes["singly"] = [experiment.run(base, [run])[0] for run in runs]

    seconds = _report.alternate({"together": together, "singly": singly}, rounds=1)
    pairs = list(zip(outcomes["together"], outcomes["singly"], strict=True))
    equal = sum(a.test == b.test and a.dev == b.dev and a.best_epoch == b.best_epoch for a, b in pairs)
    furthest = max(abs(x - y) / y for a, b in pairs for x, y in zip(a.losses, b.losses, strict=True))
    alone = ("one after the other", seconds["singly"])
    rows = [
        _report.row(f"{SEEDS} seeds together", seconds["together"], "s", peer=alone, ratio_at_least=2),
        _report.row("runs with equal scores", equal, f"of {SEEDS}", at_least=SEEDS),
        _report.row("losses differ by, relative", 1e6 * furthest, "1e-6", at_most=100),
    ]
    _report.write(rows, args)


if __name__ == "__main__":
    main()
