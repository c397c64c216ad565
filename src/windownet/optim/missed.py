"""Updates that a row missed, in closed form.

An update with gradient zero still moves a row: momentum goes on, weight decay shrinks it. After the n updates
k = s+1 .. t that it missed,

    row   <-  Q(t) / Q(s) row - [sum over k of rate(k) ratio^(k-s) Q(t) / Q(k)] direction
    state <-  fade^n state, field by field,

with Q(k) the product of all 1 - decay(i) up to k. The sum is the difference of two that never end, begun at s and at t:

    S(s) = sum over k > s of rate(k) ratio^(k-s) Q(s) / Q(k),    [...] = Q(t) / Q(s) S(s) - ratio^n S(t).

So a row notes S and log Q of its last update, two numbers, and a step computes one S from some 200 scalars, whatever U
and D are.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from windownet.autodiff.scalars import is_zero

Schedule = Callable[[Any], Any]
# What is left of the endless sum where it is cut off, as a share of it.
_REST = 1e-9


class Missed(NamedTuple):
    """What updates with gradient zero do, for `windownet.optim.rowwise`.

    Attributes:
      rate: update number k from 1, an array -> its factor.
      decay: update number k -> the share of the row that it takes away; None where nothing is.
      ratio: how much of the direction is left after one more update, in [0, 1).
      direction: {state field: rows [U, D]} -> [U, D], what missed updates are multiples of.
      fade: {state field: what is left of it after one more update}.
    """

    rate: Schedule
    decay: Schedule | None
    ratio: float
    direction: Callable[[Mapping[str, Any]], Any]
    fade: Mapping[str, float]

    def begin(self) -> jax.Array:
        """What a row notes before the first update: S(0) and log Q(0) = 0, float32 [2]."""
        return jnp.stack([self._outlook(jnp.zeros((), jnp.int32)), jnp.zeros(())])

    def note(self, step: jax.Array, before: jax.Array) -> jax.Array:
        """What rows note that have had update number `step`, given what was noted one update before."""
        return jnp.stack([self._outlook(step), before[1] + jnp.log1p(-self._decay(step))])

    def renew(self, step: jax.Array, now: jax.Array) -> jax.Array:
        """What rows note that have had update number `step`, where `now` was noted before the rates to come changed."""
        return jnp.stack([self._outlook(step), now[1]])

    def catch_up(
        self, rows: jax.Array, fields: Mapping[str, jax.Array], count: jax.Array, then: jax.Array, now: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Apply the missed updates.

        Args:
          rows: [U, D].
          fields: {state field: [U, D]}.
          count: int32 [U], how many updates each row missed.
          then: float32 [U, 2], what each row noted at its last update.
          now: float32 [2], what rows note that have missed none.

        Returns:
          rows and fields as they would be had none been missed.
        """
        n = count.astype(rows.dtype)
        shrink = jnp.exp(now[1] - then[:, 1]).astype(rows.dtype)
        rest = self.ratio**n if self.ratio else (n == 0).astype(rows.dtype)
        amount = shrink * then[:, 0].astype(rows.dtype) - rest * now[0].astype(rows.dtype)
        moved = shrink[:, None] * rows - amount[:, None] * self.direction(fields)
        return moved, {name: field * (self.fade[name] ** n)[:, None] for name, field in fields.items()}

    def _outlook(self, step: jax.Array) -> jax.Array:
        terms = 1 if not self.ratio else math.ceil(math.log(_REST * (1 - self.ratio)) / math.log(self.ratio))
        j = jnp.arange(1, terms + 1)
        k = step + j
        share = self.ratio ** j.astype(jnp.float32) if self.ratio else jnp.zeros(1)
        share *= jnp.broadcast_to(self.rate(k), j.shape)
        if self.decay is not None:
            share *= jnp.exp(jnp.cumsum(-jnp.log1p(-self._decay(k))))
        return jnp.sum(share).astype(jnp.float32)

    def _decay(self, k: jax.Array) -> jax.Array:
        decay = 0.0 if self.decay is None else self.decay(k)
        return jnp.broadcast_to(jnp.asarray(decay, jnp.float32), k.shape)


def adam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float | Schedule = 0.0,
    *,
    nesterov: bool = False,
) -> Missed:
    """For `optax.adam`, `optax.adamw` and, with `nesterov`, `optax.nadam`, with their epsilon left out.

    A missed update of Adam is rate * m / (sqrt(v) + eps) with m and v corrected for bias. Without eps it is
    m / sqrt(v) times a scalar of the step, and falls by b1 / sqrt(b2) each time. The error is at most eps / sqrt(v) of
    each missed update, v corrected for bias.

    Raises:
      ValueError: b1 >= sqrt(b2), for which the missed updates do not fall.
    """
    if b1 >= math.sqrt(b2):
        raise ValueError(f"missed.adam: b1 must be below sqrt(b2), got {b1} and {b2}; leave `missed` out")
    rate = _schedule(learning_rate)

    def corrected(k: Any) -> Any:
        k = k.astype(jnp.float32)
        # Nesterov's looks one update ahead, where the gradient is zero and the mean b1 of this one's.
        correction = (1 - b1 ** (k + 1)) / b1 if nesterov else 1 - b1**k
        return rate(k - 1) * jnp.sqrt(1 - b2**k) / correction

    def direction(fields: Mapping[str, Any]) -> Any:
        positive = fields["nu"] > 0
        root = jnp.sqrt(jnp.where(positive, fields["nu"], 1))
        return jnp.where(positive, fields["mu"] / root, 0)

    return Missed(corrected, _decoupled(rate, weight_decay), b1 / math.sqrt(b2), direction, {"mu": b1, "nu": b2})


def momentum(
    learning_rate: float | Schedule, momentum: float, *, nesterov: bool = False, weight_decay: float | Schedule = 0.0
) -> Missed:
    """For `optax.sgd` with momentum, and decoupled `optax.add_decayed_weights` between trace and rate."""
    rate = _schedule(learning_rate)
    factor = momentum if nesterov else 1.0
    return Missed(
        lambda k: factor * rate(k - 1),
        _decoupled(rate, weight_decay),
        momentum,
        lambda fields: fields["trace"],
        {"trace": momentum},
    )


def decay(learning_rate: float | Schedule, weight_decay: float | Schedule = 0.0, **fade: float) -> Missed:
    """For what does not move without a gradient but for decoupled weight decay: SGD, Adagrad, RMSprop.

    `fade` names the state fields that fade all the same: `nu=0.9` for `optax.rmsprop(decay=0.9)`,
    `sum_of_squares=1.0` for `optax.adagrad`.
    """
    rate = _schedule(learning_rate)
    return Missed(lambda k: 0.0 * rate(k - 1), _decoupled(rate, weight_decay), 0.0, lambda fields: 0.0, fade)


def _schedule(learning_rate: float | Schedule) -> Schedule:
    return learning_rate if callable(learning_rate) else lambda k: jnp.full(jnp.shape(k), learning_rate)


def _decoupled(rate: Schedule, weight_decay: float | Schedule) -> Schedule | None:
    if callable(weight_decay):
        return lambda k: weight_decay(k - 1) * rate(k - 1)
    return None if is_zero(weight_decay) else lambda k: weight_decay * rate(k - 1)
