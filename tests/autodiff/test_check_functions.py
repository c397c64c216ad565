"""The checker on functions of one's own: what a rule owes where jax's own derivative is the only other authority."""

import re
from collections.abc import Callable
from typing import Any

import faults
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet.autodiff import Op, ops
from windownet.autodiff.check import check_custom_vjp, check_gradients, check_op
from windownet.autodiff.report import Report

X = np.random.default_rng(4).standard_normal((4, 3))
NON_FINITE = faults.NON_FINITE
Function = Callable[..., Any]


def _by_jax(f: Function) -> tuple[Function, Function]:
    return f, lambda g, *args: jax.vjp(f, *args)[1](g)


def _as_custom(f: Function) -> Any:
    custom = jax.custom_vjp(f)
    custom.defvjp(lambda *args: (f(*args), args), lambda args, g: jax.vjp(f, *args)[1](g))
    return custom


def _witnesses(report: Report) -> set[str]:
    return {c.witness for c in report.wrong}


@pytest.mark.parametrize("f", [jnp.linalg.cholesky, jnp.linalg.inv])
def test_a_dtype_that_jax_has_no_operation_for_is_not_owed(f: Function) -> None:
    report = check_custom_vjp(_by_jax(lambda x: f(x)), X.T @ X + np.eye(3))
    report.raise_if_wrong()
    assert report.duties["bfloat16"] is None and report.duties["float32"] is not None


def test_a_rule_that_does_not_run_where_jax_s_own_does_is_wrong() -> None:
    def rule(g: Any, x: Any) -> tuple[Any]:
        return (2 * x * g * jnp.linalg.inv(jnp.eye(1, dtype=x.dtype)),)

    assert _witnesses(check_custom_vjp((jnp.square, rule), X)) == {"bfloat16"}


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_arrays_of_size_zero_are_checked(shape: tuple[int, ...]) -> None:
    check_custom_vjp(_as_custom(lambda x: 2 * x), np.zeros(shape)).raise_if_wrong()
    both = _as_custom(lambda x, y: (2 * x, x.sum() + y * y))
    check_custom_vjp(both, np.zeros(shape), X).raise_if_wrong()
    wrong = (both, lambda g, x, y: (2 * g[0] + g[1].sum(), 2.01 * y * g[1]))
    assert not check_custom_vjp(wrong, np.zeros(shape), X).ok


def test_the_caller_s_settings_change_nothing() -> None:
    with jax.transfer_guard("disallow"):
        check_op(ops.tanh, X).raise_if_wrong()
        check_custom_vjp(_as_custom(jnp.sin), X).raise_if_wrong()
        check_gradients(lambda p: ops.sum(ops.square(p)), X).raise_if_wrong()
    with jax.disable_jit():
        assert not faults.FAULTS["square_decides_by_value"].build().check().ok


@pytest.mark.parametrize(
    "f",
    [
        jnp.abs,
        jax.nn.relu,
        lambda x: jnp.max(x, 0),
        lambda x: jnp.sort(x, 0),
        lambda x: jax.lax.top_k(x, 2)[0],
        lambda x: jnp.clip(x, -1, 1),
        lambda x: jax.ops.segment_max(x, jnp.array([0, 1, 0, 1]), 2),
    ],
)
def test_jax_s_own_derivative_is_right_at_a_nan(f: Function) -> None:
    check_custom_vjp(_by_jax(f), X).raise_if_wrong()
    check_op(Op("f", lambda x: f(x), lambda g, y, x: jax.vjp(f, x)[1](g)), X).raise_if_wrong()


@pytest.mark.parametrize(
    ("f", "slope", "wrong"),
    [
        # jax's own is not finite: a rule that is, lost a NaN.
        (jnp.tanh, lambda x: jnp.nan_to_num(1 - jnp.tanh(x) ** 2), {NON_FINITE}),
        (jnp.square, lambda x: 2 * jnp.nan_to_num(x), {NON_FINITE}),
        # jax's own is finite.
        (jax.nn.relu, lambda x: jnp.where(x > 0, 1.0, 0.0), set()),
        # The function is finite, and only jax's own is not.
        (
            lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0),
            lambda x: jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0),
            set(),
        ),
        (lambda x: jnp.where(x > 0, x, 0.0), lambda x: jnp.where(x > 0, 1.0, 0.0), set()),
    ],
)
def test_a_nan_may_be_lost_where_jax_or_the_function_loses_it(f: Function, slope: Function, wrong: set[str]) -> None:
    assert _witnesses(check_custom_vjp((f, lambda g, x: (g * slope(x).astype(x.dtype),)), X)) == wrong


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, set()), (1.001, {"float32"})])
def test_what_leaves_a_dtype_s_range_is_not_owed_there_but_its_neighbours_are(factor: float, wrong: set[str]) -> None:
    check_op(ops.exp, [100.0, 1.0]).raise_if_wrong()

    def rule(g: Any, y: Any, x: Any) -> tuple[Any]:
        return (g * y * (factor if x.dtype == jnp.float32 else 1.0),)

    assert _witnesses(check_op(faults.with_rule(ops.exp, rule), np.array([100.0, 1.0]))) == wrong


def _variance(x: Any) -> Any:
    return (x * x).mean() - x.mean() ** 2


@pytest.mark.parametrize(
    ("check", "shape", "seed"),
    [
        (lambda x, seed: check_op(ops.gelu_tanh, 10 * x, seed=seed), (4, 3), 0),
        (lambda x, seed: check_custom_vjp(_by_jax(lambda x: jax.nn.softmax(100 * x)), x, seed=seed), (4, 3), 0),
        (lambda x, seed: check_custom_vjp(_by_jax(lambda x: jax.nn.softmax(1000 * x)), x, seed=seed), (4, 3), 0),
        (lambda x, seed: check_op(ops.tanh, 100 * x, seed=seed), (4, 3), 2),
        (lambda x, seed: check_custom_vjp(_by_jax(_variance), 1e4 + x, seed=seed), (64,), 0),
        (lambda x, seed: check_custom_vjp(_as_custom(_variance), 1e4 + x, seed=seed), (64,), 1),
    ],
)
def test_right_rules_that_rounding_moves_are_accepted(check: Any, shape: tuple[int, ...], seed: int) -> None:
    check(np.random.default_rng(seed).standard_normal(shape), seed).raise_if_wrong()


def test_an_error_of_a_saturated_rule_is_seen() -> None:
    x = 100 * np.random.default_rng(2).standard_normal((4, 3))
    # Far beyond what rounding explains, and a millionth of a millionth of any slope in the middle.
    rule = faults.with_rule(ops.tanh, lambda g, y, x: (g * (1 - y * y + 1e-10),))
    assert {"jax.vjp", "central differences"} <= _witnesses(check_op(rule, x))


def test_a_function_that_changes_from_call_to_call_is_not_deterministic() -> None:
    calls = iter(range(10**6))

    def drifting(x: Any) -> Any:
        return x + jax.pure_callback(
            lambda: np.asarray(1e-13 * next(calls), x.dtype),
            jax.ShapeDtypeStruct((), x.dtype),
            vmap_method="sequential",
        )

    with pytest.raises(ValueError, match="a deterministic function is required; two calls gave different values"):
        check_gradients(lambda p: ops.sum(Op("drifting", drifting, lambda g, y, x: (g,))(p)), X)


@pytest.mark.parametrize("f", [jnp.square, jax.nn.sigmoid])
def test_the_dtype_that_was_given_is_tried(f: Function) -> None:
    def pair(rule: Function) -> tuple[Function, Function]:
        return f, lambda g, x: tuple(rule(c) if x.dtype == jnp.float16 else c for c in jax.vjp(f, x)[1](g))

    x = X.astype(np.float16)
    right = check_custom_vjp(pair(lambda c: c), x)
    right.raise_if_wrong()
    assert {"float16", "float32", "bfloat16"} <= set(right.duties)
    assert _witnesses(check_custom_vjp(pair(lambda c: 1.01 * c), x)) == {"float16"}
    assert _witnesses(check_custom_vjp(pair(lambda c: c.astype(jnp.float32)), x)) == {"float16"}


def test_the_dtype_of_a_model_s_parameters_is_tried() -> None:
    def rule(g: Any, y: Any, x: Any) -> tuple[Any]:
        return (2 * g * x * (1.05 if x.dtype == jnp.bfloat16 else 1.0),)

    square = faults.with_rule(ops.square, rule)
    report = check_gradients(lambda p: ops.sum(square(p)), jnp.asarray(X, jnp.bfloat16))
    assert _witnesses(report) == {"bfloat16"}


@pytest.mark.parametrize(
    ("zero", "refused"),
    [
        (lambda ids: None, None),
        (lambda ids: np.zeros(ids.shape, jax.dtypes.float0), None),
        (lambda ids: np.zeros(ids.size + 1, jax.dtypes.float0), "float0[4]"),
        (lambda ids: jnp.zeros_like(ids), "int32[3]"),
    ],
)
def test_an_integer_argument_has_no_cotangent_or_float0(zero: Function, refused: str | None) -> None:
    ids = np.array([0, 2, 2], np.int32)
    rule = lambda g, table, ids: (jnp.zeros_like(table).at[ids].add(g), zero(ids))  # noqa: E731
    report = check_custom_vjp((lambda table, ids: table[ids], rule), X, ids)
    wanted = f"contract: raised TypeError: cotangent of ids: required None or float0[3], got {refused}"
    assert report.ok if refused is None else str(report.worst) == wanted


def test_an_op_has_no_float0() -> None:
    # `backward` would refuse it.
    rule = lambda g, y, table, ids: (jnp.zeros_like(table).at[ids].add(g), np.zeros(3, jax.dtypes.float0))  # noqa: E731
    worst = check_op(faults.with_rule(ops.embed, rule), X, np.array([0, 2, 2], np.int32)).worst
    assert "cotangent of ids: required None, got float0[3]" in str(worst)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: check_custom_vjp((lambda x: (x, {"z": jax.lax.complex(x, x)}), lambda g, x: (g[0],)), X),
            r"<lambda>: real outputs are required, got complex128\[4,3\] in output\.1\.z; return its real and",
        ),
        (
            lambda: check_custom_vjp(_as_custom(lambda x: jax.lax.complex(x, x)), X),
            r"<lambda>: real outputs are required, got complex128\[4,3\] in output; return its real and imaginary",
        ),
        (
            lambda: check_custom_vjp((lambda x, c: x + c["a"].real, lambda g, x, c: (g, None)), X, {"a": X + 0j}),
            r"<lambda>: real arguments are required, got complex128\[4,3\] in c\.a; pass its real and imaginary",
        ),
        (
            lambda: check_op(Op("f", lambda x, c: x + c.real, lambda g, y, x, c: (g, None)), X, 1j),
            r"op 'f': real arguments are required, got complex128\[\] in c; pass its real and imaginary parts",
        ),
        (
            lambda: check_op(Op("f", lambda x: jax.lax.complex(x, x), lambda g, y, x: (g.real,)), X),
            r"op 'f': an output that follows its inputs' dtype is required, .* got complex128\[4,3\]",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(p), X + 0j),
            r"in every leaf of params, leaf .* is complex128\[4,3\]; pass its real and imaginary parts",
        ),
    ],
)
def test_complex_numbers_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_a_gradient_that_is_nan_where_the_function_has_a_slope_is_wrong() -> None:
    # jax's own derivative is NaN there too, so only differences tell.
    def root(x: Any) -> Any:
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)

    report = check_custom_vjp(_by_jax(root), np.array([-1.0, 0.25, 0.75]))
    assert str(report.worst).startswith("x[0]: central differences: hand nan, required 0 ")

    def log(params: Any) -> Any:
        return ops.sum(ops.where(np.arange(600) != 500, ops.log(params["x"]), np.zeros(600)))

    x = np.linspace(0.5, 1, 600)
    check_gradients(log, {"x": x}).raise_if_wrong()
    x[500] = 0
    worst = str(check_gradients(log, {"x": x}).worst)
    assert worst.startswith("x[500]: central differences: hand nan, required 0 "), worst


@pytest.mark.parametrize(("share", "wrong"), [(True, set()), (False, {"kinks together"})])
@pytest.mark.parametrize(("groups", "ties"), [(1, 20), (9, 9), (12, 2)])
def test_a_tie_of_many_is_one_tie(groups: int, ties: int, share: bool, wrong: set[str]) -> None:
    x = np.random.default_rng(0).standard_normal((groups, 3 * ties))
    x[:, :ties] = 3

    def rule(g: Any, x: Any) -> tuple[Any]:
        most = (x == x.max(-1, keepdims=True)).astype(x.dtype)
        return (g * (most / most.sum(-1, keepdims=True) if share else most),)

    assert _witnesses(check_custom_vjp((lambda x: x.max(-1).sum(), rule), x)) == wrong


def test_a_symmetry_by_chance_owes_no_order() -> None:
    def path(table: Any, tags: Any) -> Any:
        return table[tags[:-1], tags[1:]].sum()

    def rule(g: Any, table: Any, tags: Any) -> tuple[Any, None]:
        return jnp.zeros_like(table).at[tags[:-1], tags[1:]].add(g), None

    report = check_custom_vjp((path, rule), np.zeros((3, 3)), np.array([0, 1, 2, 0, 0]))
    report.raise_if_wrong()
    assert report.duties["order of duplicates"] is None


def test_none_is_the_cotangent_of_an_argument_without_floats() -> None:
    def scaled(x: Any, bias: Any, ids: Any) -> Any:
        return x * ids["a"].astype(x.dtype) + (0 if bias is None else bias)

    def rule(g: Any, x: Any, bias: Any, ids: Any) -> tuple[Any, None, None]:
        return g * ids["a"].astype(g.dtype), None, None

    arguments = None, {"a": np.arange(3), "b": np.arange(2)}
    check_custom_vjp((scaled, rule), np.ones(3), *arguments).raise_if_wrong()
    wrong = check_custom_vjp((scaled, lambda g, x, bias, ids: (None, None, None)), np.ones(3), *arguments)
    assert "cotangent of x: required float64[3], got None" in str(wrong.worst)


def _newton(x: Any) -> Any:
    return jax.lax.while_loop(lambda y: jnp.abs(y * y - x) > 1e-12, lambda y: (y + x / y) / 2, x + 1)


def _softmax_in_float32(x: Any) -> Any:
    return jax.nn.softmax(x.astype(jnp.float32)).astype(x.dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_custom_vjp((_newton, lambda g, x: (g / (2 * _newton(x)),)), 2.0), "jax.vjp can differentiate"),
        (
            lambda: check_custom_vjp(_by_jax(_softmax_in_float32), X.astype(np.float32)),
            "computes in its arguments' dtype is required",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(p["w"]), {"w": X}, reference=lambda p: jnp.sum(p["v"])),
            "the reference must take the loss's params; of these it raised KeyError: 'v'",
        ),
        (lambda: check_gradients(lambda p: jnp.sum(p["w"]), {"w": X}), "a loss in windownet's ops is required"),
        (lambda: check_op(ops.matmul, X), "as op 'matmul' takes them are required, (x: "),
        (lambda: check_gradients(lambda p: "loss", {"w": X}), "must return one floating scalar, got str"),
    ],
)
def test_what_cannot_be_checked_is_refused_by_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_rows_that_a_table_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="rows 0 to 3 of leaf t are required, got 9"):
        check_gradients(
            lambda p: ops.sum(ops.take_rows(p["t"], np.arange(3))), {"t": X}, rows={"t": np.array([0, 1, 2, 9])}
        )
