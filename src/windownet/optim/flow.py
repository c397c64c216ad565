"""What an update of tables rests on, read off its program.

Numbers tried on a few rows do not tell of a bound that only many rows reach, such as that of a norm of updates; the
program does. Axes: V rows of a table, D its width.
"""

import enum
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from windownet.optim import slabs
from windownet.optim.slabs import Owners

# By the number of an input: whether rows of it met on the way.
Dependence = dict[int, bool]


class Use(enum.Enum):
    """How the rows of tables depend on an array."""

    NONE = enum.auto()
    # Each row on its own row of the array, or, where that has no rows, on all of it.
    BY_ROW = enum.auto()
    # By way of something that has no axis of rows, as a norm has none; or a row of one table on another table.
    ACROSS_ROWS = enum.auto()


def into_tables(
    inner: optax.GradientTransformation, params: Any, owners: Owners, names: tuple[str, ...]
) -> tuple[list[Use], list[Use]]:
    """How the tables' rows and their state depend on what they were before an update, and on all else.

    Args:
      inner: the transformation.
      params: parameters like those that it is for; only structure, shapes and dtypes count. All tables are taken to
        have rows enough not to be mistaken for another axis.
      owners: of the leaves of its state.
      names: the tables'.

    Returns:
      For each leaf of the state, then for each parameter, how the tables' rows depend on it.
    """
    types = jax.eval_shape(lambda: params)
    rows = 1 + max((size for leaf in jax.tree.leaves(types) for size in leaf.shape), default=0)
    found = slabs.tables(types, names)
    tall = {name: jax.ShapeDtypeStruct((rows, table.shape[1]), table.dtype) for name, table in found.items()}
    types = slabs.replace(types, tall)
    state, tree = jax.tree.flatten(jax.eval_shape(inner.init, types))
    weights, weights_tree = jax.tree.flatten(types)

    def update(state: list[Any], weights: list[Any]) -> tuple[list[Any], list[Any]]:
        params = jax.tree.unflatten(weights_tree, weights)
        gradients = jax.tree.map(jnp.ones_like, params)
        updates, after = inner.update(gradients, jax.tree.unflatten(tree, state), params)
        return list(slabs.tables(updates, names).values()), jax.tree.leaves(after)

    program = jax.make_jaxpr(update)(state, weights).jaxpr
    reached = _through(program, [{n: False} for n in range(len(program.invars))], rows)
    place = {id(leaf): name for name, leaf in slabs.tables(types, names).items()}
    of_input = [owner and owner.table for owner in owners] + [place.get(id(leaf)) for leaf in weights]
    of_output = [*names, *(owner and owner.table for owner in owners)]
    result = [Use.NONE] * len(of_input)
    for table, dependence in zip(of_output, reached, strict=True):
        for n, met in dependence.items() if table is not None else ():
            if met or (of_input[n] is not None and of_input[n] != table):
                result[n] = Use.ACROSS_ROWS
            elif result[n] is Use.NONE:
                result[n] = Use.BY_ROW
    return result[: len(state)], result[len(state) :]


def handed_on(inner: optax.GradientTransformation, params: Any, state: Any) -> list[bool]:
    """For each leaf of the state, whether an update leaves it as it is."""
    program, count = _of_state(inner, params, state)
    return [after is before for before, after in zip(program.invars[:count], program.outvars, strict=True)]


def by_themselves(inner: optax.GradientTransformation, params: Any, state: Any) -> list[bool]:
    """For each leaf of the state, whether what it is after an update depends on nothing but what it was before."""
    program, _ = _of_state(inner, params, state)
    # Whether rows meet is not asked, so that no axis need be told from that of rows.
    reached = _through(program, [{n: False} for n in range(len(program.invars))], rows=-1)
    return [set(dependence) <= {n} for n, dependence in enumerate(reached)]


def _of_state(inner: optax.GradientTransformation, params: Any, state: Any) -> tuple[Jaxpr, int]:
    # The program from state, gradients and parameters to the state, and how many leaves that has.
    leaves, tree = jax.tree.flatten(state)

    def update(leaves: list[Any], gradients: Any, params: Any) -> list[Any]:
        return jax.tree.leaves(inner.update(gradients, jax.tree.unflatten(tree, leaves), params)[1])

    return jax.make_jaxpr(update)(leaves, params, params).jaxpr, len(leaves)


def steps(program: Jaxpr) -> list[tuple[str, list[str]]]:
    """What a program does one after the other: names of primitives, and the numbers that are written into it.

    The number of rows is one of them where a mean is taken over rows.
    """
    found: list[tuple[str, list[str]]] = []
    for equation in program.eqns:
        # As text, in which NaN equals NaN.
        numbers = [repr(v.val) for v in equation.invars if isinstance(v, Literal)]
        found.append((equation.primitive.name, numbers))
        for inner in (p for value in equation.params.values() for p in _programs(value)):
            found += steps(inner)
    return found


def _through(jaxpr: Jaxpr, given: Sequence[Dependence], rows: int) -> list[Dependence]:
    known: dict[Any, Dependence] = {v: {} for v in jaxpr.constvars}
    known |= dict(zip(jaxpr.invars, given, strict=True))

    def of(variable: Any) -> Dependence:
        return {} if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        known |= zip(equation.outvars, _beyond(equation, [of(v) for v in equation.invars], rows), strict=True)
    return [of(v) for v in jaxpr.outvars]


def _beyond(equation: JaxprEqn, given: list[Dependence], rows: int) -> list[Dependence]:
    if equation.primitive.name == "cond":
        branches = [_through(branch.jaxpr, given[1:], rows) for branch in equation.params["branches"]]
        return [_join([given[0], *outcomes]) for outcomes in zip(*branches, strict=True)]
    programs = [p for value in equation.params.values() for p in _programs(value)]
    if equation.primitive.name in ("scan", "while"):
        # All that comes out of a loop may depend on all that goes in, and again on what came out.
        everything = _join(given)
        for _ in range(2):
            ends = [end for p in programs for end in _through(p, [everything] * len(p.invars), rows)]
            everything = _join([everything, *ends])
        return [everything] * len(equation.outvars)
    # A call, unlike a reduction, has a program of its own arguments.
    if len(programs) == 1 and _shapes(programs[0].invars) == _shapes(equation.invars):
        return _through(programs[0], given, rows)
    keeps_rows = all(_has_rows(v, rows) for v in equation.outvars)
    inputs = zip(equation.invars, given, strict=True)
    met = [d if keeps_rows or not _has_rows(v, rows) else dict.fromkeys(d, True) for v, d in inputs]
    return [_join(met)] * len(equation.outvars)


def _programs(value: Any) -> list[Jaxpr]:
    if isinstance(value, tuple | list):
        return [program for each in value for program in _programs(each)]
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    return [value] if isinstance(value, Jaxpr) else []


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [v.aval.shape for v in variables]


def _has_rows(variable: Any, rows: int) -> bool:
    return bool(variable.aval.shape[:1] == (rows,))


def _join(given: Sequence[Dependence]) -> Dependence:
    joined: Dependence = {}
    for dependence in given:
        for n, met in dependence.items():
            joined[n] = joined.get(n, False) or met
    return joined
