"""Initialization: zeros never break symmetry, and each distribution's variance from layer to layer.

Zeros: a network is trained from zero weights and its hidden units are compared: each has the same weights as every
other, so many units do the work of one. Variance: in a deep network before its first step, of what goes into each
layer's nonlinearity and of what comes back there; then the same network is trained from each distribution.

    python scripts/initialization.py --figure docs/initialization.png
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

import _inside
import _lecture
from windownet import config as config_module
from windownet.autodiff import ops
from windownet.autodiff.graph import record
from windownet.data.batches import Batch
from windownet.schema.config import Config
from windownet.schema.network import InitConfig
from windownet.train.prepare import Prepared, prepare

SMALL = (
    "data.limit=400",
    "model.hidden=[100, 100, 100, 100, 100, 100]",
    "model.nonlinearity=tanh",
    # The drawing of a mask would tell one hidden unit from another, and input values of 0.1 would shrink all variances.
    "regularization.input_dropout=0",
    "regularization.hidden_dropout=0",
    "init.table_bound=1.7",
    "train.epochs=3",
)
NAMES: tuple[str, ...] = get_args(InitConfig.model_fields["weights"].annotation)
VARIED = ("init.weights", "train.seed")
# Hidden units that only rounding tells apart differ by this share of their weights at most.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Symmetry:
    """Hidden units after training from zeros: how far any two are apart, and how far they moved, both as largest."""

    nonlinearity: str
    apart: float
    moved: float


@dataclass(frozen=True)
class Layers:
    """One initializer, R runs: standard deviations by layer [R][layers], and how training from it ended for each run.

    `with_relu` is what a ReLU in the nonlinearity's place leaves of the first layer's deviation at the last.
    """

    name: str
    forward: list[list[float]]
    back: list[list[float]]
    with_relu: list[float]
    loss: list[float]
    f1: list[float]

    @property
    def kept_forward(self) -> list[float]:
        """What is left of the first layer's deviation at the last, of each run."""
        return [_ratio(run[-1], run[0]) for run in self.forward]

    @property
    def kept_back(self) -> list[float]:
        """What is left of the last layer's cotangent's deviation at the first, of each run."""
        return [_ratio(run[0], run[-1]) for run in self.back]


def symmetry(config: Config, nonlinearity: str) -> Symmetry:
    """Train one hidden layer from zeros, and compare its units."""
    changes = {"init.weights": "zeros", "model.nonlinearity": nonlinearity, "model.hidden": [100]}
    *_, (_, params, _) = _inside.epochs(prepare(config_module.change(config, changes)), [config.train.seed])
    layer, outgoing = params["hidden"][0], np.asarray(params["output"]["w"][0])
    return compared(nonlinearity, np.concatenate([layer["w"][0], layer["b"], outgoing.T]))


def compared(nonlinearity: str, units: np.ndarray) -> Symmetry:
    """Hidden units [weights, H], one a column, with all that goes in and out; none may be apart by more than rounding.

    Raises:
      AssertionError: two units are.
    """
    found = Symmetry(nonlinearity, float(np.abs(units - units[:, :1]).max()), float(np.abs(units).max()))
    assert found.apart <= ROUNDING * found.moved, f"{nonlinearity}: hidden units came apart by {found.apart:g}"
    return found


def layers(config: Config, seeds: int) -> list[Layers]:
    """Every initializer but zeros; all of them trained as one program."""
    prepared = prepare(config)
    names = [name for name in NAMES if name != "zeros"]
    rectified = prepare(config_module.change(config, {"model.nonlinearity": "relu"}))
    starts, deviations, with_relu = [], [], []
    for name in names:
        network = prepare(config_module.change(config, {"init.weights": name})).network
        params = [network.init(jax.random.key(seed)) for seed in range(seeds)]
        starts += params
        deviations.append(np.array([_deviations(prepared, p) for p in params]))
        forward = [_deviations(rectified, p)[0] for p in params]
        with_relu.append([_ratio(run[-1], run[0]) for run in forward])
    start = jax.tree.map(lambda *each: jnp.stack(each), *starts)
    *_, (_, trained, losses) = _inside.epochs(prepared, [*range(seeds)] * len(names), start)
    _, f1 = _inside.Part(prepared, prepared.splits.dev)(trained)
    loss = losses.mean(axis=1).tolist()
    runs = [slice(n * seeds, (n + 1) * seeds) for n in range(len(names))]
    return [
        Layers(name, both[:, 0].tolist(), both[:, 1].tolist(), relu, loss[mine], f1[mine])
        for name, both, relu, mine in zip(names, deviations, with_relu, runs, strict=True)
    ]


def _deviations(prepared: Prepared, params: Any) -> np.ndarray:
    """Of each hidden layer's input to the nonlinearity and of its cotangent, [2, layers]."""
    batch = Batch(*(array[0] for array in next(iter(prepared.epochs.epoch(1)))))
    visits, _ = _inside.walk_back(prepared.network.loss(jax.tree.map(record, params), batch))
    affine = [v for v in visits if v.node.op is ops.affine][:0:-1]
    return np.array([[float(jnp.std(v.node.value)) for v in affine], [float(jnp.std(v.upstream)) for v in affine]])


def verdict(symmetries: list[Symmetry], all_layers: list[Layers]) -> str:
    stuck = [s.nonlinearity for s in symmetries if s.moved == 0]
    same = [s.nonlinearity for s in symmetries if s.moved > 0]
    parts = []
    if stuck:
        parts.append(f"with {' and '.join(stuck)} no weight of the hidden layer or behind it ever moved")
    if same:
        exact = all(s.apart == 0 for s in symmetries if s.nonlinearity in same)
        parts.append(f"with {' and '.join(same)} they moved, all hidden units alike{' to the bit' if exact else ''}")
    forward, *as_forward = _best(all_layers, lambda one: _off(one.kept_forward))
    both, *as_both = _best(all_layers, lambda one: _off(one.kept_forward, one.kept_back))
    relu, *as_relu = _best(all_layers, lambda one: _off(one.with_relu))
    lost = min(all_layers, key=lambda one: np.mean(one.kept_back))
    best, worst = (pick(all_layers, key=lambda one: np.mean(one.f1)) for pick in (max, min))
    level = [one.name for one in all_layers if one is not best and not _lecture.apart(best.f1, one.f1)]
    return (
        f"From zeros: {'; '.join(parts)}. Through {len(forward.forward[0])} layers {forward.name} keeps the forward "
        f"deviation best (last over first {np.mean(forward.kept_forward):.2f}){_untold(as_forward)}; {both.name} "
        f"forward and backward together ({np.mean(both.kept_forward):.2f} and {np.mean(both.kept_back):.2f})"
        f"{_untold(as_both)}; {lost.name} loses most of the gradient on its way to the first layer "
        f"({np.mean(lost.kept_back):.1e} is left). With a ReLU {relu.name} keeps the forward deviation best "
        f"({np.mean(relu.with_relu):.2f}){_untold(as_relu)}. "
        f"{best.name} trains to the highest dev F1 ({_lecture.plus_minus(best.f1, 1)}), "
        f"{worst.name} to the lowest ({_lecture.plus_minus(worst.f1, 1)}); the seeds "
        + (f"do NOT tell {best.name} from {', '.join(level)}." if level else f"tell {best.name} from all others.")
    )


def _off(*kept: list[float]) -> list[float]:
    """How far each run is from keeping a deviation as it is, by factors; of several deviations together."""
    return [float(off) for off in np.abs(np.log(np.maximum(kept, 1e-30))).sum(axis=0)]


def _best(all_layers: list[Layers], off: Callable[[Layers], list[float]]) -> list[Layers]:
    """The one that is least off in the mean, and those that the seeds do not tell from it."""
    first, *others = sorted(all_layers, key=lambda one: np.mean(off(one)))
    return [first, *(one for one in others if not _lecture.apart(off(one), off(first)))]


def _untold(others: list[Layers]) -> str:
    return f", which the seeds do NOT tell from {', '.join(one.name for one in others)}" if others else ""


def table(symmetries: list[Symmetry], all_layers: list[Layers]) -> str:
    first = _lecture.table(
        ("trained from zeros", "largest weight of a hidden unit", "largest difference of two units"),
        [(s.nonlinearity, f"{s.moved:.3g}", f"{s.apart:.3g}") for s in symmetries],
    )
    rows = [
        (
            one.name,
            *(f"{np.mean(kept):.2g}" for kept in (one.kept_forward, one.kept_back, one.with_relu)),
            _lecture.plus_minus(one.loss, 3),
            _lecture.plus_minus(one.f1, 1),
        )
        for one in all_layers
    ]
    head = (
        "initializer",
        "deviation, last layer over first",
        "gradient, first layer over last",
        "deviation with ReLU",
        "loss",
        "dev F1",
    )
    return f"{first}\n\n{_lecture.table(head, rows)}"


def draw(all_layers: list[Layers], file: Path | None) -> None:
    with _lecture.figure(file, 1, 2, (9.5, 3.8)) as axes:
        if axes is None:
            return
        colours = {"glorot": _lecture.BLUE, "he": _lecture.RED, "lecun": _lecture.LIGHT, "orthogonal": "black"}
        shades = iter(("#909090", "#d0a24c"))
        for one in all_layers:
            family, _, shape = one.name.partition("_")
            if family not in colours:
                colours[family] = next(shades, "black")
            style = {"normal": ":", "": "--"}.get(shape, "-")
            for axis, runs in zip(axes[0], (one.forward, one.back), strict=True):
                values = np.mean(runs, axis=0)
                layers = range(1, len(values) + 1)
                axis.plot(layers, values, style, color=colours[family], marker="o", markersize=2.5, label=one.name)
        axes[0][0].legend(frameon=False, fontsize=7)
        for axis, title in zip(axes[0], ("into the nonlinearity, forward", "its cotangent, back"), strict=True):
            axis.set_yscale("log")
            axis.set_xlabel("hidden layer")
            axis.set_title(title, loc="left")
        axes[0][0].set_ylabel("standard deviation before training")


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def main() -> None:
    args = _lecture.training_parser(__doc__, seeds=3).parse_intermixed_args()
    config = _lecture.config(args, *SMALL, varied=VARIED)
    _lecture.require_hidden(config)
    symmetries = [symmetry(config, nonlinearity) for nonlinearity in ("tanh", "sigmoid")]
    found = layers(config, args.seeds)
    _lecture.report(args, table(symmetries, found), verdict(symmetries, found))
    draw(found, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
