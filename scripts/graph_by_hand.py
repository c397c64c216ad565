"""+ distributes, max routes, * switches: every number of f(x, y, z) = (x + y) max(y, z), as the engine records it.

The example is computed once on recorded values. The forward values are those of the nodes; upstream and downstream are
what `backward` handed each rule and what the rule returned; a local slope is what the rule returns for upstream 1.

    python scripts/graph_by_hand.py --x 1 --y 2 --z 0
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import _lecture
from _inside import Visit, walk_back
from windownet.autodiff import ops
from windownet.autodiff.graph import Node, primal, record

LEAVES = ("x", "y", "z")
SIGNS = {"add": "+", "maximum": "max", "multiply": "*"}
DOES = {"add": "distributes", "maximum": "routes", "multiply": "switches"}
# Where each node stands in the figure.
PLACES = {"x": (0, 2), "y": (0, 1), "z": (0, 0), "add": (1, 1.5), "maximum": (1, 0.5), "multiply": (2, 1)}


@dataclass(frozen=True)
class Edge:
    """One input of one op: `source` is the op or the leaf that it comes from."""

    op: str
    source: str
    input: float
    upstream: float
    local: float
    downstream: float


def f(x: Any, y: Any, z: Any) -> Any:
    return (x + y) * ops.maximum(y, z)


def edges(x: float, y: float, z: float) -> tuple[float, list[Edge], dict[str, float]]:
    """The value, every edge of the graph in the order of the walk back, and the leaves' gradients."""
    leaves: dict[str, Node] = {name: record(jnp.asarray(value)) for name, value in zip(LEAVES, (x, y, z), strict=True)}
    names = {id(node): name for name, node in leaves.items()}
    output = f(*leaves.values())
    visits, gradients = walk_back(output)
    found = [edge for visit in visits for edge in _edges(visit, names)]
    return float(output.value), found, {name: float(gradients.get(node, 0.0)) for name, node in leaves.items()}


def _edges(visit: Visit, names: dict[int, str]) -> list[Edge]:
    node = visit.node
    assert node.op is not None
    local = node.op.cotangents(jnp.ones_like(node.value), node.value, *map(primal, node.inputs))
    numbers: list[tuple[Any, Any, Any]] = list(zip(node.inputs, local, visit.downstream, strict=True))
    return [
        Edge(
            node.op.name,
            names.get(id(source)) or source.op.name,
            float(source.value),
            float(visit.upstream),
            float(slope),
            float(down),
        )
        for source, slope, down in numbers
    ]


def verdict(edges: list[Edge], gradients: dict[str, float]) -> str:
    """What the numbers of the graph say of + and max and *, of products along an edge and of sums at a fan-out."""
    plus, maximum, times = ([e for e in edges if e.op == op] for op in ("add", "maximum", "multiply"))
    said = {
        "+ distributes": all(e.downstream == e.upstream for e in plus),
        "max routes": sorted(e.downstream for e in maximum) == sorted([0.0, maximum[0].upstream])
        and max(maximum, key=lambda e: e.input).downstream == maximum[0].upstream,
        "* switches": [e.local for e in times] == [e.input for e in times[::-1]],
        "downstream = upstream x local on every edge": all(e.downstream == e.upstream * e.local for e in edges),
        "cotangents are summed at the fan-out": all(
            gradients[leaf] == sum(e.downstream for e in edges if e.source == leaf) for leaf in LEAVES
        ),
    }
    right = [claim for claim, holds in said.items() if holds]
    wrong = [claim for claim, holds in said.items() if not holds]
    slopes = ", ".join(f"df/d{leaf} = {gradient:g}" for leaf, gradient in gradients.items())
    return f"{slopes}. Holds in these numbers: {'; '.join(right) or 'nothing'}." + (
        f" Does NOT hold: {'; '.join(wrong)}." if wrong else ""
    )


def table(edges: list[Edge], gradients: dict[str, float]) -> str:
    rows = [
        (
            f"{SIGNS[e.op]} {DOES[e.op]}",
            SIGNS.get(e.source, e.source),
            *(f"{number:g}" for number in (e.input, e.upstream, e.local, e.downstream)),
        )
        for e in edges
    ]
    rows += [
        ("gradient", leaf, "", "", "", " + ".join(f"{e.downstream:g}" for e in edges if e.source == leaf) + f" = {g:g}")
        for leaf, g in gradients.items()
    ]
    return _lecture.table(("op", "input", "its value", "upstream", "local", "downstream"), rows)


def draw(value: float, edges: list[Edge], gradients: dict[str, float], file: Path | None) -> None:
    with _lecture.figure(file, 1, 1, (8, 3.4)) as axes:
        if axes is None:
            return
        axis = axes[0][0]
        axis.axis("off")
        axis.set_xlim(-0.25, 2.95)
        axis.set_ylim(-0.35, 2.35)
        places = PLACES | {"f": (2.8, 1)}
        for source, op, forward, back in [(e.source, e.op, e.input, e.downstream) for e in edges] + [
            ("multiply", "f", value, edges[0].upstream)
        ]:
            (x0, y0), (x1, y1) = places[source], places[op]
            axis.annotate(
                "",
                (x1, y1),
                (x0, y0),
                arrowprops={"arrowstyle": "->", "color": _lecture.GREY, "shrinkA": 15, "shrinkB": 15},
            )
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            axis.text(x, y + 0.09, f"{forward:g}", color=_lecture.BLUE, ha="center", va="bottom")
            axis.text(x, y - 0.09, f"{back:g}", color=_lecture.RED, ha="center", va="top")
        for name, (x, y) in places.items():
            axis.text(
                x,
                y,
                SIGNS.get(name, name),
                ha="center",
                va="center",
                bbox={"boxstyle": "circle", "facecolor": "white", "edgecolor": "black"},
            )
        for leaf, gradient in gradients.items():
            x, y = PLACES[leaf]
            axis.text(
                x - 0.1, y - 0.25, f"gradient {gradient:g}", color=_lecture.RED, ha="center", va="center", fontsize=8
            )
        axis.set_title("forward (blue, above) and back (red, below)", loc="left")


def main() -> None:
    parser = _lecture.parser(__doc__)
    for leaf, default in zip(LEAVES, (1.0, 2.0, 0.0), strict=True):
        parser.add_argument(f"--{leaf}", type=float, default=default, help=f"by default {default:g}")
    args = parser.parse_args()
    value, found, gradients = edges(args.x, args.y, args.z)
    _lecture.report(args, table(found, gradients), f"f = {value:g}; " + verdict(found, gradients))
    draw(value, found, gradients, args.figure)


if __name__ == "__main__":
    _lecture.run(main)
