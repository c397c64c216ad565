"""The numeric gradient: simple, approximate, slow. Its error against the step, its time against the parameters.

Error: some coordinates of a real network on a real batch, their difference quotients at steps over many decades, in
float32 and float64, held against the rules' gradient in float64. Time: all gradients of networks of growing width, by
one forward and walk back and by two forward passes a parameter, measured on some parameters and multiplied.

    python scripts/numeric_gradient.py --figure docs/numeric_gradient.png
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import _lecture
from windownet import config as config_module
from windownet.autodiff import value_and_grad
from windownet.data.batches import Batch
from windownet.schema.config import Config
from windownet.train.prepare import prepare

# Kinks would add errors that are no matter of the step, so the network of the first figure is a smooth one.
SMALL = (
    "data.limit=200",
    "model.nonlinearity=tanh",
    "regularization.input_dropout=0",
    "regularization.hidden_dropout=0",
)
STEPS = np.logspace(0, -12, 25)
WIDTHS = (10, 30, 100, 300, 1000)
PROBES = 24
ROUNDS = 7
KINDS = ("one-sided", "central")
VARIED = ("model.hidden",)


@dataclass(frozen=True)
class Errors:
    """Median relative error at each of STEPS, of one kind of quotient in one precision."""

    kind: str
    bits: int
    errors: tuple[float, ...]

    @property
    def best(self) -> tuple[float, float]:
        """The step of the least error, and that error."""
        n = int(np.argmin(self.errors))
        return float(STEPS[n]), self.errors[n]

    @property
    def order(self) -> float:
        """How the error falls with the step where rounding does not count yet: its slope on logarithmic axes."""
        errors = np.asarray(self.errors)
        first = int(np.argmax(errors < 0.1))
        # Above ten times the least error rounding hardly adds; at least two steps make a slope.
        last = max(first + 2, int(np.argmax(errors < 10 * self.best[1])))
        slope, _ = np.polyfit(np.log(STEPS[first:last]), np.log(errors[first:last]), 1)
        return float(slope)


@dataclass(frozen=True)
class Times:
    """Seconds for all gradients of a network with so many parameters."""

    parameters: int
    back: float
    numeric: float


def errors(config: Config) -> list[Errors]:
    prepared = prepare(config)
    batch = Batch(*(array[0] for array in next(iter(prepared.epochs.epoch(1)))))
    found = []
    with jax.enable_x64(True):
        params = prepared.network.init(jax.random.key(config.train.seed), jnp.float64)
        leaf, gradient = (
            tree["hidden"][0]["w"] for tree in (params, value_and_grad(prepared.network.loss)(params, batch)[1])
        )
        places = np.random.default_rng(config.train.seed).choice(leaf.size, PROBES, replace=False)
        right = np.asarray(gradient).ravel()[places]
        exact = jax.tree.map(np.asarray, params)
    for bits in (32, 64):
        with jax.enable_x64(bits == 64):
            values = jax.tree.map(lambda x, bits=bits: jnp.asarray(x, f"float{bits}"), exact)

            @jax.jit
            def at(place: jax.Array, step: jax.Array, values: Any = values) -> jax.Array:
                first = values["hidden"][0]
                moved = first["w"].reshape(-1).at[place].add(step).reshape(first["w"].shape)
                changed = {**values, "hidden": [{**first, "w": moved}, *values["hidden"][1:]]}
                loss: jax.Array = prepared.network.loss(changed, batch)
                return loss

            losses = {
                sign: np.array([[float(at(place, sign * step)) for step in STEPS] for place in places], np.float64)
                for sign in (1, -1)
            }
            here = float(at(places[0], 0.0))
        quotients = {"one-sided": (losses[1] - here) / STEPS, "central": (losses[1] - losses[-1]) / (2 * STEPS)}
        for kind in KINDS:
            relative = np.abs(quotients[kind] - right[:, None]) / np.abs(right[:, None])
            found.append(Errors(kind, bits, tuple(np.median(relative, axis=0).tolist())))
    return found


def times(config: Config) -> list[Times]:
    found = []
    for width in WIDTHS:
        prepared = prepare(config_module.change(config, {"model.hidden": [width]}))
        network = prepared.network
        batch = jax.device_put(Batch(*(array[0] for array in next(iter(prepared.epochs.epoch(1))))))
        params = network.init(jax.random.key(0))
        back = jax.jit(lambda p, b, n=network: value_and_grad(n.loss, row_sparse=True)(p, b))
        forward = jax.jit(lambda p, b, n=network: n.loss(p, b))
        size = sum(x.size for x in jax.tree.leaves(params))
        seconds = least({"back": partial(back, params, batch), "forward": partial(forward, params, batch)})
        found.append(Times(size, seconds["back"], 2 * size * seconds["forward"]))
    return found


def least(programs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each program's least disturbed round, in turns: what else a machine does only adds time."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(ROUNDS + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            for _ in range(PROBES):
                result = program()
            jax.block_until_ready(result)
            if round_:
                seconds[name].append((time.perf_counter() - start) / PROBES)
    return {name: min(each) for name, each in seconds.items()}


def growth(sizes: list[int], seconds: list[float]) -> float:
    """The exponent with which time grows with parameters: the slope on logarithmic axes."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def verdict(errors: list[Errors], times: list[Times]) -> str:
    single, double = (
        min((e for e in errors if e.bits == bits and e.kind == "central"), key=lambda e: e.best[1]) for bits in (32, 64)
    )
    one = next(e for e in errors if e.bits == 64 and e.kind == "one-sided")
    better = double.best[1] < one.best[1] and double.order > one.order + 0.5
    sizes = [t.parameters for t in times]
    last = times[-1]
    valley = all(e.errors[0] > 10 * e.best[1] < e.errors[-1] for e in errors if e.bits == 64)
    slower = growth(sizes, [t.numeric / t.back for t in times])
    slow = "slow" if last.numeric > 1000 * last.back else "NOT slow"
    shape = "falls with the step, then rises again by rounding" if valley else "does NOT show both ends of a valley"
    return (
        f"It is approximate: the error {shape}; at its best it is {double.best[1]:.0e} at step {double.best[0]:.0e} in "
        f"float64 and {single.best[1]:.0e} at {single.best[0]:.0e} in float32. The two-sided quotient is "
        f"{'' if better else 'NOT '}the better one: in float64 its error falls as step^{double.order:.1f}, the "
        f"one-sided one's as step^{one.order:.1f}. It is {slow}: for "
        f"{last.parameters:,} parameters {last.numeric / last.back:,.0f} times the time of one forward and walk back, "
        f"and that factor grows as parameters^{slower:.1f}."
    )


def table(errors: list[Errors], times: list[Times]) -> str:
    first = _lecture.table(
        ("quotient", "precision", "best step", "its error", "order of the error"),
        [
            # In float32 rounding comes in before the error has a slope.
            (
                e.kind,
                f"float{e.bits}",
                f"{e.best[0]:.0e}",
                f"{e.best[1]:.1e}",
                f"{e.order:.2f}" if e.bits == 64 else "-",
            )
            for e in errors
        ],
    )
    second = _lecture.table(
        ("parameters", "one forward and walk back", "numeric gradient (extrapolated)", "times slower"),
        [
            (f"{t.parameters:,}", f"{1e3 * t.back:.2f} ms", f"{t.numeric:,.0f} s", f"{t.numeric / t.back:,.0f}")
            for t in times
        ],
    )
    return f"{first}\n\n{second}"


def draw(errors: list[Errors], times: list[Times], file: Path | None) -> None:
    with _lecture.figure(file, 1, 2, (9, 3.6)) as axes:
        if axes is None:
            return
        left, right = axes[0]
        for e in errors:
            colour = _lecture.BLUE if e.bits == 64 else _lecture.RED
            style = "-" if e.kind == "central" else ":"
            left.plot(STEPS, np.maximum(e.errors, 1e-16), style, color=colour, label=f"{e.kind}, float{e.bits}")
        left.set_xscale("log")
        left.set_yscale("log")
        left.set_xlabel("step")
        left.set_ylabel("relative error, median")
        left.set_ylim(top=1e3)
        left.legend(frameon=False, fontsize=8)
        left.set_title("error against step", loc="left")
        sizes = [t.parameters for t in times]
        right.plot(sizes, [t.numeric for t in times], "o-", color=_lecture.RED, label="two forward passes a parameter")
        right.plot(sizes, [t.back for t in times], "o-", color=_lecture.BLUE, label="one forward and walk back")
        right.legend(frameon=False, fontsize=8, loc="center left")
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xticks([1e4, 1e5, 1e6])
        right.minorticks_off()
        right.set_xlabel("parameters")
        right.set_ylabel("seconds for all gradients")
        right.set_title("time against parameters", loc="left")


def main() -> None:
    args = _lecture.config_parser(__doc__).parse_intermixed_args()
    config = _lecture.config(args, *SMALL, varied=VARIED)
    _lecture.require_hidden(config)
    found, taken = errors(config), times(config)
    _lecture.report(args, table(found, taken), verdict(found, taken))
    draw(found, taken, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
