"""What all gradients at once cost: forward alone, the hand-written backward, jax.grad, and the numeric gradient.

For every config the loss and its gradient, ours against jax.grad of flax: flops by XLA's cost analysis, compile time,
time. For the demo config also against the forward pass alone and against the numeric gradient, which is measured on
some coordinates and extrapolated to all, and the programs' temporary memory.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import _report
from train_step import global_ids, reference_loss, require_same_loss
from windownet.autodiff import value_and_grad
from windownet.data.batches import Batch
from windownet.model import reference
from windownet.model.network import Params, WindowNetwork
from windownet.train.prepare import prepare

RIVALS = ("forward", "hand", "jax.grad")
ROUNDS = 25
COMPILATIONS = 7
CALLS = 20
PROBES = 64


class Problem(NamedTuple):
    """A network, its first parameters, a batch, the same batch by `global_ids`, and the key of dropout."""

    network: WindowNetwork
    params: Params
    batch: Batch
    whole: Batch
    key: jax.Array

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(x.size for x in jax.tree.leaves(self.params))


def problem(one: _report.DataSet) -> Problem:
    prepared = prepare(one.load())
    stack = next(iter(prepared.epochs.epoch(0)))
    batch, whole = (jax.device_put(Batch(*(array[0] for array in s))) for s in (stack, global_ids(stack)))
    network = prepared.network
    found = Problem(network, network.init(jax.random.key(0)), batch, whole, jax.random.key(1))
    require_same_loss(*found)
    return found


def arguments(given: Problem, rival: str) -> tuple[Params, Batch, jax.Array]:
    return given.params, given.whole if rival == "jax.grad" else given.batch, given.key


def compiled(given: Problem, rival: str) -> Any:
    network = given.network

    def peer_loss(params: Params, batch: Batch, key: jax.Array) -> jax.Array:
        return reference_loss(reference.from_params(network, params), batch, key)

    def hand(params: Params, batch: Batch, key: jax.Array) -> Any:
        value, gradient = value_and_grad(network.loss, row_sparse=True)(params, batch, key)
        # As a step takes it, which is compiled with it: no RowSparse crosses the border of a program.
        words = gradient["words"]
        return value, {**gradient, "words": (words.rows, words.values)}

    # Made anew each time, since jax caches by identity.
    functions: dict[str, Callable[..., Any]] = {
        "forward": lambda *given: network.loss(*given),
        "hand": lambda *given: hand(*given),
        "jax.grad": lambda *given: jax.value_and_grad(peer_loss)(*given),
    }
    return jax.jit(functions[rival]).lower(*arguments(given, rival)).compile()


def compile_seconds(given: Problem) -> dict[str, float]:
    """Seconds of tracing and compiling a loss with its gradient, ours and the peer's."""

    def seconds(rival: str) -> float:
        jax.clear_caches()
        start = time.perf_counter()
        compiled(given, rival)
        return time.perf_counter() - start

    return _report.in_turns({rival: partial(seconds, rival) for rival in RIVALS[1:]}, COMPILATIONS)


def milliseconds(given: Problem, programs: dict[str, Any]) -> dict[str, float]:
    def calls(rival: str) -> list[Any]:
        return [programs[rival](*arguments(given, rival)) for _ in range(CALLS)]

    seconds = _report.alternate({rival: partial(calls, rival) for rival in programs}, ROUNDS)
    return {rival: 1e3 * s / CALLS for rival, s in seconds.items()}


def against_jax_grad(name: str, values: dict[str, float], unit: str, **condition: float) -> dict[str, Any]:
    return _report.row(name, values["hand"], unit, peer=("jax.grad of flax", values["jax.grad"]), **condition)


def numeric_seconds(given: Problem) -> float:
    """Seconds of a central difference, two forward passes a coordinate, for all coordinates.

    Measured on some of the first hidden layer's.
    """
    network, params, batch, _, key = given

    @jax.jit
    def quotient(weights: jax.Array, row: jax.Array, params: Params, batch: Batch, key: jax.Array) -> Any:
        def at(step: float) -> Any:
            moved = weights.at[row, 0].add(step)
            hidden = [{**params["hidden"][0], "w": moved}, *params["hidden"][1:]]
            return network.loss({**params, "hidden": hidden}, batch, key)

        return (at(1e-3) - at(-1e-3)) / 2e-3

    # Arguments, all of them: of constants XLA would compute the look-ups and the masks of dropout beforehand.
    weights, rest = params["hidden"][0]["w"], (params, batch, key)
    rows = [jnp.int32(n) for n in np.linspace(0, weights.shape[0] - 1, PROBES)]
    seconds = _report.alternate({"numeric": lambda: [quotient(weights, row, *rest) for row in rows]}, 5)["numeric"]
    return seconds / PROBES * given.size


def figure(ms: dict[str, float], size: int, file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = ["forward", "forward and\nhand backward", "forward and\njax.grad", "numeric gradient\n(extrapolated)"]
    times = [ms[n] for n in ("forward", "hand", "jax.grad", "numeric")]
    fig, axis = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    bars = axis.barh(names[::-1], times[::-1], color=["#b0b0b0", "#7aa6c2", "#2a6f97", "#b0b0b0"])
    axis.bar_label(bars, [f" {t:,.2f} ms" if t < 1e4 else f" {t / 1e3:,.0f} s" for t in times[::-1]])
    axis.set_xscale("log")
    axis.set_xlim(right=max(times) * 12)
    axis.set_xlabel("milliseconds, logarithmic")
    axis.set_title(f"All {size:,} gradients of the default network, one batch", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(exist_ok=True)
    fig.savefig(file, dpi=140)


def main() -> None:
    parser = _report.data_parser(__doc__)
    parser.add_argument("--figure", type=Path, help="draw the default network's costs into this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    of_demo: list[dict[str, Any]] = []
    for one in _report.available(args):
        given = problem(one)
        programs = {rival: compiled(given, rival) for rival in RIVALS}
        mflop = {rival: program.cost_analysis()["flops"] / 1e6 for rival, program in programs.items()}
        ms = milliseconds(given, programs)
        rows += [
            against_jax_grad(f"{one.name}: flops of loss and gradient", mflop, "Mflop", times_at_most=1.02),
            against_jax_grad(f"{one.name}: compile time", compile_seconds(given), "s", times_at_most=1.15),
            against_jax_grad(f"{one.name}: time of loss and gradient", ms, "ms", ratio_at_least=1),
        ]
        if one.name != "demo":
            continue
        ms["numeric"] = 1e3 * numeric_seconds(given)
        mib = {rival: program.memory_analysis().temp_size_in_bytes / 2**20 for rival, program in programs.items()}
        name = "demo: all gradients, hand"
        measured = f"numeric gradient, {PROBES} of {given.size:,} coordinates measured"
        of_demo = [
            _report.row(name, ms["hand"], "ms", peer=("forward alone", ms["forward"]), times_at_most=5),
            _report.row(name, ms["hand"], "ms", peer=(measured, ms["numeric"]), ratio_at_least=1000),
            against_jax_grad("demo: temporary memory, hand", mib, "MiB"),
            _report.row("demo: flops, hand", mflop["hand"], "Mflop", peer=("forward alone", mflop["forward"])),
        ]
        if args.figure is not None:
            figure(ms, given.size, args.figure)
    _report.write(rows + of_demo, args)


if __name__ == "__main__":
    main()
