"""Inputs for every op of the table: hard ones, so that a wrong rule has nowhere to hide.

Floats are float64 numpy arrays, ids int32, masks bool. No sample lies at a kink or near
one; `ties` gives those that do.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

# No float comes nearer to a kink than this times the scale, so that a difference quotient stays on one side.
MARGIN = 0.05

SIZES = ((1, 1, 1), (3, 3, 3), (2, 3, 4), (4, 1, 5), (5, 4, 1))
SATURATING = 20.0
TINY = 1e-3


class Sample(NamedTuple):
    """The inputs of one call of an op: `op(*inputs, **static)`."""

    inputs: tuple[Any, ...]
    static: Mapping[str, Any] = MappingProxyType({})


class Draw:
    """What a row of `SAMPLES` draws from: a generator, three sizes (0 allowed), a scale, and which variant it is."""

    def __init__(self, rng: np.random.Generator, m: int, k: int, n: int, scale: float, variant: int) -> None:
        self.rng, self.m, self.k, self.n, self.scale, self.variant = rng, m, k, n, scale, variant

    def choose(self, *options: Any) -> Any:
        return options[self.variant % len(options)]

    def normal(self, *shape: int) -> np.ndarray:
        return self.scale * self.rng.standard_normal(shape)

    def positive(self, *shape: int) -> np.ndarray:
        return self.scale * (0.2 + np.abs(self.rng.standard_normal(shape)))

    def nonzero(self, *shape: int) -> np.ndarray:
        return self.positive(*shape) * self.signs(*shape)

    def signs(self, *shape: int) -> np.ndarray:
        return self.rng.choice([-1.0, 1.0], shape)

    def away_from(self, kinks: tuple[float, ...], *shape: int) -> np.ndarray:
        x = self.normal(*shape)
        for kink in kinks:
            near = np.abs(x - kink) < MARGIN * self.scale
            x = np.where(near, kink + np.copysign(1.5 * MARGIN * self.scale, x - kink), x)
        return x

    def ids(self, stop: int, *shape: int) -> np.ndarray:
        """Ids below `stop`, the last one equal to the first: a repetition wherever there is room for one."""
        ids = self.rng.integers(0, stop, shape, dtype=np.int32)
        if ids.size:
            ids.flat[-1] = ids.flat[0]
        return ids

    def mask(self, *shape: int) -> np.ndarray:
        return self.choose(self.rng.random(shape) < 0.6, np.ones(shape, bool), np.zeros(shape, bool))


Row = Callable[[Draw], Sample]


def _elementwise(d: Draw) -> Sample:
    return Sample((d.normal(d.m, d.n),))


def _elementwise_pair(d: Draw) -> Sample:
    return Sample((d.normal(d.m, d.n), d.normal(d.m, d.n)))


def _untied_pair(d: Draw) -> Sample:
    x = d.normal(d.m, d.n)
    return Sample((x, x + d.nonzero(d.m, d.n)))


def _bounded(d: Draw) -> Sample:
    return Sample((30 * np.tanh(d.normal(d.m, d.n) / 30),))


def _kinked_at_zero(d: Draw) -> Sample:
    return Sample((d.away_from((0.0,), d.m, d.n),))


def _leaky_relu(d: Draw) -> Sample:
    return Sample((d.away_from((0.0,), d.m, d.n),), d.choose({}, {"negative_slope": 0.3}, {"negative_slope": 0.0}))


def _elu(d: Draw) -> Sample:
    return Sample((d.away_from((0.0,), d.m, d.n),), d.choose({"alpha": 0.7}, {}))


def _prelu(d: Draw) -> Sample:
    shape = d.choose((d.m, d.n), (2, d.m, d.n), (d.n,))
    return Sample((d.away_from((0.0,), *shape), d.rng.uniform(-0.5, 0.5, d.n)))


def _reduction(axes: tuple[Any, ...]) -> Row:
    return lambda d: Sample((d.normal(d.m, d.k, d.n),), {"axis": d.choose(*axes)})


def _mean(d: Draw) -> Sample:
    sample = _reduction((None, 0, -1, (0, 2), (-2,), ()))(d)
    shape, axis = sample.inputs[0].shape, sample.static["axis"]
    averaged = range(3) if axis is None else np.atleast_1d(axis).astype(int)
    if any(shape[i] == 0 for i in averaged):
        # There is no mean of nothing.
        d.m, d.k, d.n = max(d.m, 1), max(d.k, 1), max(d.n, 1)
        return _mean(d)
    return sample


def _matmul(d: Draw) -> Sample:
    batch = d.choose((), (2,), (3, 2))
    return Sample((d.normal(*batch, d.m, d.k), d.normal(*batch, d.k, d.n)))


def _affine(d: Draw) -> Sample:
    leading = d.choose((d.m,), (2, d.m), ())
    return Sample((d.normal(*leading, d.k), d.normal(d.k, d.n), d.normal(d.n)))


def _dropout(d: Draw) -> Sample:
    return Sample(
        (d.normal(d.m, d.k, d.n), d.mask(d.m, d.k, d.n)),
        {"rate": d.choose(0.4, 0.9, 0.0, np.asarray(0.4), np.asarray(0.0), np.asarray(0.9))},
    )


def _softmax_cross_entropy(d: Draw) -> Sample:
    L = max(d.n, 1)
    shape = (d.m,) if d.variant % 2 else (d.m, d.k)
    static = d.choose({}, {"smoothing": 0.3}, {"smoothing": np.asarray(0.2)})
    return Sample((d.normal(*shape, L), d.ids(L, *shape), d.mask(*shape)), static)


def _multiclass_margin(d: Draw) -> Sample:
    # Wide enough that some margins are kept and some are missed.
    L = max(d.n, 1)
    return Sample((2 * d.normal(d.m, L), d.ids(L, d.m), d.mask(d.m)))


def _binary_logistic(d: Draw) -> Sample:
    shape = (max(d.m, 1), max(d.n, 1))
    return Sample((d.normal(*shape), d.mask(*shape)))


def _weighted_logistic(d: Draw) -> Sample:
    return Sample((d.normal(d.m, d.n), d.mask(d.m, d.n), d.normal(d.m, d.n)))


def _reshape(d: Draw) -> Sample:
    shape = d.choose((d.n, d.m * d.k), (d.k, d.n, d.m), (d.m * d.k * d.n,))
    if d.variant % 2 and math.prod(shape):
        shape = (-1, *shape[1:])
    return Sample((d.normal(d.m, d.k, d.n),), {"shape": shape})


def _transpose(d: Draw) -> Sample:
    return Sample((d.normal(d.m, d.k, d.n),), d.choose({"axes": (1, 2, 0)}, {}, {"axes": (-1, 0, -2)}))


def _concatenate(d: Draw) -> Sample:
    if d.choose(True, False):
        return Sample((d.normal(d.m, d.n), d.normal(d.k, d.n), d.normal(d.m, d.n)), {"axis": 0})
    return Sample((d.normal(d.n, 2, d.m), d.normal(d.n, 2, d.k)), {"axis": -1})


def _slice(d: Draw) -> Sample:
    axis = d.choose(0, 1, -1)
    start, stop = np.sort(d.rng.integers(0, (d.m, d.k, d.n)[axis] + 1, 2))
    return Sample((d.normal(d.m, d.k, d.n),), {"start": int(start), "stop": int(stop), "axis": axis})


def _where(d: Draw) -> Sample:
    return Sample((d.mask(d.m, d.n), d.normal(d.m, d.n), d.normal(d.m, d.n)))


def _take_rows(d: Draw) -> Sample:
    V = max(d.m, 1)
    rows = d.rng.integers(0, V + 2, 2 * d.k, dtype=np.int32)
    # A real row twice, and padding at the end: the first number past the table and the largest there is.
    rows[:2] = rows[:2] % V
    rows[1:2] = rows[:1]
    padding = d.choose([], [V, np.iinfo(np.int32).max])
    return Sample((d.normal(V, d.n), np.append(rows, np.asarray(padding, np.int32))))


def _embed(d: Draw) -> Sample:
    # Small tables take another path than large ones, so there are samples of both.
    rows = max(d.m, 1) + d.choose(0, 40)
    ids = d.ids(rows, *d.choose((d.k, 3), (2 * d.k,), (2, d.k, 1)))
    return Sample((d.normal(rows, d.n), ids))


SAMPLES: Mapping[str, Row] = MappingProxyType(
    {
        "add": _elementwise_pair,
        "affine": _affine,
        "binary_logistic": _binary_logistic,
        "concatenate": _concatenate,
        "divide": lambda d: Sample((d.normal(d.m, d.n), d.nonzero(d.m, d.n))),
        "dropout": _dropout,
        "elu": _elu,
        "embed": _embed,
        "exp": _bounded,
        "gelu": _elementwise,
        "gelu_tanh": _elementwise,
        "hard_tanh": lambda d: Sample((d.away_from((-1.0, 1.0), d.m, d.n),)),
        "leaky_relu": _leaky_relu,
        "log": lambda d: Sample((d.positive(d.m, d.n),)),
        "matmul": _matmul,
        "maximum": _untied_pair,
        "mean": _mean,
        "minimum": _untied_pair,
        "multiclass_margin": _multiclass_margin,
        "multiply": _elementwise_pair,
        "negate": _elementwise,
        "prelu": _prelu,
        "relu": _kinked_at_zero,
        "reshape": _reshape,
        "sigmoid": _elementwise,
        "silu": _elementwise,
        "slice": _slice,
        "softmax_cross_entropy": _softmax_cross_entropy,
        "softplus": _elementwise,
        "sqrt": lambda d: Sample((d.positive(d.m, d.n),)),
        "square": _elementwise,
        "subtract": _elementwise_pair,
        "sum": _reduction((None, 0, -1, (0, 2), (-2,), ())),
        "take_rows": _take_rows,
        "tanh": _elementwise,
        "transpose": _transpose,
        "weighted_logistic": _weighted_logistic,
        "where": _where,
    }
)

# What the rows' choices have as a common multiple: a row with fewer variants repeats them with other numbers.
VARIANTS = 6


def sample(
    name: str, rng: np.random.Generator, m: int, k: int, n: int, scale: float = 1.0, variant: int | None = None
) -> Sample:
    """One sample of an op: sizes 0 and up (raised to 1 where the op has no meaning at 0), floats of about `scale`.

    Args:
      name: an op of `windownet.autodiff.ops.OPS`.
      rng: where the numbers come from.
      m, k, n: the sizes; the inputs of a matrix product are [m, k] and [k, n].
      scale: the typical size of the floats; `SATURATING` is far out on every nonlinearity.
      variant: which static arguments and masks, 0 to `VARIANTS` - 1; drawn when not given.

    Raises:
      LookupError: the op has no row in `SAMPLES`.
    """
    if name not in SAMPLES:
        raise LookupError(f"op {name!r} has no samples: add a row for it to SAMPLES in tests/autodiff/op_samples.py")
    if variant is None:
        variant = int(rng.integers(VARIANTS))
    return SAMPLES[name](Draw(rng, m, k, n, scale, variant))


def samples(name: str, seed: int) -> list[Sample]:
    """Hard samples of an op: every variant, sizes of 1, square and not, tiny and saturating values, repeated ids."""
    rng = np.random.default_rng([seed, *name.encode()])
    # Six variants against five sizes; the seventh makes the first variant square, as its first size is 1.
    plain = [sample(name, rng, *sizes, 1.0, i) for i, sizes in zip(range(VARIANTS + 1), itertools.cycle(SIZES))]
    scaled = [sample(name, rng, 4, 2, 3, scale, i) for i, scale in enumerate((SATURATING, TINY))]
    return plain + scaled


def ties(name: str, seed: int) -> list[Sample]:
    """Samples that lie on an op's kinks, beside others that do not; none for an op that is smooth."""
    rng = np.random.default_rng([seed, *name.encode()])
    if name in ("maximum", "minimum"):
        x = rng.standard_normal((3, 4))
        return [Sample((x, np.where(rng.random(x.shape) < 0.5, x, rng.standard_normal(x.shape))))]
    if name not in KINKS:
        return []
    inputs = np.concatenate([KINKS[name], rng.standard_normal(4)]).reshape(2, -1)
    if name == "prelu":
        return [Sample((inputs, rng.uniform(-0.5, 0.5, inputs.shape[1])))]
    static = {"elu": {"alpha": 0.7}, "leaky_relu": {"negative_slope": 0.3}}.get(name, {})
    return [Sample((inputs,), static)]


# Where the elementwise ops of one input have no slope of their own.
KINKS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "elu": (0.0, -0.0),
        "hard_tanh": (-1.0, 1.0),
        "leaky_relu": (0.0, -0.0),
        "prelu": (0.0, -0.0),
        "relu": (0.0, -0.0),
    }
)
