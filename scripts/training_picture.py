"""Draw docs/training.svg: what training on the embedded corpus writes to a terminal."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from windownet import config, run_folder
from windownet.train import loop
from windownet.train.prepare import prepare
from windownet.train.scores_table import scores_table

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    console = Console(record=True, width=88, file=sys.stderr, force_terminal=False)
    console.print("$ make train", highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(config.load(ROOT / "configs" / "demo.toml"))
        run = Path(folder, "run")
        run_folder.create(run, prepared.config.to_toml())
        result = loop.train(prepared, run, console)
    assert result.test is not None
    console.print(scores_table(f"test, model of epoch {result.best_epoch}", result.test))
    console.print(
        f"dev F1 {result.dev.f1:.2f}  test F1 {result.test.f1:.2f}  {result.seconds:.1f} s  "
        f"{result.tokens_per_second:,.0f} tokens/s",
        highlight=False,
    )
    console.save_svg(str(ROOT / "docs" / "training.svg"), title="windownet")


if __name__ == "__main__":
    main()
