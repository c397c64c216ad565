"""The exponential moving average of parameters, row by row of a table: a step costs what its touched rows cost.

With K(i, k) for the product of the decays after step i up to step k, it is, after k steps, the sum over i of
(1 - decay_i) K(i, k) p_i, over the sum of these weights, 1 - K(0, k): as in `optax.ema` with its correction of the
start, where all decays are one. A row that steps do not touch stays what it is, so that the terms of the steps i+1 .. k
that it missed are known when it is touched again:

    a  <-  a + (1 - K(i, k)) / (1 - K(0, k)) (p - a)        at the value p

which leaves a row that no step ever touched as it is, to the bit. Updates that a row of an "exact" optimizer missed
count from when it caught up with them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windownet.autodiff import scalars
from windownet.autodiff.rows import put, take
from windownet.autodiff.scalars import Scalar

# Stands for the logarithm of a decay of 0, after which nothing is left either.
_NOTHING_LEFT = -80.0


class Average(NamedTuple):
    """State of the average.

    Attributes:
      params: the parameters' average; before the first step, they themselves.
      log: float32 [2], the logarithm of K(0, k), in two floats.
      last: float32 [V, 2], what that was after the last step that each row of the table has in its average.
    """

    params: Any
    log: jax.Array
    last: jax.Array


def begin(params: dict[str, Any], table: str) -> Average:
    """Before the first step."""
    # Copies, as a step gives the buffers of both away.
    last = jnp.zeros((len(params[table]), 2), jnp.float32)
    return Average(jax.tree.map(jnp.copy, params), jnp.zeros(2, jnp.float32), last)


def add(
    average: Average, before: jax.Array, params: dict[str, Any], *, table: str, rows: jax.Array, decay: Scalar
) -> Average:
    """With the parameters after one more update.

    Args:
      average: up to the update before.
      before: the table [V, D] as that left it.
      params: the parameters now.
      table: its name among them.
      rows: int [U], the rows that may differ from `before`, each once; V or more is padding.
      decay: the share of the average that this update keeps, at least 0 and below 1, but for the start's correction.
    """
    step_log = jnp.maximum(jnp.log1p(jnp.asarray(decay, jnp.float32) - 1), _NOTHING_LEFT)
    log = scalars.add_to(average.log, step_log)
    share = _share(average.log, log)
    rest = {**average.params, table: ()}, {**params, table: ()}
    averages = jax.tree.map(lambda a, p: _drawn(a, p, share), *rest)
    caught_up = _caught_up(average, before, table, rows)
    averages[table] = put(average.params[table], rows, _drawn(caught_up, take(params[table], rows), share))
    return Average(averages, log, put(average.last, rows, log))


def catch_up(average: Average, words: jax.Array, *, table: str) -> Average:
    """With the terms of all updates for all rows of the table, [V, D]."""
    averages = {**average.params, table: _caught_up(average, words, table, jnp.arange(len(words)))}
    return Average(averages, average.log, jnp.broadcast_to(average.log, average.last.shape))


def _caught_up(average: Average, words: jax.Array, table: str, rows: jax.Array) -> jax.Array:
    share = _share(take(average.last, rows), average.log)[:, None]
    return _drawn(take(average.params[table], rows), take(words, rows), share)


def _share(then: jax.Array, now: jax.Array) -> jax.Array:
    # Of the terms behind `then` among all; a difference of two numbers near 1 would have lost most of its digits.
    total = jnp.expm1(jnp.sum(now))
    return jnp.where(total < 0, jnp.expm1(scalars.since(now, then)) / jnp.where(total < 0, total, -1), 0)


def _drawn(average: jax.Array, params: jax.Array, share: jax.Array) -> jax.Array:
    return average + share.astype(average.dtype) * (params - average)
