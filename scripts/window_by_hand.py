"""The window model by hand: every number of one small window, forward and back, and what one matrix product saves.

The window is "in Paris in", so one word stands in it twice. Values are those of the recorded graph, cotangents what
`backward` handed from op to op; beside each stands the lecture's formula, worked out from the values and from the
cotangent above it. Then the lecture's score of a true window against a corrupt one, and the time of a batch's product
with the hidden layer's weights, as one product and window by window.

    python scripts/window_by_hand.py --figure docs/window_by_hand.png
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import _lecture
from _inside import walk_back
from numeric_gradient import least
from windownet import config as config_module
from windownet.autodiff import ops
from windownet.autodiff.graph import Node, record

WORDS = ("in", "Paris", "ran")
TAGS = ("O", "LOC", "PER")
WINDOW, CORRUPT, TAG = (0, 1, 0), (0, 2, 0), 1
PARAMS = {
    "table": [[1, -1], [0.5, 2], [-1, 0.5]],
    "W": [[0.5, 0], [0.5, 0.5], [1, -0.5], [0, 0.5], [1, 0], [0, -0.5]],
    "b": [-1, 0],
    "U": [[1, -1, 0.5], [0.5, 1, -0.5]],
    "c": [0.5, 0, -0.5],
    "u": [[1], [-0.5]],
}


@dataclass(frozen=True)
class Walk:
    """The values of a graph by their names, and their cotangents."""

    values: dict[str, np.ndarray]
    cotangents: dict[str, np.ndarray]


def hidden(nodes: dict[str, Node], windows: list[tuple[int, ...]]) -> None:
    """Add to the parameters the words' vectors [B, W, D], x [B, WD], z and q [B, H]."""
    nodes["words"] = ops.embed(nodes["table"], np.array(windows))
    nodes["x"] = ops.reshape(nodes["words"], shape=(len(windows), -1))
    nodes["z"] = ops.affine(nodes["x"], nodes["W"], nodes["b"])
    nodes["q"] = ops.tanh(nodes["z"])


def tagged() -> Walk:
    """The window under softmax and cross-entropy."""

    def loss(nodes: dict[str, Node]) -> None:
        hidden(nodes, [WINDOW])
        nodes["s"] = ops.affine(nodes["q"], nodes["U"], nodes["c"])
        nodes["J"] = ops.softmax_cross_entropy(nodes["s"], np.array([TAG]), np.array([True]))

    return walk(loss, "table", "W", "b", "U", "c")


def scored() -> Walk:
    """The window and a corrupt one, one score each, under the logistic loss."""

    def loss(nodes: dict[str, Node]) -> None:
        hidden(nodes, [WINDOW, CORRUPT])
        nodes["s"] = ops.matmul(nodes["q"], nodes["u"])
        nodes["J"] = ops.binary_logistic(nodes["s"], np.array([[True], [False]]))

    return walk(loss, "table", "W", "b", "u")


def walk(loss: Callable[[dict[str, Node]], None], *leaves: str) -> Walk:
    """Record a loss of these parameters, which adds its nodes, the loss as J, and walk back from it; in float64."""
    with jax.enable_x64(True):
        nodes = {name: record(jnp.asarray(PARAMS[name], jnp.float64)) for name in leaves}
        loss(nodes)
        visits, gradients = walk_back(nodes["J"])
    back = {visit.node: visit.upstream for visit in visits} | gradients
    values = {name: np.asarray(node.value) for name, node in nodes.items()}
    return Walk(values, {name: np.asarray(back[node]) for name, node in nodes.items()})


def of_tags(w: Walk) -> dict[str, tuple[str, np.ndarray]]:
    """The formula of each cotangent of `tagged`, and what it gives."""
    v, g = w.values, w.cotangents
    return {
        "s": ("δ2 = p - t", softmax(v["s"]) - np.eye(len(TAGS))[[TAG]]),
        "U": ("q^T δ2", v["q"].T @ g["s"]),
        "c": ("δ2", g["s"][0]),
        "q": ("δ2 U^T", g["s"] @ v["U"].T),
        "z": ("δ1 = δ2 U^T ⊙ f'(z)", g["q"] * slope(v["z"])),
        "W": ("x^T δ1", v["x"].T @ g["z"]),
        "b": ("δ1", g["z"][0]),
        "x": ("δ1 W^T", g["z"] @ v["W"].T),
        "words": ("that of x, cut into pieces", g["x"].reshape(v["words"].shape)),
        "table": ("the pieces, each added to its word's row", summed(g["words"][0], WINDOW)),
    }


def of_scores(w: Walk) -> dict[str, tuple[str, np.ndarray]]:
    """The same of `scored`, of what differs."""
    v, g = w.values, w.cotangents
    return {
        "s": ("(sigmoid(s) - t) / 2", (1 / (1 + np.exp(-v["s"])) - [[1], [0]]) / 2),
        "z": ("δ = (sigmoid(s) - t) / 2 u^T ⊙ f'(z)", g["s"] @ v["u"].T * slope(v["z"])),
    }


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z)
    return np.asarray(powers / powers.sum())


def slope(z: np.ndarray) -> np.ndarray:
    """Of tanh."""
    return np.asarray(1 - np.tanh(z) ** 2)


def summed(pieces: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """Pieces [W, D] added, each into its word's row, [V, D]."""
    rows = np.zeros((len(WORDS), pieces.shape[1]))
    np.add.at(rows, list(ids), pieces)
    return rows


def times() -> dict[str, float]:
    """Seconds of a batch of the demo config through the hidden layer's weights."""
    config = config_module.load(_lecture.ROOT / "configs" / "demo.toml")
    m = config.model
    x, w = (
        jax.random.normal(jax.random.key(seed), shape)
        for seed, shape in enumerate(
            [
                (config.train.batch_size, m.window * (m.word_width + m.capitalization_width)),
                (m.window * (m.word_width + m.capitalization_width), m.hidden[0]),
            ]
        )
    )
    product = jax.jit(lambda x, w: x @ w)
    # Compiled as well: a loop in Python would time the calls.
    loop = jax.jit(lambda x, w: jax.lax.map(lambda row: row @ w, x))
    return least({"product": partial(product, x, w), "loop": partial(loop, x, w)})


def verdict(tags: Walk, scores: Walk, seconds: dict[str, float]) -> str:
    ratio = seconds["loop"] / seconds["product"]
    faster = f"takes {ratio:.1f} times as long as" if ratio > 1 else f"is NOT slower ({ratio:.2f} times the time) than"
    return (
        f"J = {tags.values['J']:.3f}. {_holds(tags, of_tags(tags))} Of the true and the corrupt window, "
        f"J = {scores.values['J']:.3f}. {_holds(scores, of_scores(scores))} A loop over a batch's windows {faster} "
        "the one matrix product."
    )


def _holds(w: Walk, formulas: dict[str, tuple[str, np.ndarray]]) -> str:
    """Which cotangents are what their formulas give, as near as float64 comes."""
    said: dict[bool, list[str]] = {True: [], False: []}
    for name, (formula, by_hand) in formulas.items():
        same = w.cotangents[name].shape == by_hand.shape and np.allclose(w.cotangents[name], by_hand, 1e-12, 1e-15)
        said[same].append(f"{name}: {formula}")
    return f"The engine's cotangents are those of the formulas ({'; '.join(said[True]) or 'none'})" + (
        f", but NOT of these: {'; '.join(said[False])}." if said[False] else "."
    )


def table(tags: Walk, scores: Walk, seconds: dict[str, float]) -> str:
    rows: list[tuple[str, ...]] = [
        (name, _numbers(tags.values[name]), _numbers(tags.cotangents[name]), formula)
        for name, (formula, _) in of_tags(tags).items()
        if name not in ("words", "table")
    ]
    rows += [_row_of(tags, row) for row in range(len(WORDS))]
    windows = [
        (kind, " ".join(WORDS[id_] for id_ in ids), *(_numbers(array[n]) for array in _of(scores)))
        for n, (kind, ids) in enumerate((("true", WINDOW), ("corrupt", CORRUPT)))
    ]
    ms = {name: f"{1e3 * s:.3f} ms" for name, s in seconds.items()}
    return "\n\n".join(
        (
            _lecture.table(("of", "value", "cotangent", "formula of the cotangent"), rows),
            _lecture.table(("window", "words", "score s", "its cotangent", "δ of the hidden layer"), windows),
            _lecture.table(
                ("one matrix product", "window by window", "times as long"),
                [(ms["product"], ms["loop"], f"{seconds['loop'] / seconds['product']:.1f}")],
            ),
        )
    )


def _row_of(tags: Walk, row: int) -> tuple[str, ...]:
    pieces = [tags.cotangents["words"][0][place] for place, id_ in enumerate(WINDOW) if id_ == row]
    parts = f"{' + '.join(f'({_numbers(piece)})' for piece in pieces)} = " if len(pieces) > 1 else ""
    formula = ("it is not in the window", "its piece of x's", "its pieces of x's, summed")[len(pieces)]
    value, cotangent = (_numbers(of["table"][row]) for of in (tags.values, tags.cotangents))
    return f"row of {WORDS[row]}", value, parts + cotangent, formula


def _of(scores: Walk) -> tuple[np.ndarray, ...]:
    return scores.values["s"], scores.cotangents["s"], scores.cotangents["z"]


def _numbers(array: np.ndarray) -> str:
    """Numbers of a row beside each other, rows parted by semicolons."""
    # Adding 0 makes a plain zero of a negative one.
    return "; ".join(" ".join(f"{number:.3g}" for number in row + 0) for row in np.atleast_2d(array))


def draw(tags: Walk, file: Path | None) -> None:
    with _lecture.figure(file, 1, 1, (8, 5)) as axes:
        if axes is None:
            return
        axis = axes[0][0]
        axis.axis("off")
        layers = {name: tags.values[name][0] for name in ("x", "z", "q", "s")}
        places = {
            name: [(column, (len(values) - 1) / 2 - n) for n in range(len(values))]
            for column, (name, values) in enumerate(layers.items())
        }
        for left, right in (("x", "z"), ("z", "q"), ("q", "s")):
            for n, start in enumerate(places[left]):
                for m, end in enumerate(places[right]):
                    if (left, right) != ("z", "q") or n == m:
                        axis.plot(*zip(start, end, strict=True), color=_lecture.GREY, linewidth=0.6, zorder=0)
        for name, values in layers.items():
            for (x, y), value, back in zip(places[name], values, tags.cotangents[name][0], strict=True):
                axis.plot(x, y, "o", color="white", markersize=34)
                axis.text(x, y + 0.02, f"{value:.3g}", color=_lecture.BLUE, ha="center", va="bottom", fontsize=9)
                axis.text(x, y - 0.02, f"{back:.3g}", color=_lecture.RED, ha="center", va="top", fontsize=9)
        for n, id_ in enumerate(WINDOW):
            axis.text(-0.25, 2 - 2 * n, WORDS[id_], ha="right", va="center")
        for (x, y), tag in zip(places["s"], TAGS, strict=True):
            axis.text(x + 0.25, y, f"{tag}, true" if tag == TAGS[TAG] else tag, ha="left", va="center")
        for column, name in enumerate(("x", "z = xW + b", "q = tanh z", "s = qU + c")):
            axis.text(column, 3, name, ha="center", va="center")
        axis.set_xlim(-0.6, 3.6)
        axis.set_ylim(-2.8, 3.4)
        axis.set_title("forward (blue, above) and back (red, below)", loc="left")


def main() -> None:
    args = _lecture.parser(__doc__).parse_args()
    tags, scores, seconds = tagged(), scored(), times()
    _lecture.report(args, table(tags, scores, seconds), verdict(tags, scores, seconds))
    draw(tags, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
