"""The ops that a model records, each alone: its rule beside `jax.vjp` of its forward, at the model's own numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.graph import Node, Op, primal
from windownet.autodiff.proof.problem import Arrays, Problem, is_floating, jit_quickly, jittered, place_of, to_float64
from windownet.autodiff.proof.subjects import op_problem, parameter_names
from windownet.autodiff.proof.verdicts import JAX, errors, exact_tolerance, natural_size
from windownet.autodiff.report import Comparison, worst_of


def examine_ops(
    problem: Problem, seed: int, examine_alone: Callable[[Problem], Comparison | None]
) -> dict[str, Comparison]:
    """Compare the rule of every recorded op with jax's, for random upstream cotangents.

    Args:
      problem: a model whose `record` gives its recorded output.
      seed: what the cotangents are drawn from.
      examine_alone: the full examination of one op, for one that disagrees: at a kink it may be right all the same.

    Returns:
      The worst comparison of each op, by its name.
    """
    ops: list[tuple[Op, list[str]]] = []

    def made(leaves: Arrays, others: Arrays) -> list[Any]:
        recorded = _nodes(problem, leaves, others)
        ops[:] = [(op, _names(node)) for node in recorded if (op := node.op) is not None]
        return [node.value for node in recorded]

    def run(leaves: Arrays, others: Arrays, g: Arrays) -> list[Any]:
        return [_both(node, x) for node, x in zip(_nodes(problem, leaves, others), g, strict=True)]

    rng, compiled = np.random.default_rng(seed), jit_quickly(run)
    g = [rng.standard_normal(y.shape) for y in jax.eval_shape(made, problem.leaves, problem.others)]
    here, *near = (
        compiled(leaves, problem.others, g)
        for leaves in (problem.leaves, jittered(problem.leaves, 0), jittered(problem.leaves, 1))
    )
    found: dict[str, list[Comparison]] = {}
    concrete: list[Node] = []
    for n, (op, names) in enumerate(ops):
        worst = _worst(names, here[n], [outcomes[n] for outcomes in near])
        if worst is not None and not worst.ok:
            # Now the numbers themselves are wanted, so the model runs once without compilation.
            concrete = concrete or _nodes(problem, list(map(jnp.asarray, problem.leaves)), problem.others)
            inputs = [primal(x) for x in concrete[n].inputs]
            worst = examine_alone(op_problem(op, inputs, concrete[n].static))
        if worst is not None:
            found.setdefault(op.name, []).append(dataclasses.replace(worst, op=op.name))
    return {name: worst for name, comparisons in found.items() if (worst := worst_of(comparisons)) is not None}


def _nodes(problem: Problem, leaves: Arrays, others: Arrays) -> list[Node]:
    # Each once, in the order of their making; without the leaves.
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Any, bool]] = [(problem.record(leaves, others), False)] if problem.record is not None else []
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif isinstance(node, Node) and node.op is not None and node not in seen:
            seen.add(node)
            stack += [(node, True), *((x, False) for x in node.inputs)]
    return order


def _floating(node: Node) -> list[int]:
    return [i for i, x in enumerate(node.inputs) if is_floating(primal(x))]


def _names(node: Node) -> list[str]:
    names = parameter_names(node.op.forward, len(node.inputs)) if node.op is not None else []
    return [names[i] for i in _floating(node)]


def _both(node: Node, g: Any) -> dict[str, Any]:
    assert node.op is not None
    op, static, inputs, at = node.op, node.static, [primal(x) for x in node.inputs], _floating(node)
    hand = op.cotangents(g, node.value, *inputs, **static)

    def forward(*floats: Any) -> Any:
        filled = list(inputs)
        for i, x in zip(at, floats, strict=True):
            filled[i] = x
        return op.forward(*filled, **static)

    floats = [inputs[i] for i in at]
    return {
        "hand": [hand[i] for i in at],
        "jax": list(jax.vjp(forward, *floats)[1](g)),
        "sizes": [(_largest(g), _largest(node.value), _largest(x)) for x in floats],
    }


def _worst(names: Sequence[str], here: dict[str, Any], near: Sequence[dict[str, Any]]) -> Comparison | None:
    found = []
    for i, name in enumerate(names):
        # A plain array among the inputs needs no cotangent.
        if here["hand"][i] is None or not here["jax"][i].size:
            continue
        hand, expected = to_float64(here["hand"][i]), to_float64(here["jax"][i])
        with np.errstate(invalid="ignore"):
            moved = np.max([np.abs(to_float64(n["jax"][i]) - expected) for n in near], axis=0)
        natural = natural_size(*map(float, here["sizes"][i]))
        error, allowed = errors(hand, expected), exact_tolerance(hand, expected, moved, natural)
        with np.errstate(divide="ignore", invalid="ignore"):
            k = int(np.argmax(np.where(error == 0, 0, error / allowed)))
        numbers = (float(x.flat[k]) for x in (hand, expected, error, allowed))
        a, b, off, limit = numbers
        found.append(Comparison(JAX, name, place_of(k, hand.shape), a, b, off, limit))
    return worst_of(found)


def _largest(x: Any) -> Any:
    return jnp.abs(x).max(initial=0)
