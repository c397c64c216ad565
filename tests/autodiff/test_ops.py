"""Every op's rule against `jax.vjp` of its forward, on hard samples and random ones; and what it owes at the edges."""

import importlib
import itertools
import math
import pkgutil
import statistics
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from op_samples import SAMPLES, SATURATING, TINY, Sample, sample, samples, ties

from windownet.autodiff import Op, ops, value_and_grad
from windownet.autodiff.ops import OPS, nonlinearities

# The slope does not depend on the inputs' values: a NaN among them stays out of the cotangents.
LINEAR = {"add", "concatenate", "dropout", "embed", "mean", "negate", "reshape", "slice", "subtract", "sum"} | {
    "take_rows",
    "transpose",
    "where",
}
NONLINEARITIES = [name for name, op in OPS.items() if op.forward.__module__ == nonlinearities.__name__]


def is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def compare(
    op: Op, given: Sequence[Sample], seed: int = 0, dtype: Any = jnp.float64, rtol: float = 1e-10
) -> list[jax.Array]:
    """Assert that the rule agrees with `jax.vjp` of the forward in float64, for random upstream cotangents.

    The rule runs in `dtype` on inputs that `dtype` can hold. Returns the forward's values.
    """
    rng = np.random.default_rng(seed)

    # A fresh function each time: jit would otherwise give a rule replaced by a test its predecessor's program.
    def both(drawn: list[tuple[Any, ...]], upstream: list[Any]) -> list[tuple[Any, Any, Any]]:
        results = []
        for inputs, g, one in zip(drawn, upstream, given, strict=True):
            floats = [i for i, x in enumerate(inputs) if is_float(x)]

            def forward(*values: Any, inputs: Any = inputs, floats: Any = floats, static: Any = one.static) -> Any:
                merged = dict(enumerate(inputs)) | dict(zip(floats, values, strict=True))
                return op.forward(*merged.values(), **static)

            exact = jax.vjp(forward, *(inputs[i].astype(jnp.float64) for i in floats))[1](g.astype(jnp.float64))
            value = forward(*(inputs[i] for i in floats))
            rule = op.cotangents(g, value, *inputs, **one.static)
            results.append((value, rule, dict(zip(floats, exact, strict=True))))
        return results

    with jax.enable_x64(True):
        drawn = [tuple(x.astype(dtype) if is_float(x) else x for x in one.inputs) for one in given]
        shapes = [jax.eval_shape(lambda *xs, s=one: op.forward(*xs, **s.static), *one.inputs).shape for one in given]
        upstream = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        # Compiling is what takes the time here.
        results = jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})(drawn, upstream)
        for one, inputs, g, (_, rule, exact) in zip(given, drawn, upstream, results, strict=True):
            assert len(rule) == len(inputs)
            for i, (ours, x) in enumerate(zip(rule, inputs, strict=True)):
                where = f"{op.name}, input {i} of {[x.shape for x in inputs]} {dict(one.static)}"
                if not is_float(x):
                    assert ours is None, where
                    continue
                assert (ours.shape, ours.dtype) == (x.shape, x.dtype), where
                # Saturation leaves a slope that is rounding alone, so it is held against the upstream's size.
                atol = rtol * 1e-3 * np.abs(exact[i]).max(initial=0) + rtol * 1e-4 * np.abs(g).max(initial=0)
                np.testing.assert_allclose(ours.astype(jnp.float64), exact[i], rtol, atol, err_msg=where)
    return [value for value, _, _ in results]


def masked_cross_entropy(z: np.ndarray, labels: np.ndarray, mask: np.ndarray, *, smoothing: float = 0.0) -> np.floating:
    log_softmax = z - np.logaddexp.reduce(z, -1, keepdims=True)
    target = (1 - smoothing) * np.eye(z.shape[-1])[labels] + smoothing / z.shape[-1]
    losses = -(target * log_softmax).sum(-1)
    return losses[mask].sum() / max(mask.sum(), 1)


def masked_margin(z: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> np.floating:
    rows = np.arange(len(labels))
    missed = z + 1 - z[rows, labels][:, None]
    missed[rows, labels] = 0
    return np.maximum(missed.max(-1), 0)[mask].sum() / max(mask.sum(), 1)


# What the forwards compute, in numpy; the arithmetic ones are jax's functions of the same name.
REFERENCES: dict[str, Callable[..., Any]] = {
    "affine": lambda x, w, b: np.einsum("...i,io->...o", x, w) + b,
    "binary_logistic": lambda z, labels: np.logaddexp(0, np.where(labels, -z, z)).mean(),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
    "dropout": lambda x, mask, *, rate: x * mask / (1 - rate),
    "elu": lambda x, *, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x)),
    "embed": lambda table, ids: table[ids],
    "gelu": lambda x: x * np.vectorize(statistics.NormalDist().cdf)(x),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x, *, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
    "matmul": lambda x, y: np.einsum("...mk,...kn->...mn", x, y),
    "mean": lambda x, *, axis: np.mean(x, axis),
    "multiclass_margin": masked_margin,
    "prelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "reshape": lambda x, *, shape: np.reshape(x, shape),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "slice": lambda x, *, start, stop, axis: np.take(x, range(start, stop), axis),
    "softmax_cross_entropy": masked_cross_entropy,
    "softplus": lambda x: np.logaddexp(0, x),
    "sum": lambda x, *, axis: np.sum(x, axis),
    "take_rows": lambda table, rows: np.vstack([table, np.zeros_like(table[:1])])[np.minimum(rows, len(table))],
    "transpose": lambda x, *, axes=None: np.transpose(x, axes),
    "weighted_logistic": lambda z, labels, w: (w * np.logaddexp(0, np.where(labels, -z, z))).sum(),
    "where": lambda condition, x, y: np.where(condition, x, y),
}


def missing_from(table: Mapping[str, Op], modules: Iterable[types.ModuleType]) -> list[str]:
    found = [(m, op) for m in modules for op in vars(m).values() if isinstance(op, Op)]
    return [f"{m.__name__}: {op.name}" for m, op in found if table.get(op.name) is not op]


def test_every_op_of_the_modules_is_in_the_table() -> None:
    modules = [importlib.import_module(f"{ops.__name__}.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]
    assert not missing_from(OPS, modules), "hand these on in src/windownet/autodiff/ops/__init__.py"
    assert not [name for name, op in OPS.items() if getattr(ops, name) is not op]
    assert SAMPLES.keys() | REFERENCES.keys() <= OPS.keys()

    forgotten = types.ModuleType("forgotten")
    forgotten.cube = Op("cube", lambda x: x * x * x, lambda g, y, x: (3 * g * x * x,))  # type: ignore[attr-defined]
    assert missing_from(OPS, [forgotten]) == ["forgotten: cube"]


def test_op_without_samples_says_what_to_do() -> None:
    with pytest.raises(LookupError, match=r"op 'cube' has no samples: add a row .* tests/autodiff/op_samples\.py"):
        samples("cube", 0)


def test_table_is_immutable() -> None:
    with pytest.raises(TypeError):
        OPS["add"] = OPS["subtract"]  # type: ignore[index]


@pytest.mark.parametrize("name", OPS)
def test_rule_equals_jax_and_forward_its_definition(name: str) -> None:
    given = samples(name, seed=0)
    for value, one in zip(compare(OPS[name], given), given, strict=True):
        if name in REFERENCES:
            np.testing.assert_allclose(value, REFERENCES[name](*one.inputs, **one.static), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OPS)
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_rule_equals_jax_on_any_size_and_scale(name: str, data: st.DataObject) -> None:
    size = st.integers(0, 5)
    scale = st.sampled_from((1e-6, TINY, 1.0, SATURATING, 1e4))
    one = sample(
        name,
        np.random.default_rng(data.draw(st.integers(0, 1_000), label="seed")),
        *(data.draw(size, label=axis) for axis in "mkn"),
        scale=data.draw(scale, label="scale"),
        variant=data.draw(st.integers(0, 5), label="variant"),
    )
    compare(OPS[name], [one])


@pytest.mark.parametrize("name", OPS)
def test_rule_in_float32_stays_near_float64(name: str) -> None:
    compare(OPS[name], samples(name, seed=1)[2:4], dtype=jnp.float32, rtol=2e-4)


def test_samples_are_hard() -> None:
    for name in OPS:
        assert samples(name, 3)[0].inputs[0].size == 1
        assert any(min(x.size for x in one.inputs) > 1 for one in samples(name, 3))
    squares = [
        one for one in samples("matmul", 3) if len(set(one.inputs[0].shape[-2:] + one.inputs[1].shape[-2:])) == 1
    ]
    assert max(one.inputs[0].shape[-1] for one in squares) > 1
    for name in ("embed", "take_rows"):
        assert any(len(np.unique(one.inputs[1])) < one.inputs[1].size for one in samples(name, 3))
    assert any((one.inputs[1] >= one.inputs[0].shape[0]).any() for one in samples("take_rows", 3))
    assert {one.inputs[0].shape[0] > 32 for one in samples("embed", 3)} == {True, False}
    masks = [one.inputs[2] for one in samples("softmax_cross_entropy", 3)]
    assert any(m.all() for m in masks) and any(not m.any() for m in masks)


# Each rule with a fault that is easily made; `compare` must refuse it on the samples that it accepts the right one on.
FAULTS = {
    "transpose forgotten": ("matmul", lambda g, y, a, b: (g @ b if a.shape == b.shape else g @ b.mT, a.mT @ g)),
    "repeated ids set": ("embed", lambda g, y, t, ids: (jnp.zeros_like(t).at[ids].set(g), None)),
    "repeated rows set": ("take_rows", lambda g, y, t, rows: (jnp.zeros_like(t).at[rows].set(g, mode="drop"), None)),
    "padding leaks": ("take_rows", lambda g, y, t, rows: (jnp.zeros_like(t).at[rows].add(g, mode="clip"), None)),
    "mean for sum": (
        "affine",
        lambda g, y, x, w, b: (*ops.affine.vjp(g, y, x, w, b)[:2], ops.affine.vjp(g, y, x, w, b)[2] / 2),
    ),
    "sum for mean": ("mean", lambda g, y, x, *, axis=None: ops.sum.vjp(g, y, x, axis=axis)),
    "upstream ignored": (
        "softmax_cross_entropy",
        lambda g, y, *xs, **static: ops.softmax_cross_entropy.vjp(g / g, y, *xs, **static),
    ),
    "a margin that is kept pulls on": (
        "multiclass_margin",
        lambda g, y, z, t, m: ops.multiclass_margin.vjp(g, y, z - 1e3 * jax.nn.one_hot(t, z.shape[-1]), t, m),
    ),
    "rival among all tags": (
        "multiclass_margin",
        lambda g, y, z, t, m: (
            jnp.where((z.argmax(-1).astype(t.dtype) == t)[:, None], 0.0, ops.multiclass_margin.vjp(g, y, z, t, m)[0]),
            None,
            None,
        ),
    ),
    "weights ignored": (
        "weighted_logistic",
        lambda g, y, z, t, w: ops.weighted_logistic.vjp(g, y, z, t, jnp.ones_like(w)),
    ),
    "mask ignored": (
        "softmax_cross_entropy",
        lambda g, y, z, t, m, **static: ops.softmax_cross_entropy.vjp(g, y, z, t, m | True, **static),
    ),
    "smoothing ignored": (
        "softmax_cross_entropy",
        lambda g, y, *xs, smoothing=0.0: ops.softmax_cross_entropy.vjp(g, y, *xs),
    ),
    "dropout not rescaled": ("dropout", lambda g, y, x, m, *, rate: (g * m.astype(g.dtype), None)),
    "slope from the input": ("tanh", lambda g, y, x: (g * (1 - x * x),)),
    "one slope for all units": (
        "prelu",
        lambda g, y, x, s: (g * jnp.where(x >= 0, 1.0, s[0]), ops.prelu.vjp(g, y, x, s)[1]),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(fault: str) -> None:
    name, rule = FAULTS[fault]
    with pytest.raises(AssertionError, match=f"{name}, input"):
        compare(replace(OPS[name], vjp=rule), samples(name, seed=0))


JAX_FUNCTIONS = {
    "elu": lambda x, *, alpha: jax.nn.elu(x, alpha),
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "prelu": lambda x, slope: jax.vmap(jax.nn.leaky_relu)(x.T, slope).T,
    "relu": jax.nn.relu,
}


@pytest.mark.parametrize("name", [n for n in OPS if ties(n, 0)])
def test_slope_at_a_kink_is_that_of_jax_own_function(name: str) -> None:
    compare(replace(OPS[name], forward=JAX_FUNCTIONS[name]), ties(name, 0))


@pytest.mark.parametrize(
    ("name", "inputs", "static", "slopes"),
    [
        ("relu", (0.0,), {}, (0.0,)),
        ("leaky_relu", (0.0,), {"negative_slope": 0.3}, (1.0,)),
        ("elu", (0.0,), {"alpha": 0.7}, (0.7,)),
        ("hard_tanh", (1.0,), {}, (1.0,)),
        ("hard_tanh", (-1.0,), {}, (1.0,)),
        ("maximum", (2.0, 2.0), {}, (0.5, 0.5)),
        ("minimum", (2.0, 2.0), {}, (0.5, 0.5)),
    ],
)
def test_slope_at_a_kink_is_the_documented_one(name: str, inputs: Any, static: Any, slopes: Any) -> None:
    arrays = [jnp.float32(x) for x in inputs]
    np.testing.assert_allclose(OPS[name].vjp(jnp.float32(1), OPS[name](*arrays, **static), *arrays, **static), slopes)


@pytest.mark.parametrize("name", sorted(OPS.keys() - LINEAR))
def test_nan_input_gives_nan_gradient(name: str) -> None:
    op, one = OPS[name], next(s for s in samples(name, 0)[1:] if all(x.dtype != bool or x.all() for x in s.inputs))
    # An affine's slopes are its x and w; its b is in none.
    for i in (i for i, x in enumerate(one.inputs) if is_float(x) and (name, i) != ("affine", 2)):
        inputs = [jnp.asarray(x) for x in one.inputs]
        # Units of a PReLU use their slope below zero only.
        inputs = [-jnp.abs(inputs[0]), *inputs[1:]] if name == "prelu" else inputs
        inputs[i] = inputs[i].at[(0,) * inputs[i].ndim].set(jnp.nan)
        y = op(*inputs, **one.static)
        cotangents = [c for c in op.vjp(jnp.ones_like(y), y, *inputs, **one.static) if c is not None]
        assert any(jnp.isnan(c).any() for c in cotangents), i
        if len(cotangents) == 1 and y.shape == inputs[0].shape:
            np.testing.assert_array_equal(np.isnan(cotangents[0]), np.isnan(inputs[0]))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearity_stays_finite_far_out(name: str) -> None:
    x = jnp.asarray([-1e4, -90, -20, -1, 0, 1, 20, 90, 1e4], jnp.float32)
    inputs = (x, jnp.full_like(x, 0.25)) if name == "prelu" else (x,)
    y = OPS[name](*inputs)
    assert np.isfinite(y).all()
    slope = OPS[name].vjp(jnp.ones_like(y), y, *inputs)[0]
    # Far out each of them is a line: its slope there is its limit's.
    left, right = {"leaky_relu": (0.01, 1), "prelu": (0.25, 1), "tanh": (0, 0), "sigmoid": (0, 0)}.get(
        name, (0, 0 if name == "hard_tanh" else 1)
    )
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[jnp.asarray([0, -1])], [left, right], rtol=0, atol=1e-7)
    # jax's derivative of the rule as well: a branch not taken must not overflow into it.
    curvature = jax.grad(lambda x: OPS[name].vjp(jnp.ones_like(x), OPS[name](x, *inputs[1:]), x, *inputs[1:])[0].sum())
    assert np.isfinite(curvature(x)).all()


def test_losses_stay_finite_far_out() -> None:
    logits = jnp.asarray([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], jnp.float32)
    labels, mask = jnp.asarray([1, 2]), jnp.ones(2, bool)
    loss = ops.softmax_cross_entropy(logits, labels, mask)
    np.testing.assert_allclose(loss, (2e4 + np.log(2)) / 2, rtol=1e-6)
    gradient = ops.softmax_cross_entropy.vjp(jnp.ones_like(loss), loss, logits, labels, mask)[0]
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0], [0, 0.25, -0.25]], atol=1e-6)

    logits, labels = jnp.asarray([1e4, -1e4, -1e4, 1e4], jnp.float32), jnp.asarray([False, True, False, True])
    loss = ops.binary_logistic(logits, labels)
    np.testing.assert_allclose(loss, 5e3, rtol=1e-6)
    gradient = ops.binary_logistic.vjp(jnp.ones_like(loss), loss, logits, labels)[0]
    np.testing.assert_allclose(gradient, [0.25, -0.25, 0, 0], atol=1e-6)


def test_embed_sums_the_cotangents_of_a_repeated_id() -> None:
    for rows in (3, 40):
        table, ids, g = jnp.zeros((rows, 2)), jnp.asarray([2, 0, 2]), jnp.asarray([[1.0, 2], [3, 4], [5, 6]])
        gradient = ops.embed.vjp(g, ops.embed(table, ids), table, ids)[0]
        np.testing.assert_array_equal(gradient[:3], [[3, 4], [0, 0], [6, 8]])


@pytest.mark.parametrize("height", [10, 40])
def test_an_id_beyond_the_ends_counts_as_the_last_or_the_first(height: int) -> None:
    table, ids = jnp.arange(2.0 * height).reshape(height, 2), jnp.asarray([-1, 3, height + 30])
    y, (cotangent, _) = ops.embed(table, ids), ops.embed.vjp(jnp.ones((3, 2)), None, table, ids)
    np.testing.assert_array_equal(y, table[jnp.asarray([0, 3, height - 1])])
    np.testing.assert_array_equal(cotangent, jnp.zeros_like(table).at[jnp.asarray([0, 3, height - 1])].set(1))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "int64"])
@pytest.mark.parametrize("name", ["embed", "take_rows"])
def test_ids_of_any_integer_dtype_are_the_same_rows(name: str, dtype: str) -> None:
    table, ids = jnp.arange(140_000.0).reshape(-1, 2), np.asarray([1, 2, 120])
    with jax.enable_x64(True):
        looked_up = value_and_grad(lambda table, ids: ops.sum(ops.square(OPS[name](table, ids))))
        for found, expected in zip(looked_up(table, jnp.asarray(ids, dtype)), looked_up(table, ids), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("far", [2**32 + 1, -(2**32) + 1, 2**40])
def test_ids_of_64_bits_are_not_cut_to_32(far: int) -> None:
    with jax.enable_x64(True):
        table, ids = jnp.arange(80.0).reshape(40, 2), jnp.asarray([3, far])
        end = 39 if far > 0 else 0
        np.testing.assert_array_equal(ops.embed(table, ids), table[jnp.asarray([3, end])])
        cotangent = ops.embed.cotangents(jnp.ones((2, 2)), None, table, ids)[0]
        np.testing.assert_array_equal(np.flatnonzero(cotangent[:, 0]), sorted([3, end]))
        np.testing.assert_array_equal(ops.take_rows(table, ids), [[6, 7], [0, 0]])


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16, jnp.uint32])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "multiclass_margin"])
def test_labels_of_any_integer_dtype_are_the_same_labels(name: str, dtype: Any) -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 300)), jnp.float32)
    labels, mask = jnp.asarray([0, 7, 100]), jnp.ones(3, bool)
    loss = value_and_grad(OPS[name])
    for found, expected in zip(loss(logits, labels.astype(dtype), mask), loss(logits, labels, mask), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("label", [True, False])
def test_the_logistic_rules_keep_their_digits_far_out(label: bool) -> None:
    z = jnp.asarray([10.0, 15.0, 17.0, 40.0, -10.0, -40.0])
    labels, sign = jnp.full(6, label), -1.0 if label else 1.0
    expected = sign / (1 + np.exp(-sign * np.asarray(z, np.float64)))
    (found, _) = ops.binary_logistic.vjp(jnp.asarray(6.0), None, z, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = ops.weighted_logistic.vjp(jnp.asarray(1.0), None, z, labels, jnp.ones(6))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_padding_rows_read_zeros_and_give_nothing_back() -> None:
    table, rows = jnp.ones((3, 2)), jnp.asarray([1, 3, 2_000_000_000])
    slab = ops.take_rows(table, rows)
    np.testing.assert_array_equal(slab, [[1, 1], [0, 0], [0, 0]])
    np.testing.assert_array_equal(ops.take_rows.cotangents(slab + 1, slab, table, rows)[0], [[0, 0], [2, 2], [0, 0]])


def test_a_share_may_be_an_array_of_a_compiled_program() -> None:
    x, mask = jnp.asarray([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]]), jnp.asarray([[True, False, True], [True, True, False]])
    labels, counts = jnp.asarray([2, 0]), jnp.ones(2, bool)

    def dropped(rate: Any) -> Any:
        return value_and_grad(lambda x: ops.sum(ops.square(ops.dropout(x, mask, rate=rate))))(x)

    def smoothed(share: Any) -> Any:
        return value_and_grad(lambda x: ops.softmax_cross_entropy(x, labels, counts, smoothing=share))(x)

    def drawn(rate: Any) -> Any:
        return ops.draw_mask(jax.random.key(0), (31, 33), rate)

    for function in (dropped, smoothed, drawn):
        for share in (0.0, 0.3, 0.75):
            expected, found = function(share), jax.jit(function)(jnp.float32(share))
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, expected)
        different = [jax.tree.leaves(function(share))[-1] for share in (0.3, 0.75)]
        assert (different[0] != different[1]).any()


def test_draw_mask_keeps_the_stated_share() -> None:
    for rate in (0.0, 0.25, 0.9):
        mask = ops.draw_mask(jax.random.key(1), (301, 333), rate)
        assert (mask.shape, mask.dtype) == ((301, 333), bool)
        assert abs(float(mask.mean()) - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / mask.size) + 1e-9
    with jax.enable_x64(True):
        np.testing.assert_array_equal(mask, ops.draw_mask(jax.random.key(1), (301, 333), rate))
    assert (mask != ops.draw_mask(jax.random.key(2), (301, 333), rate)).any()


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_draw_mask_decides_each_value_by_itself(impl: str) -> None:
    mask = np.asarray(ops.draw_mask(jax.random.key(1, impl=impl), (201, 501), 0.5)).reshape(-1)
    half = (mask.size + 1) // 2
    # Both halves of a word count, and neither value tells its neighbour's or that of its word's other half.
    for distance in (1, 2, 501, half):
        agree = (mask[distance:] == mask[:-distance]).mean()
        assert abs(agree - 0.5) < 4 * 0.5 / math.sqrt(mask.size - distance)


def test_draw_mask_under_vmap_is_each_key_s_own() -> None:
    keys = jax.random.split(jax.random.key(1), 3)
    together = jax.vmap(lambda key: ops.draw_mask(key, (5, 7), 0.5))(keys)
    for mask, key in zip(together, keys, strict=True):
        np.testing.assert_array_equal(mask, ops.draw_mask(key, (5, 7), 0.5))


@pytest.mark.parametrize("width", [3, 32, 33])
@pytest.mark.parametrize("leading", [(4,), (2, 3)])
def test_affine_under_vmap_in_any_place(leading: tuple[int, ...], width: int) -> None:
    # Over all three cotangents together, XLA once failed for the transposed product of a narrow layer.
    rng, last = np.random.default_rng(0), len(leading) + 1
    g, x, w = (
        jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, *leading, width), (3, *leading, 3), (3, width))
    )
    rows, upstream = np.asarray(x).reshape(3, -1, 3), np.asarray(g).reshape(3, -1, width)
    expected = g @ w.T, rows.transpose(0, 2, 1) @ upstream, upstream.sum(1)

    def rule(g: Any, x: Any) -> Any:
        return ops.affine.vjp(g, g, x, w, jnp.zeros(width))

    for places in itertools.product((0, last), (0, last), (0, 1)):
        moved = jnp.moveaxis(g, 0, places[0]), jnp.moveaxis(x, 0, places[1])
        found = jax.jit(jax.vmap(rule, in_axes=places[:2], out_axes=places[2]))(*moved)
        for cotangent, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(jnp.moveaxis(cotangent, places[2], 0), right, rtol=1e-4, atol=1e-5)
