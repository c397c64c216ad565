"""What telling and saving cost: statistics, TensorBoard and a moving average against none; a checkpoint, orbax's.

The call is the demo config's; the state is that of a word table of 400,000 rows of width 50 under Adam. Damage is one
bit changed in the file that holds the arrays, at a random place; found is what reading reports.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as orbax

import _report
from windownet import checkpoint, config
from windownet.optim.build import build_rowwise
from windownet.train.prepare import prepare
from windownet.train.step import Step, Training
from windownet.train.tensorboard import TensorBoard

ROUNDS, IMPORTS, SAVES, DAMAGED = 60, 5, 5, 20
# By default there is a minute between two checkpoints; saving may take 5 % of it.
SAVING_SECONDS = 3


def main() -> None:
    args = _report.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = [telling(Path(name)), importing(), *saving(Path(name))]
    _report.write(rows, args)


def telling(folder: Path) -> dict[str, Any]:
    prepared = prepare(config.load(_report.ROOT / "configs" / "demo.toml"))
    optimizer = build_rowwise(prepared.config, 1000)
    steps = {
        "plain": Step(Training(prepared.network, optimizer)),
        "told": Step(Training(prepared.network, optimizer, decay=0.999)),
    }
    batches = next(iter(prepared.epochs.epoch(1)))
    states = {name: step.init(0) for name, step in steps.items()}
    log = TensorBoard()
    log.begin(folder, 0)

    def plain() -> Any:
        states["plain"], losses = steps["plain"](states["plain"], batches)
        return np.asarray(losses)

    def told() -> Any:
        states["told"], losses, statistics = steps["told"].watched(states["told"], batches)
        figures = {name: float(value) for name, value in jax.device_get(statistics).items()}
        mean = float(np.asarray(losses).mean())
        log.record({"kind": "step", "loss": mean, "tokens_per_second": 1, "statistics": figures, "time": time.time()})
        return losses

    times = _report.alternate({"plain": plain, "told": told}, ROUNDS)
    log.end()
    name, neither = "a call told of, with a moving average, demo", 1e3 * times["plain"]
    return _report.row(name, 1e3 * times["told"], "ms", peer=("a call of neither", neither), ratio_at_least=0.95)


def importing() -> dict[str, Any]:
    def seconds(module: str) -> float:
        code = f"import jax, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)

    modules = ("windownet.checkpoint", "orbax.checkpoint")
    times = _report.in_turns({name: partial(seconds, name) for name in modules}, IMPORTS)
    mine, peer = (1e3 * times[name] for name in modules)
    return _report.row("import behind jax", mine, "ms", peer=("orbax", peer))


def saving(folder: Path) -> list[dict[str, Any]]:
    params = {"words": jax.random.normal(jax.random.key(0), (400_000, 50))}
    state = {"params": params, "mu": params, "nu": jax.tree.map(jnp.square, params)}
    ours, theirs = folder / "ours", folder / "theirs"
    other = orbax.StandardCheckpointer()

    def save_theirs() -> None:
        other.save(theirs, state, force=True)
        other.wait_until_finished()

    def save_ours() -> None:
        checkpoint.save(state, 1, {}, ours, keep=1)

    times = _report.alternate({"ours": save_ours, "theirs": save_theirs}, SAVES)
    small = {"a": jax.random.normal(jax.random.key(1), (2_000, 50))}
    checkpoint.save(small, 2, {}, ours, keep=1)
    other.save(folder / "small", small)
    other.wait_until_finished()

    def read_ours() -> Any:
        found = checkpoint.load(ours, lambda text: None)
        assert found is not None
        return found.into(small)

    mine = noticed(ours, read_ours)
    peer = noticed(folder / "small", lambda: other.restore(folder / "small"))
    theirs_took = ("orbax", times["theirs"])
    return [
        _report.row("a checkpoint of 240 MB", times["ours"], "s", peer=theirs_took, at_most=SAVING_SECONDS),
        _report.row("damage found", mine, f"of {DAMAGED}", peer=("orbax", peer), at_least=DAMAGED),
    ]


def noticed(folder: Path, read: Callable[[], Any]) -> int:
    """How often reading fails where one bit of the largest file in a folder is another.

    Raises:
      Exception: what the reader raises where there is no damage at all; one that always fails notices nothing.
    """
    jax.block_until_ready(read())
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole, draw, found = file.read_bytes(), np.random.default_rng(0), 0
    for _ in range(DAMAGED):
        place = int(draw.integers(len(whole)))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        try:
            jax.block_until_ready(read())
        except Exception:
            found += 1
    file.write_bytes(whole)
    return found


if __name__ == "__main__":
    main()
