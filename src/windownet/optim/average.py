"""The exponential moving average of parameters, row by row of a table: a step costs what its touched rows cost.

After k steps it is the sum over i of (1 - decay) decay^(k-i) p_i, over the sum of these weights, 1 - decay^k, as in
`optax.ema` with its correction of the start. A row that steps do not touch stays what it is, so that the terms of the
steps that it missed are known when it is touched again:

    e  <-  decay^n e + (1 - decay^n) p        for n steps without it, at the value p

Updates that a row of an "exact" optimizer missed count from when it caught up with them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Average(NamedTuple):
    """State of the average.

    Attributes:
      sums: as the parameters, before the correction of the start.
      last: int32 [V], the last step that each row of the table has in its sum.
    """

    sums: Any
    last: jax.Array


def begin(params: dict[str, Any], table: str) -> Average:
    """Before the first step."""
    return Average(jax.tree.map(jnp.zeros_like, params), jnp.zeros(len(params[table]), jnp.int32))


def add(
    average: Average,
    before: jax.Array,
    params: dict[str, Any],
    *,
    table: str,
    rows: jax.Array,
    step: jax.Array,
    decay: float,
) -> Average:
    """With the parameters after update number `step`, from 1.

    Args:
      average: up to the step before.
      before: the table [V, D] as that step left it.
      params: the parameters now.
      table: its name among them.
      rows: int [U], the rows that may differ from `before`, each once; V or more is padding.
      step: int32 scalar.
      decay: the share of the sum that a step keeps.
    """
    rest = {**average.sums, table: ()}, {**params, table: ()}
    sums = jax.tree.map(lambda e, p: _step(e, p, decay), *rest)
    now = _take(params[table], rows)
    row_sums = _caught_up(average, before, table, rows, step - 1, decay)
    sums[table] = _put(average.sums[table], rows, _step(row_sums, now, decay))
    return Average(sums, _put(average.last, rows, jnp.broadcast_to(step, rows.shape)))


def catch_up(average: Average, words: jax.Array, *, table: str, step: jax.Array, decay: float) -> Average:
    """With the terms of all rows of the table, [V, D], up to `step`."""
    rows = jnp.arange(len(words))
    sums = {**average.sums, table: _caught_up(average, words, table, rows, step, decay)}
    return Average(sums, jnp.broadcast_to(step, average.last.shape))


def read(average: Average, step: jax.Array, decay: float) -> Any:
    """The average of the parameters after `step` updates, at least one; no row of the table may lag behind."""
    return jax.tree.map(lambda e: e / _shares(step, decay, e.dtype)[1], average.sums)


def _caught_up(
    average: Average, words: jax.Array, table: str, rows: jax.Array, step: jax.Array, decay: float
) -> jax.Array:
    missed = step - average.last.at[rows].get(mode="fill", fill_value=0)
    kept, added = (share[:, None] for share in _shares(missed, decay, words.dtype))
    return kept * _take(average.sums[table], rows) + added * _take(words, rows)


def _step(sums: jax.Array, params: jax.Array, decay: float) -> jax.Array:
    kept = jnp.asarray(decay, sums.dtype)
    return kept * sums + (1 - kept) * params


def _shares(steps: jax.Array, decay: float, dtype: Any) -> tuple[jax.Array, jax.Array]:
    # decay^n and 1 - decay^n, of the decay as `_step` has it: rounded, its distance from 1 is another, and the
    # difference of two numbers near 1 would have lost most of its digits.
    exponent = steps.astype(dtype) * math.log(float(np.asarray(decay, dtype)))
    return jnp.exp(exponent), -jnp.expm1(exponent)


def _take(table: jax.Array, rows: jax.Array) -> jax.Array:
    return table.at[rows].get(mode="fill", fill_value=0)


def _put(table: jax.Array, rows: jax.Array, values: jax.Array) -> jax.Array:
    return table.at[rows].set(values, mode="drop")
