"""What all gradients at once cost: forward alone, the hand-written backward, jax.grad, and the numeric gradient.

Time and peak memory of the compiled programs, flops by XLA's cost analysis, compile time; for every config, our
compiled step against jax.grad's. The numeric gradient is measured on some coordinates and extrapolated to all.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import _report
from windownet import config
from windownet.autodiff import value_and_grad
from windownet.data.batches import Batch
from windownet.model import reference
from windownet.model.network import WindowNetwork
from windownet.train.prepare import prepare

ROUNDS = 25
COMPILATIONS = 7
CALLS = 20
PROBES = 64


def flax_loss(network: WindowNetwork, params: Any, batch: Batch, key: jax.Array) -> jax.Array:
    return reference.loss(network, params, batch, key)


def compiled(make: Callable[[], Callable[..., Any]], *args: Any) -> Any:
    return jax.jit(make()).lower(*args).compile()


def compile_seconds(makers: dict[str, Callable[[], Callable[..., Any]]], *args: Any) -> dict[str, float]:
    """Least seconds of tracing and compiling, in turns; a fresh function each time, since jax caches by identity."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(COMPILATIONS):
        for name, make in makers.items():
            jax.clear_caches()
            start = time.perf_counter()
            compiled(make, *args)
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def repeat(program: Any, *args: Any) -> Callable[[], Any]:
    return lambda: [program(*args) for _ in range(CALLS)]


def measure(name: str, settings: tuple[str, ...]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    prepared = prepare(config.load(_report.ROOT / "configs" / f"{name}.toml", settings))
    network = prepared.network
    stack = next(iter(prepared.epochs.epoch(0)))
    batch = jax.device_put(Batch(*(array[0] for array in stack)))
    params, key = network.init(jax.random.key(0)), jax.random.key(1)
    makers: dict[str, Callable[[], Callable[..., Any]]] = {
        "forward": lambda: lambda p, b, k: network.loss(p, b, k),
        "hand": lambda: lambda p, b, k: value_and_grad(network.loss, row_sparse=True)(p, b, k),
        "jax.grad": lambda: lambda p, b, k: jax.value_and_grad(functools.partial(flax_loss, network))(p, b, k),
    }
    programs = {n: compiled(make, params, batch, key) for n, make in makers.items()}
    runs = {n: repeat(program, params, batch, key) for n, program in programs.items()}
    seconds = {n: s / CALLS for n, s in _report.alternate(runs, ROUNDS).items()}
    compiling = compile_seconds({n: makers[n] for n in ("hand", "jax.grad")}, params, batch, key)
    flops = {n: float(program.cost_analysis()["flops"]) for n, program in programs.items()}
    memory = {n: program.memory_analysis().temp_size_in_bytes for n, program in programs.items()}
    size = sum(x.size for x in jax.tree.leaves(params))
    hand, peer = seconds["hand"], seconds["jax.grad"]
    rows = [
        _report.row(
            f"{name}: flops of loss and gradient",
            flops["hand"] / 1e6,
            "Mflop",
            "jax.grad of flax",
            flops["jax.grad"] / 1e6,
            "at most 1.02 times",
            flops["hand"] <= 1.02 * flops["jax.grad"],
        ),
        _report.row(
            f"{name}: compile time",
            compiling["hand"],
            "s",
            "jax.grad of flax",
            compiling["jax.grad"],
            "at most 1.15 times",
            compiling["hand"] <= 1.15 * compiling["jax.grad"],
        ),
        _report.row(
            f"{name}: time of loss and gradient",
            1e3 * hand,
            "ms",
            "jax.grad of flax",
            1e3 * peer,
            "not above",
            hand <= peer,
        ),
    ]
    return rows, {
        "seconds": seconds,
        "flops": flops,
        "memory": memory,
        "parameters": size,
        "numeric": numeric_seconds(network, params, batch, key),
    }


def numeric_seconds(network: WindowNetwork, params: Any, batch: Batch, key: jax.Array) -> float:
    """Seconds a coordinate of a central difference, two forward passes, on coordinates of the first hidden layer."""

    @jax.jit
    def quotient(weights: jax.Array, row: jax.Array) -> jax.Array:
        def at(step: float) -> jax.Array:
            moved = weights.at[row, 0].add(step)
            hidden = [{**params["hidden"][0], "w": moved}, *params["hidden"][1:]]
            return network.loss({**params, "hidden": hidden}, batch, key)

        return (at(1e-3) - at(-1e-3)) / 2e-3

    weights = params["hidden"][0]["w"]
    rows = [jnp.int32(n) for n in np.linspace(0, weights.shape[0] - 1, PROBES)]
    seconds = _report.alternate({"numeric": lambda: [quotient(weights, row) for row in rows]}, 5)["numeric"]
    return seconds / PROBES


def figure(facts: dict[str, Any], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    numeric = facts["numeric"] * facts["parameters"]
    names = ["forward", "forward and\nhand backward", "forward and\njax.grad", "numeric gradient\n(extrapolated)"]
    times = [1e3 * facts["seconds"][n] for n in ("forward", "hand", "jax.grad")] + [1e3 * numeric]
    fig, axis = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    bars = axis.barh(names[::-1], times[::-1], color=["#b0b0b0", "#7aa6c2", "#2a6f97", "#b0b0b0"])
    axis.bar_label(bars, [f" {t:,.2f} ms" if t < 1e4 else f" {t / 1e3:,.0f} s" for t in times[::-1]])
    axis.set_xscale("log")
    axis.set_xlim(right=max(times) * 12)
    axis.set_xlabel("milliseconds, logarithmic")
    axis.set_title(f"All {facts['parameters']:,} gradients of the default network, one batch", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(exist_ok=True)
    fig.savefig(file, dpi=140)


def main() -> None:
    parser = _report.parser(__doc__)
    parser.add_argument("--figure", type=Path, help="draw the default network's costs into this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for name, settings in _report.available():
        found, measured = measure(name, settings)
        rows += found
        if name == "demo":
            facts = measured
    seconds, numeric = facts["seconds"], facts["numeric"] * facts["parameters"]
    forward = seconds["forward"]
    rows.append(
        _report.row(
            "demo: all gradients, hand",
            1e3 * seconds["hand"],
            "ms",
            "forward alone",
            1e3 * forward,
            "at most 5 forward passes",
            seconds["hand"] <= 5 * forward,
        )
    )
    rows.append(
        _report.row(
            "demo: all gradients, hand",
            1e3 * seconds["hand"],
            "ms",
            f"numeric gradient, {PROBES} of {facts['parameters']:,} coordinates measured",
            1e3 * numeric,
            "ratio >= 1,000",
            numeric >= 1e3 * seconds["hand"],
        )
    )
    rows.append(
        _report.row(
            "demo: temporary memory, hand",
            facts["memory"]["hand"] / 2**20,
            "MiB",
            "jax.grad of flax",
            facts["memory"]["jax.grad"] / 2**20,
            "-",
            True,
        )
    )
    rows.append(
        _report.row(
            "demo: flops, hand",
            facts["flops"]["hand"] / 1e6,
            "Mflop",
            "forward alone",
            facts["flops"]["forward"] / 1e6,
            "-",
            True,
        )
    )
    _report.write(rows, args)
    if args.figure is not None:
        figure(facts, args.figure)


if __name__ == "__main__":
    main()
