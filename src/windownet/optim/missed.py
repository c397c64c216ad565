"""Updates that a row missed, in closed form.

An update with gradient zero still moves a row: momentum goes on, weight decay shrinks it. After the n updates
k = s+1 .. t that it missed,

    row   <-  Q(t) / Q(s) row - [sum over k of rate(k) ratio^(k-s) Q(t) / Q(k)] direction
    state <-  fade^n state, field by field,

with Q(k) the product of all 1 - decay(i) up to k. The sum is the difference of two that never end, begun at s and at t:

    S(s) = sum over k > s of rate(k) ratio^(k-s) Q(s) / Q(k),    [...] = Q(t) / Q(s) S(s) - ratio^n S(t).

So a row notes S and log Q of its last update, and a step computes one S from `Missed.terms` scalars, whatever U and D
are: 221 for Adam's usual numbers. The sums end only where decay takes less than the ratio does: `Missed.most_decay` is
how much a step's may be. They look ahead, past the end of a run too. A rate or decay that is not finite counts for
nothing there; where a step reaches it, log Q is NaN, and so are all rows that catch up from then on, as under the
dense optimizer.

Where an epsilon divides update k by 1 + x(k), with x(k) = correction(k) growth^(k-s) share, elementwise share times a
scalar of the step, the sum is divided by 1 + the mean of x under the sum's own weights, a second sum of the same kind.
By 1/(1+x) = 1/(1+u) - (x-u)/(1+u)^2 + (x-u)^2/((1+u)^2 (1+x)), u the mean, that is short by at most Var(x) / (1+u)^2
of the sum: by less than the square of x's relative spread over the missed updates that count, whatever epsilon is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff import scalars

Schedule = Callable[[Any], Any]
# What is left of the endless sum where it is cut off, as a share of it.
_REST = 1e-9
# With decay the terms fall more slowly, by the ratio's power of this at the slowest.
_SLOWED = 0.8
# So many of a schedule's values take some milliseconds a step.
_MOST_TERMS = 10_000


class Epsilon(NamedTuple):
    """What is added to a root that fades.

    Attributes:
      share: {state field: rows [U, D]} -> [U, D], epsilon over the root at the row's last update.
      growth: of that from one update to the next.
      correction: update number k -> what else multiplies it.
    """

    share: Callable[[Mapping[str, Any]], Any]
    growth: float
    correction: Schedule


class Missed(NamedTuple):
    """What updates with gradient zero do, for `windownet.optim.rowwise`.

    Attributes:
      rate: update number k from 1, an array -> its factor; asked for steps beyond the end of a run too.
      decay: update number k -> the share of the row that it takes away; None where nothing is.
      ratio: how much of the direction is left after one more update, in [0, 1); 0 where only decay moves a row.
      direction: {state field: rows [U, D]} -> [U, D], what missed updates are multiples of.
      fade: {state field: what is left of it after one more update}.
      epsilon: what slows small rows down; None where nothing does.
    """

    rate: Schedule
    decay: Schedule | None
    ratio: float
    direction: Callable[[Mapping[str, Any]], Any]
    fade: Mapping[str, float]
    epsilon: Epsilon | None = None

    @property
    def most_decay(self) -> float:
        """What a step's decay must be below; beyond it, what rows note is NaN."""
        return 1 - math.pow(self._slowest(), 1 - _SLOWED)

    @property
    def terms(self) -> int:
        """How many updates ahead the sums reach."""
        slowest = self._slowest() ** (1.0 if self.decay is None else _SLOWED)
        return math.ceil(math.log(_REST * (1 - slowest)) / math.log(slowest)) if slowest else 0

    def begin(self) -> jax.Array:
        """What a row notes before the first update: S(0), the same with epsilon's x, and log Q(0) = 0; float32 [4]."""
        return jnp.concatenate([self._outlook(jnp.zeros((), jnp.int32)), jnp.zeros(2, jnp.float32)])

    def note(self, step: jax.Array, before: jax.Array) -> jax.Array:
        """What rows note that have had update number `step`, given what was noted one update before."""
        step_log = jnp.log1p(-self._at(self.decay, step))
        step_log = jnp.where(jnp.isfinite(self._at(self.rate, step)), step_log, jnp.nan).astype(jnp.float32)
        # One float32 would round each small step of a long run in the same direction; so log Q has two.
        return jnp.concatenate([self._outlook(step), scalars.add_to(before[2:], step_log)])

    def renew(self, step: jax.Array, now: jax.Array) -> jax.Array:
        """What rows note that have had update number `step`, where `now` was noted before the rates to come changed."""
        return jnp.concatenate([self._outlook(step), now[2:]])

    def catch_up(
        self, rows: jax.Array, fields: Mapping[str, jax.Array], count: jax.Array, then: jax.Array, now: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Apply the missed updates.

        Args:
          rows: [U, D].
          fields: {state field: [U, D]}.
          count: int32 [U], how many updates each row missed.
          then: float32 [U, 4], what each row noted at its last update.
          now: float32 [4], what rows note that have missed none.

        Returns:
          rows and fields, as they would be had none been missed.
        """
        dtype, n = rows.dtype, count.astype(rows.dtype)
        shrink = jnp.exp(scalars.since(now[2:], then[:, 2:]).astype(dtype))
        moved = shrink[:, None] * rows
        if self.ratio:
            moved -= self._motion(fields, n, shrink, then.astype(dtype), now.astype(dtype))
        faded = {name: field * (self.fade[name] ** n)[:, None] for name, field in fields.items()}
        return moved, faded

    def _motion(
        self, fields: Mapping[str, jax.Array], n: jax.Array, shrink: jax.Array, then: jax.Array, now: jax.Array
    ) -> jax.Array:
        amount = shrink * then[:, 0] - self.ratio**n * now[0]
        change: jax.Array = amount[:, None] * self.direction(fields)
        if self.epsilon is None:
            return change
        weighed = shrink * then[:, 1] - (self.ratio * self.epsilon.growth) ** n * now[1]
        # Where nothing is left of the sum, roundings may divide roundings, but a change only shrinks by it.
        mean = jnp.where(amount != 0, jnp.maximum(weighed / jnp.where(amount != 0, amount, 1), 0), 0)
        slowed: jax.Array = change / (1 + mean[:, None] * self.epsilon.share(fields))
        return slowed

    def _outlook(self, step: jax.Array) -> jax.Array:
        # Both sums: of the rates, and of the rates times epsilon's scalar.
        if not self.ratio:
            return jnp.zeros(2, jnp.float32)
        j = np.arange(1, self.terms + 1, dtype=np.int32)
        k = step + j
        factors = _finite(self._at(self.rate, k))
        if self.decay is not None:
            decays = _finite(self._at(self.decay, k))
            factors *= jnp.exp(jnp.cumsum(-jnp.log1p(-decays)))
            factors = jnp.where(jnp.all(decays < self.most_decay), factors, jnp.nan)
        sums = [jnp.sum(self.ratio**j * factors), jnp.zeros(())]
        if self.epsilon is not None:
            # One power of both: each alone may be beyond what a float32 holds.
            powers = (self.ratio * self.epsilon.growth) ** j
            sums[1] = jnp.sum(powers * factors * self._at(self.epsilon.correction, k))
        return jnp.stack(sums).astype(jnp.float32)

    def _slowest(self) -> float:
        # How fast the slower one of the two sums falls.
        return self.ratio * (1.0 if self.epsilon is None else self.epsilon.growth)

    def _at(self, schedule: Schedule | None, k: jax.Array) -> jax.Array:
        # optax's schedules are functions of a scalar, and some of them of nothing else.
        if schedule is None:
            return jnp.zeros(k.shape)
        scalar = _array(schedule)
        return jax.vmap(scalar)(k) if k.ndim else scalar(k)


def adam(
    learning_rate: float | Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float | Schedule = 0.0,
    *,
    eps: float = 1e-8,
    nesterov: bool = False,
) -> Missed:
    """For `optax.adam`, `optax.adamw` and, with `nesterov`, `optax.nadam`.

    A missed update of Adam is rate * m / (sqrt(v) + eps) with m and v corrected for bias: m / sqrt(v) times a scalar of
    the step, which falls by r = b1 / sqrt(b2) each time, over 1 + x with x = eps / sqrt(v), which grows by g = 1 /
    sqrt(b2). Once the corrections are near 1, x has a relative variance of r (g - 1)^2 / ((1 - r) (1 - r g^2)) over
    the updates that count, and what a row moves while it is not touched is short by less than this share of it, times
    (u / (1 + u))^2 of x's mean u: 2e-5 at b2 = 0.999, 3e-3 at 0.99, but 0.3 at 0.95 (b1 = 0.9), where gradients of
    epsilon's size are better replayed. Before, where v's correction grows fast, it is short by more unless x is small:
    at b2 = 0.999 after 1,000 updates by up to 1e-4, after 30 by 1.5 %, after the first by 21 %.

    Raises:
      ValueError: not 0 <= b1 < b2 < 1: from b1 = b2 on, the second of the two sums may not end; epsilon is not above 0,
        for which the dense optimizer makes NaN of rows without a gradient; b2 so close above b1 that the sum takes too
        many terms; more decay than `Missed.most_decay`.
    """
    if not 0 <= b1 < b2 < 1:
        raise ValueError(f"missed.adam: required 0 <= b1 < b2 < 1, got {b1} and {b2}; leave `missed` out")
    if not eps > 0:
        raise ValueError(f"missed.adam: eps must be above 0, got {eps}")
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

    def share(fields: Mapping[str, Any]) -> Any:
        return eps / jnp.sqrt(jnp.where(fields["nu"] > 0, fields["nu"], 1))

    epsilon = Epsilon(share, 1 / math.sqrt(b2), lambda k: jnp.sqrt(1 - b2 ** k.astype(jnp.float32)))
    decayed = _decoupled(learning_rate, weight_decay)
    found = Missed(corrected, decayed, b1 / math.sqrt(b2), direction, {"mu": b1, "nu": b2}, epsilon)
    return _checked(found, learning_rate, weight_decay)


def momentum(
    learning_rate: float | Schedule, momentum: float, *, nesterov: bool = False, weight_decay: float | Schedule = 0.0
) -> Missed:
    """For `optax.sgd` with momentum, and decoupled `optax.add_decayed_weights` between trace and rate.

    Raises:
      ValueError: a momentum that is not below 1, or so close to it that the sum takes too many terms; more decay than
        `Missed.most_decay`.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"missed.momentum: momentum must be at least 0 and below 1, got {momentum}")
    rate = _schedule(learning_rate)
    factor = momentum if nesterov else 1.0
    found = Missed(
        lambda k: factor * rate(k - 1),
        _decoupled(learning_rate, weight_decay),
        momentum,
        lambda fields: fields["trace"],
        {"trace": momentum},
    )
    return _checked(found, learning_rate, weight_decay)


def decay(learning_rate: float | Schedule, weight_decay: float | Schedule = 0.0, **fade: float) -> Missed:
    """For what does not move without a gradient but for decoupled weight decay: SGD, Adagrad, RMSprop.

    `fade` names the state fields that fade all the same: `nu=0.9` for `optax.rmsprop(decay=0.9)`,
    `sum_of_squares=1.0` for `optax.adagrad`.

    Raises:
      ValueError: a decay that leaves nothing.
    """
    rate, decayed = _schedule(learning_rate), _decoupled(learning_rate, weight_decay)
    found = Missed(lambda k: rate(k - 1), decayed, 0.0, lambda fields: 0.0, fade)
    return _checked(found, learning_rate, weight_decay)


def _schedule(learning_rate: float | Schedule) -> Schedule:
    return learning_rate if callable(learning_rate) else lambda k: learning_rate


def _decoupled(learning_rate: float | Schedule, weight_decay: float | Schedule) -> Schedule | None:
    rate = _schedule(learning_rate)
    if callable(weight_decay):
        return lambda k: weight_decay(k - 1) * rate(k - 1)
    if scalars.is_zero(weight_decay):
        return None
    return lambda k: weight_decay * rate(k - 1)


def _checked(missed: Missed, learning_rate: float | Schedule, weight_decay: float | Schedule) -> Missed:
    # Those of a schedule, or of a compiled program, are known when it runs.
    numbers = [x for x in (learning_rate, weight_decay) if isinstance(x, int | float | np.number)]
    if len(numbers) == 2 and numbers[0] * numbers[1] >= missed.most_decay:
        raise ValueError(
            f"missed: rate times weight_decay must be below {missed.most_decay:.2g}, or the closed form does not end, "
            f"got {numbers[0]} times {numbers[1]}; leave `missed` out, and missed updates are replayed"
        )
    if missed.terms > _MOST_TERMS:
        raise ValueError(
            f"missed: required sums of at most {_MOST_TERMS:,} terms, got {missed.terms:,}, each "
            f"{missed._slowest():.6g} of the one before (b1 / b2, or the momentum); leave `missed` out, and "
            "missed updates are replayed"
        )
    return missed


def _finite(values: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(values), values, 0)


def _array(schedule: Schedule) -> Callable[[jax.Array], jax.Array]:
    return lambda k: jnp.asarray(schedule(k))
