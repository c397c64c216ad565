"""The ops that a model records, each alone: its rule beside `jax.vjp` of its forward, at the model's own numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff.graph import Node, Op, primal
from windownet.autodiff.proof.problem import Problem, is_floating, to_float64


def nodes(output: Any) -> list[Node]:
    """The nodes that a recorded value was made by, each once, leaves left out, in the order of their making."""
    order, seen, stack = [], set(), [(output, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif isinstance(node, Node) and node not in seen and node.op is not None:
            seen.add(node)
            stack += [(node, True), *((x, False) for x in node.inputs)]
    return order
