"""What rules and callers owe the reverse mode: each breach is a TypeError that says what was required and what came."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet import autodiff
from windownet.autodiff import Op, ops
from windownet.autodiff.graph import record

X = jnp.asarray([1.0, 2.0, 3.0])


def product_with(rule: Callable[..., Any]) -> Op:
    return Op("product", lambda x, y: x * y, rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda g, z, x, y: (g * y,), r"one cotangent for each of its 2 inputs \(x f32, y f32\), got a tuple of 1"),
        (lambda g, z, x, y: (g * y, g * x, None), r"each of its 2 inputs \(x f32, y f32\), got a tuple of 3"),
        (lambda g, z, x, y: [g * y, g * x], r"must return a tuple .*\(x f32, y f32\), got one list"),
        (lambda g, z, x, y: None, r"must return a tuple .*\(x f32, y f32\), got one NoneType"),
        (lambda g, z, x, y: (g * y, (g * x)[:1]), r"cotangent of y f32: required f32, got float32\[1\]"),
        (lambda g, z, x, y: ((g * y).sum(), g * x), r"cotangent of x f32: required f32, got float32\[\]"),
        (
            lambda g, z, x, y: (g * y, (g * x).astype(jnp.float16)),
            r"cotangent of y f32: required f32, got float16\[3\]",
        ),
        (lambda g, z, x, y: (g * y, 1.0), r"cotangent of y f32: required f32, got float"),
        (lambda g, z, x, y: (None, g * x), r"cotangent of x f32: required f32, got None"),
    ],
)
@pytest.mark.parametrize("recorded", [(0, 1), (0,)])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_rule_that_breaks_its_contract(rule: Any, message: str, recorded: Any, transform: Any) -> None:
    gradient = transform(autodiff.grad(lambda x, y: ops.sum(product_with(rule)(x, y)), argnums=recorded))
    with pytest.raises(TypeError, match=r"op 'product'.*" + message.replace("f32", r"float32\[3\]")):
        gradient(X, X)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_cotangent_for_ids_is_refused(dtype: str) -> None:
    lookup = Op("lookup", lambda table, ids: table[ids], lambda g, y, table, ids: (table, ids.astype(dtype)))
    with pytest.raises(TypeError, match=rf"op 'lookup': cotangent of ids int32\[2\]: required None, got {dtype}\[2\]"):
        autodiff.grad(lambda table: ops.sum(lookup(table, jnp.asarray([0, 2], jnp.int32))))(X)


def test_input_that_is_not_recorded_may_have_no_cotangent() -> None:
    op = product_with(lambda g, z, x, y: (g * y, None))
    np.testing.assert_array_equal(autodiff.grad(lambda x: ops.sum(op(x, X)))(X), X)


def test_op_is_frozen_and_has_its_rule() -> None:
    with pytest.raises(TypeError, match="vjp"):
        Op("half", lambda x: x / 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"op 'half': vjp must be a function, got None"):
        Op("half", lambda x: x / 2, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"op 'half': forward must be a function, got 0.5"):
        Op("half", 0.5, lambda g, y, x: (g / 2,))  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ops.add.vjp = ops.subtract.vjp  # type: ignore[misc]
    assert ops.relu.__doc__ == "max(x, 0)."


@pytest.mark.parametrize(
    ("fun", "args", "kwargs", "message"),
    [
        (lambda x: x * 2, (X,), {}, r"must return one floating scalar, got float32\[3\]; reduce it with ops\.sum"),
        (lambda x: jnp.int32(3), (X,), {}, r"must return one floating scalar, got int32\[\]"),
        (lambda x: ops.sum(x), (X,), {"has_aux": True}, r"must return a pair \(value, aux\), got Node\(sum, float32"),
        (lambda x: [ops.sum(x), X], (X,), {"has_aux": True}, r"must return a pair \(value, aux\)"),
        (
            lambda p, q: p,
            (X, {"a": [1.0, jnp.arange(3)]}),
            {"argnums": 1},
            r"floating arrays; argument 1\['a'\]\[1\] is int32\[3\]",
        ),
        (lambda p: p, ({"mask": X > 1},), {}, r"floating arrays; argument 0\['mask'\] is bool\[3\]"),
        (lambda p: p, ({"n": 3},), {}, r"floating arrays; argument 0\['n'\] is int32\[\]"),
        (lambda p: p, ("text",), {}, r"floating arrays; argument 0 is str"),
        (lambda p: p, (X,), {"argnums": 1}, r"argnums must name positional arguments, each once; got \(1,\) for 1"),
        (lambda p, q: p, (X, X), {"argnums": (0, -3)}, r"each once; got \(0, -3\) for 2"),
        (lambda p, q: p, (X, X), {"argnums": (0, -2)}, r"each once; got \(0, -2\) for 2"),
        (lambda p: (ops.sum(p), 1), (X,), {}, r"one floating scalar, got tuple; .*set has_aux"),
        (lambda p: None, (X,), {}, r"one floating scalar, got NoneType"),
    ],
)
def test_function_that_cannot_be_differentiated(fun: Any, args: Any, kwargs: Any, message: str) -> None:
    for transform in (autodiff.value_and_grad, autodiff.grad):
        with pytest.raises((TypeError, ValueError), match="value_and_grad: .*" + message):
            transform(fun, **kwargs)(*args)


@pytest.mark.parametrize(
    ("cotangents", "message"),
    [
        ((X,), r"must have the value's tree PyTreeDef\(\{'y': \*\}\), got PyTreeDef\(\(\*,\)\)"),
        ({"y": X, "z": X}, "must have the value's tree"),
        ({"y": X[:1]}, r"a cotangent must be float32\[3\] like its value, got float32\[1\]"),
        ({"y": X.astype(jnp.float16)}, r"must be float32\[3\] like its value, got float16\[3\]"),
        ({"y": jnp.arange(3)}, r"must be float32\[3\] like its value, got int32\[3\]"),
    ],
)
def test_cotangents_unlike_the_value(cotangents: Any, message: str) -> None:
    _, pull_back = autodiff.vjp(lambda x: {"y": x * x}, X)
    with pytest.raises(TypeError, match="vjp: .*" + message):
        pull_back(cotangents)


def test_recordings_do_not_nest_and_say_so() -> None:
    with pytest.raises(TypeError, match=r"recorded already, and recordings do not nest; for second derivatives"):
        autodiff.grad(lambda x: autodiff.grad(lambda y: y * y)(x))(1.0)


NESTED = {
    "a value": lambda x: autodiff.value_and_grad(lambda y: ops.sum(ops.multiply(x, y)))(X)[0],
    "a gradient": lambda x: ops.sum(autodiff.grad(lambda y: ops.sum(ops.multiply(ops.multiply(x, y), y)))(X)),
    "auxiliary data": lambda x: autodiff.value_and_grad(lambda y: (ops.sum(y), {"x": x}), has_aux=True)(X)[0][1]["x"],
    "what is pulled back": lambda x: ops.sum(autodiff.vjp(lambda y: ops.multiply(x, y), X)[1](X)[0]),
    "an output of vjp": lambda x: ops.sum(autodiff.vjp(lambda y: (y, ops.square(x)), X)[0][1]),
}


@pytest.mark.parametrize("name", NESTED)
def test_nor_do_they_by_what_a_function_closes_over(name: str) -> None:
    with pytest.raises(TypeError, match=r"Node\(leaf, float32\[3\]\) is recorded already, and recordings do not nest"):
        autodiff.grad(NESTED[name])(X)


def test_what_is_recorded_inside_is_a_constant() -> None:
    np.testing.assert_array_equal(autodiff.grad(lambda x: ops.sum(ops.multiply(x, record(X))))(X), X)
    _, aux = autodiff.grad(lambda x: (ops.sum(x), record(X)), has_aux=True)(X)
    np.testing.assert_array_equal(aux, X)


def test_a_number_of_numpy_names_an_argument() -> None:
    gradient = autodiff.grad(lambda x, y: ops.sum(ops.multiply(x, y)), argnums=np.int64(1))(X, 2 * X)
    np.testing.assert_array_equal(gradient, X)


def test_plain_inputs_are_held_as_jax_holds_them() -> None:
    double = np.arange(3.0)
    assert double.dtype == np.float64
    np.testing.assert_array_equal(autodiff.grad(lambda x: ops.sum(x * double))(X), double)
    assert autodiff.grad(lambda x: ops.multiply(x, 2.0))(jnp.float32(3)) == 2


def test_inputs_of_a_variadic_op_are_named_by_their_place() -> None:
    join = Op("join", ops.concatenate.forward, lambda g, y, *xs, axis=0: (g[:3], g))
    with pytest.raises(TypeError, match=r"op 'join': cotangent of arrays\[1\] float32\[3\]: required float32\[3\]"):
        autodiff.grad(lambda x: ops.sum(join(x, X)))(X)


def test_vjp_of_what_is_not_floating() -> None:
    with pytest.raises(TypeError, match=r"vjp: .*floating arrays; argument 1\['ids'\] is int32\[3\]"):
        autodiff.vjp(lambda x, p: x, X, {"ids": jnp.arange(3)})
    with pytest.raises(TypeError, match=r"vjp: under has_aux the function must return a pair"):
        autodiff.vjp(lambda x: x, X, has_aux=True)
