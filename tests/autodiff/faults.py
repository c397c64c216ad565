"""Wrong rules: what a hand-written backward pass gets wrong in practice, each with inputs that show it.

A fault's name is its function's, what is wrong its docstring, `caught_by` the witness or duty of the checker that must
refuse it. Nothing here changes an op of the table: `build` makes a new one every time, for jax caches by a function's
identity.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff import Op, ops
from windownet.autodiff.check import check_gradients, check_op
from windownet.autodiff.report import Report

JAX, NUMERIC, UNTOUCHED = "jax.vjp", "central differences", "untouched rows"
CONTRACT, LINEAR, ZERO = "contract", "linear in the upstream gradient", "zero in, zero out"
JIT, VMAP, ELSEWHERE = "the same under jit", "the same under vmap", "another point"
DETERMINISTIC, ORDER, NON_FINITE = "deterministic", "order of duplicates", "non-finite in, non-finite out"
TOGETHER, FLOAT32, BFLOAT16 = "kinks together", "float32", "bfloat16"

Rule = Callable[..., Any]


class Case(NamedTuple):
    """A wrong op at its inputs; or a loss with a wrong op inside, at `(params, *batch)`."""

    subject: Any
    inputs: tuple[Any, ...]
    static: Mapping[str, Any]

    def check(self) -> Report:
        if isinstance(self.subject, Op):
            return check_op(self.subject, *self.inputs, **self.static)
        return check_gradients(self.subject, *self.inputs)


class Fault(NamedTuple):
    """A wrong case and the right one at the same inputs, each built afresh by every call."""

    name: str
    wrong: str
    caught_by: str
    build: Callable[[], Case]
    right: Callable[[], Case]


FAULTS: dict[str, Fault] = {}


def with_rule(op: Op, rule: Rule) -> Op:
    """A fresh op: another's forward, this rule."""

    @functools.wraps(op.forward)
    def forward(*inputs: Any, **static: Any) -> Any:
        return op.forward(*inputs, **static)

    return Op(op.name, forward, rule)


def op_fault(op: Op, *inputs: Any, by: str, **static: Any) -> Callable[[Rule], Rule]:
    """The decorated function is a wrong rule for `op`."""

    def register(rule: Rule) -> Rule:
        right = functools.partial(Case, op, inputs, static)
        return _register(rule, by, lambda: Case(with_rule(op, rule), inputs, static), right)

    return register


def made_fault(right: Op, *inputs: Any, by: str) -> Callable[[Callable[[], Op]], Callable[[], Op]]:
    """The decorated function makes a wrong op, with a state or a forward of its own."""

    def register(make: Callable[[], Op]) -> Callable[[], Op]:
        return _register(make, by, lambda: Case(make(), inputs, {}), lambda: Case(right, inputs, {}))

    return register


def network_fault(op: Op, by: str) -> Callable[[Rule], Rule]:
    """The decorated function is a wrong rule for `op` inside the network."""

    def register(rule: Rule) -> Rule:
        return _register(rule, by, lambda: network({op.name: with_rule(op, rule)}), lambda: network({}))

    return register


def _register(function: Any, by: str, build: Callable[[], Case], right: Callable[[], Case]) -> Any:
    assert function.__name__ not in FAULTS
    FAULTS[function.__name__] = Fault(function.__name__, " ".join(function.__doc__.split()), by, build, right)
    return function


def network(replaced: Mapping[str, Op]) -> Case:
    """A window network with some of its ops replaced; rows 0 to 4 of its words are never looked up."""
    op = {**ops.OPS, **replaced}
    rng = np.random.default_rng(5)

    def normal(*shape: int, scale: float = 0.5) -> np.ndarray:
        return scale * rng.standard_normal(shape)

    params = {
        "words": normal(40, 4),
        "capitals": normal(3, 2),
        "hidden": {"weight": normal(18, 5), "bias": normal(5, scale=0.1)},
        "output": {"weight": normal(5, 4), "bias": np.zeros(4)},
    }
    ids, capitals = rng.integers(5, 40, (8, 3), dtype=np.int32), rng.integers(0, 3, (8, 3), dtype=np.int32)
    ids[:, 0] = ids[0, 1]

    def loss(params: Any, ids: Any, capitals: Any, labels: Any, mask: Any) -> Any:
        words = op["reshape"](op["embed"](params["words"], ids), shape=(8, 12))
        # A leaf whose gradient is some millionths of the whole.
        shapes = op["reshape"](op["embed"](params["capitals"], capitals), shape=(8, 6))
        shapes = op["multiply"](shapes, jnp.full(shapes.shape, 1e-6, shapes.dtype))
        x = op["concatenate"](words, shapes, axis=1)
        hidden = op["tanh"](op["affine"](x, params["hidden"]["weight"], params["hidden"]["bias"]))
        logits = op["affine"](hidden, params["output"]["weight"], params["output"]["bias"])
        return op["softmax_cross_entropy"](logits, labels, mask)

    labels, mask = rng.integers(0, 4, 8, dtype=np.int32), np.arange(8) < 6
    return Case(loss, (params, ids, capitals, labels, mask), {})


_rng = np.random.default_rng(20)


def normal(*shape: int) -> np.ndarray:
    return _rng.standard_normal(shape)


def away(*shape: int) -> np.ndarray:
    x = normal(*shape)
    return x + 0.1 * np.sign(x)


X, Y, W, B = normal(4, 3), away(4, 3), normal(3, 3), normal(3)
TABLE, IDS = normal(6, 4), np.array([[1, 4, 1], [0, 4, 4]], np.int32)
BIG, MANY = normal(10_000, 8), np.append(np.arange(0, 10_000, 7), [14, 14]).astype(np.int32)
LOGITS, LABELS = 3 * normal(5, 4), np.array([0, 2, 2, 1, 3], np.int32)
MASK = np.array([True, True, False, True, False])
KEPT = np.array([[True, False, True], [False, True, True], [True, True, False], [True, False, False]])
KINKED = np.array([[-1.0, 0.3, 1.0, 2.0], [1.0, -1.0, -0.4, 0.7]])
TIED = np.where(KINKED == 1.0, KINKED, KINKED + 1.5)


@op_fault(ops.affine, X, W, B, by=JAX)
def affine_transposed(g, y, x, w, b):
    """x gets g @ w, not g @ w.T, and w is square."""
    return g @ w, x.T @ g, g.sum(0)


@op_fault(ops.affine, X, W[:, :2], B[:2], by=CONTRACT)
def affine_weight_transposed(g, y, x, w, b):
    """w gets g.T @ x: the shape of its transpose."""
    return g @ w.T, g.T @ x, g.sum(0)


@op_fault(ops.affine, X, W, B, by=JAX)
def affine_bias_of_one_row(g, y, x, w, b):
    """The bias gets the first row's cotangent: the batch is not summed."""
    return g @ w.T, x.T @ g, g[0]


@op_fault(ops.affine, X, W, B, by=JAX)
def affine_missing_batch_factor(g, y, x, w, b):
    """The bias gets the mean over the batch, which lacks the factor of its size."""
    return g @ w.T, x.T @ g, g.mean(0)


@op_fault(ops.affine, X, W, B, by=JAX)
def affine_one_percent(g, y, x, w, b):
    """w's cotangent is 1 % too large."""
    return g @ w.T, 1.01 * (x.T @ g), g.sum(0)


@op_fault(ops.affine, X, W, B, by=ZERO)
def affine_decayed(g, y, x, w, b):
    """A trace of weight decay inside the rule."""
    return g @ w.T, x.T @ g + 1e-13 * w, g.sum(0)


@op_fault(ops.matmul, W, normal(3, 3), by=JAX)
def matmul_sides_swapped(g, out, x, y):
    """Each product is taken from the other side, and both are square."""
    return y.mT @ g, g @ x.mT


@op_fault(ops.multiply, X, normal(4, 3), by=JAX)
def multiply_not_switched(g, out, x, y):
    """Each factor is scaled by itself instead of the other."""
    return g * x, g * y


@op_fault(ops.divide, X, Y, by=JAX)
def divide_sign(g, out, x, y):
    """The denominator's minus is lost."""
    return g / y, g * out / y


@op_fault(ops.mean, X, by=JAX, axis=0)
def mean_without_count(g, out, x, *, axis):
    """The mean spreads its cotangent whole, as a sum does."""
    return (jnp.broadcast_to(g[None], x.shape),)


@op_fault(ops.sum, W, by=JAX, axis=0)
def sum_over_other_axis(g, out, x, *, axis):
    """The cotangent is spread along the other axis, and x is square."""
    return (jnp.broadcast_to(g[:, None], x.shape),)


@op_fault(ops.square, X, by=LINEAR)
def square_upstream_dropped(g, out, x):
    """The rule returns the local derivative alone."""
    return (2 * x,)


@op_fault(ops.square, X, by=LINEAR)
def square_upstream_clipped(g, out, x):
    """The rule clips its upstream cotangent, far beyond any that the forward pass produced."""
    return (2 * x * jnp.clip(g, -100, 100),)


@op_fault(ops.square, X, by=DETERMINISTIC)
def square_not_repeatable(g, out, x):
    """The last bits change from call to call, as those of a sum by atomics do."""
    jitter = jax.pure_callback(
        lambda: np.asarray(1 + 1e-15 * np.random.default_rng().integers(-4, 5), x.dtype),
        jax.ShapeDtypeStruct((), x.dtype),
        vmap_method="sequential",
    )
    return (2 * x * g * jnp.broadcast_to(jitter, x.shape),)


@op_fault(ops.square, X, by=JIT)
def square_decides_by_value(g, out, x):
    """A Python condition on a value: right as it is called, an error as soon as it is compiled."""
    return (2 * x * g if float(jnp.abs(x).max()) > 0 else 0 * g,)


@made_fault(ops.square, X, by=ELSEWHERE)
def square_stale_residual():
    """What the first call saw is kept and used ever after."""
    kept = []

    def rule(g, out, x):
        kept.append(np.asarray(x)) if not kept else None
        return (2 * g * jnp.asarray(kept[0]).astype(g.dtype),)

    return with_rule(ops.square, rule)


@op_fault(ops.affine, X, W, B, by=VMAP)
def affine_bias_across_examples(g, y, x, w, b):
    """The bias is summed on the host over all axes but the last, the mapped one too."""
    total = jax.pure_callback(
        lambda g: np.broadcast_to(np.asarray(g).reshape(-1, g.shape[-1]).sum(0), (*g.shape[:-2], g.shape[-1])),
        jax.ShapeDtypeStruct(b.shape, b.dtype),
        g,
        vmap_method="expand_dims",
    )
    return g @ w.T, x.T @ g, total


@op_fault(ops.tanh, X, by=JAX)
def tanh_of_input(g, y, x):
    """1 - x^2: the input in place of the output."""
    return (g * (1 - x * x),)


@op_fault(ops.tanh, X, by=NON_FINITE)
def tanh_nan_to_zero(g, y, x):
    """A slope that is NaN becomes zero, and a broken network trains on in silence."""
    return (g * jnp.nan_to_num(1 - y * y),)


@op_fault(ops.tanh, X, by=CONTRACT)
def tanh_too_many(g, y, x):
    """Two cotangents for one input."""
    return g * (1 - y * y), None


@op_fault(ops.tanh, X, by=CONTRACT)
def tanh_half_precision(g, y, x):
    """A float32 cotangent for a float64 input."""
    return ((g * (1 - y * y)).astype(jnp.float32),)


@op_fault(ops.sigmoid, X, by=JAX)
def sigmoid_without_one_minus(g, y, x):
    """y, not y (1 - y)."""
    return (g * y,)


@op_fault(ops.sigmoid, 4 * X, by=FLOAT32)
def sigmoid_float32_only(g, y, x):
    """Right in float64; below that y is rounded to 8 bits on the way."""
    y = y if y.dtype == jnp.float64 else y.astype(jnp.bfloat16).astype(y.dtype)
    return (g * y * (1 - y),)


@op_fault(ops.softplus, 40 * X, by=BFLOAT16)
def softplus_bfloat16_only(g, y, x):
    """Right in float64 and float32; in bfloat16 the exponential goes through float16 and overflows."""
    if x.dtype == jnp.bfloat16:
        e = jnp.exp(x.astype(jnp.float16))
        return (g * (e / (1 + e)).astype(x.dtype),)
    return (g * jax.nn.sigmoid(x),)


@op_fault(ops.relu, Y, by=JAX)
def relu_leaks(g, y, x):
    """Slope 0.01 below zero, where the forward has none."""
    return (g * jnp.where(x > 0, 1.0, 0.01).astype(x.dtype),)


@op_fault(ops.relu, Y, by=LINEAR)
def relu_guided(g, y, x):
    """Only positive cotangents pass: guided backpropagation."""
    return (jnp.where((x > 0) & (g > 0), g, jnp.zeros_like(g)),)


@op_fault(ops.relu, Y, by=NON_FINITE)
def relu_nan_to_zero(g, y, x):
    """A NaN is not larger than zero, so its slope is a silent zero."""
    return (jnp.where(x > 0, g, jnp.zeros_like(g)),)


@op_fault(ops.hard_tanh, 2 * Y, by=JAX)
def hard_tanh_never_flat(g, y, x):
    """Slope 1 beyond the ends too."""
    return (g,)


@op_fault(ops.hard_tanh, KINKED, by=NUMERIC)
def hard_tanh_at_kink(g, y, x):
    """Right everywhere but at the ends themselves, where the slope is 2: neither side's, nor between."""
    slope = jnp.where(jnp.abs(x) == 1, 2.0, (jnp.abs(x) < 1).astype(jnp.float32)).astype(x.dtype)
    return (g * (slope + 0 * x),)


@op_fault(ops.leaky_relu, Y, by=JAX, negative_slope=0.3)
def leaky_relu_default_slope(g, y, x, *, negative_slope):
    """The rule ignores the slope that the forward was given."""
    return (g * jnp.where(x >= 0, 1.0, 0.01).astype(x.dtype),)


@op_fault(ops.prelu, W, 0.2 * B, by=JAX)
def prelu_slope_over_wrong_axis(g, y, x, slope):
    """The slopes' cotangent is summed over the units, and there are as many rows."""
    local = jnp.where(x >= 0, jnp.ones_like(x), jnp.broadcast_to(slope, x.shape))
    return g * local, (g * jnp.minimum(x, 0)).sum(1)


@op_fault(ops.prelu, Y, 0.2 * B, by=JAX)
def prelu_slope_from_positive_part(g, y, x, slope):
    """The slopes are taught by the inputs that they do not multiply."""
    local = jnp.where(x >= 0, jnp.ones_like(x), jnp.broadcast_to(slope, x.shape))
    return g * local, (g * jnp.maximum(x, 0)).sum(0)


@op_fault(ops.elu, Y, by=JAX, alpha=0.7)
def elu_without_alpha(g, y, x, *, alpha):
    """alpha is left out of the lower branch."""
    return (g * jnp.where(x > 0, jnp.ones_like(x), jnp.exp(jnp.minimum(x, 0))),)


@op_fault(ops.maximum, X, Y, by=JAX)
def maximum_to_the_smaller(g, out, x, y):
    """The cotangent goes to the smaller."""
    return jnp.where(x > y, 0 * g, g), jnp.where(x > y, g, 0 * g)


@op_fault(ops.maximum, KINKED, TIED, by=TOGETHER)
def maximum_tie_to_both(g, out, x, y):
    """At a tie both get the whole cotangent: either alone may, but not both."""
    return jnp.where(x >= y, g, 0 * g) + 0 * (x + y), jnp.where(y >= x, g, 0 * g) + 0 * (x + y)


@made_fault(ops.softplus, Y, by=NUMERIC)
def softplus_stopped():
    """The forward stops one branch's gradient, so jax derives the same wrong rule."""

    def softplus(x):
        return jnp.where(x > 0, jax.lax.stop_gradient(jax.nn.softplus(x)), jax.nn.softplus(x))

    return Op("softplus", softplus, lambda g, y, x: (jnp.where(x > 0, 0 * x, g * jax.nn.sigmoid(x)),))


def _cross_entropy(g, logits, labels, mask, sign=-1.0, count=None):
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    count = mask.sum() if count is None else count
    scale = jnp.where(mask, g / jnp.asarray(count).astype(g.dtype), jnp.zeros_like(g))
    return (jax.nn.softmax(logits) + sign * one_hot) * scale[:, None], None, None


@op_fault(ops.softmax_cross_entropy, LOGITS, LABELS, MASK, by=JAX)
def cross_entropy_sign(g, y, logits, labels, mask):
    """softmax + one-hot."""
    return _cross_entropy(g, logits, labels, mask, sign=1.0)


@op_fault(ops.softmax_cross_entropy, LOGITS, LABELS, MASK, by=JAX)
def cross_entropy_mask_forgotten(g, y, logits, labels, mask):
    """Labels that do not count pull all the same."""
    return _cross_entropy(g, logits, labels, jnp.ones_like(mask), count=mask.sum())


@op_fault(ops.softmax_cross_entropy, LOGITS, LABELS, MASK, by=JAX)
def cross_entropy_batch_factor(g, y, logits, labels, mask):
    """Divided by all the labels, not by those that count."""
    return _cross_entropy(g, logits, labels, mask, count=mask.size)


@op_fault(ops.dropout, X, KEPT, by=JAX, rate=0.4)
def dropout_mask_not_applied(g, y, x, mask, *, rate):
    """What was dropped gets a cotangent too."""
    return g / (1 - rate), None


@op_fault(ops.dropout, X, KEPT, by=JAX, rate=0.4)
def dropout_not_scaled(g, y, x, mask, *, rate):
    """The 1 / (1 - rate) of the forward is missing."""
    return jnp.where(mask, g, jnp.zeros_like(g)), None


@op_fault(ops.concatenate, X, Y, by=JAX, axis=0)
def concatenate_swapped(g, y, *arrays, axis):
    """Two arrays of one size get each other's part."""
    return g[4:], g[:4]


@op_fault(ops.slice, normal(7, 2), by=JAX, start=2, stop=5, axis=0)
def slice_window_off_by_one(g, y, x, *, start, stop, axis):
    """The window goes back one row too late."""
    return (jnp.pad(g, [(start + 1, x.shape[0] - stop - 1), (0, 0)]),)


@op_fault(ops.transpose, normal(3, 3, 3), by=JAX, axes=(1, 2, 0))
def transpose_not_inverted(g, y, x, *, axes):
    """The same permutation again, not its inverse."""
    return (jnp.transpose(g, axes),)


@op_fault(ops.reshape, W, by=JAX, shape=(9,))
def reshape_by_columns(g, y, x, *, shape):
    """Filled back column by column."""
    return (g.reshape(x.shape, order="F"),)


@op_fault(ops.where, KEPT, X, Y, by=JAX)
def where_swapped(g, out, condition, x, y):
    """The branch that was not taken gets the cotangent."""
    return None, jnp.where(condition, 0 * g, g), jnp.where(condition, g, 0 * g)


@op_fault(ops.embed, TABLE, IDS, by=JAX)
def embed_sets(g, y, table, ids):
    """Set for add: of an id that occurs twice only the last counts."""
    return jnp.zeros_like(table).at[ids.reshape(-1)].set(g.reshape(-1, table.shape[1])), None


@op_fault(ops.embed, TABLE, IDS, by=JAX)
def embed_wrong_row(g, y, table, ids):
    """The next row gets the cotangent."""
    return jnp.zeros_like(table).at[ids.reshape(-1) + 1].add(g.reshape(-1, table.shape[1])), None


@op_fault(ops.embed, TABLE, np.sort(IDS.reshape(-1)), by=ORDER)
def embed_expects_order(g, y, table, ids):
    """Sums runs of equal ids, and so is right only where equal ids stand side by side."""
    run = jnp.cumsum(jnp.append(jnp.zeros(1, jnp.int32), (ids[1:] != ids[:-1]).astype(jnp.int32)))
    sums = jax.ops.segment_sum(g, run, ids.shape[0])
    rows = jnp.full_like(ids, table.shape[0]).at[run].set(ids)
    return jnp.zeros_like(table).at[rows].set(sums, mode="drop"), None


@op_fault(ops.embed, TABLE, IDS, by=FLOAT32)
def embed_sums_in_half(g, y, table, ids):
    """Right in float64; in float32 duplicates are summed in 8 bits."""
    dtype = g.dtype if g.dtype == jnp.float64 else jnp.bfloat16
    summed = jnp.zeros(table.shape, dtype).at[ids.reshape(-1)].add(g.reshape(-1, table.shape[1]).astype(dtype))
    return summed.astype(g.dtype), None


@op_fault(ops.take_rows, TABLE, np.array([2, 5, 2, 6, 2**31 - 1], np.int32), by=JAX)
def take_rows_padding_leaks(g, y, table, rows):
    """The cotangents of padding end in the last row."""
    return jnp.zeros_like(table).at[jnp.minimum(rows, table.shape[0] - 1)].add(g), None


@op_fault(ops.embed, BIG, MANY, by=JAX)
def embed_one_row_in_ten_thousand(g, y, table, ids):
    """Of 10,000 rows a single one gets its neighbour's cotangent."""
    rows = jnp.zeros_like(table).at[ids].add(g)
    return rows.at[7000].set(rows[7007]), None


@op_fault(ops.embed, BIG, MANY, by=JAX)
def embed_one_row_one_percent(g, y, table, ids):
    """Of 10,000 rows a single one is 1 % too large."""
    return jnp.zeros_like(table).at[ids].add(g).at[7000].multiply(1.01), None


@op_fault(ops.embed, BIG, MANY, by=UNTOUCHED)
def embed_untouched_row(g, y, table, ids):
    """A row that nothing looks up gets a trace of a cotangent."""
    return jnp.zeros_like(table).at[ids].add(g).at[5].set(1e-18), None


@network_fault(ops.tanh, by=JAX)
def network_slope_of_input(g, y, x):
    """The hidden layer's slope is taken at the wrong value."""
    return (g * (1 - x * x),)


@network_fault(ops.softmax_cross_entropy, by=LINEAR)
def network_upstream_dropped(g, y, logits, labels, mask):
    """The loss forgets its upstream cotangent, which in training is always 1."""
    return _cross_entropy(jnp.ones_like(g), logits, labels, mask)


@network_fault(ops.affine, by=JAX)
def network_bias_one_percent(g, y, x, w, b):
    """The biases' cotangents are 1 % too large."""
    return g @ w.T, x.T @ g, 1.01 * g.sum(0)


@network_fault(ops.embed, by=JAX)
def network_tiny_leaf_lost(g, y, table, ids):
    """The smallest table, whose gradient is some millionths of the whole, gets none."""
    rows = jnp.zeros_like(table).at[ids.reshape(-1)].add(g.reshape(-1, table.shape[1]))
    return rows if table.shape[0] > 3 else jnp.zeros_like(rows), None


@network_fault(ops.embed, by=UNTOUCHED)
def network_padding_row_leaks(g, y, table, ids):
    """Row 0, which no window holds, gets a trace of a cotangent."""
    rows = jnp.zeros_like(table).at[ids.reshape(-1)].add(g.reshape(-1, table.shape[1]))
    return rows.at[0].add(1e-18 if table.shape[0] > 3 else 0.0), None


@network_fault(ops.reshape, by=JAX)
def network_window_off_by_one(g, y, x, *, shape):
    """Each window's words get the cotangents of the next ones."""
    return (jnp.roll(g.reshape(x.shape), 1, 1),)


@network_fault(ops.affine, by=FLOAT32)
def network_float32_only(g, y, x, w, b):
    """Right in float64; in float32 the weights' product is summed in 8 bits."""
    half = g.dtype if g.dtype == jnp.float64 else jnp.bfloat16
    return g @ w.T, (x.T.astype(half) @ g.astype(half)).astype(g.dtype), g.sum(0)
