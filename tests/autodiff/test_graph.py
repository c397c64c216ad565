"""The walk back: fan-out, depth, jax's calling convention, and composition with jax's transformations."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet import autodiff
from windownet.autodiff import Node, graph, ops


class Layer(NamedTuple):
    w: Any
    b: Any


def agree(fun: Callable[..., Any], *args: Any, argnums: Any = 0, has_aux: bool = False, **kwargs: Any) -> Any:
    """Assert that our gradient is jax's, tree and numbers; on plain arrays an op is its forward, so jax can do both."""
    ours = autodiff.value_and_grad(fun, argnums, has_aux)(*args, **kwargs)
    same(ours, jax.value_and_grad(fun, argnums, has_aux)(*args, **kwargs))
    gradient = autodiff.grad(fun, argnums, has_aux)(*args, **kwargs)
    same(gradient, (ours[1], ours[0][1]) if has_aux else ours[1])
    return ours


def same(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (jnp.shape(a), jnp.result_type(a)) == (jnp.shape(b), jnp.result_type(b))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def window_loss(params: Mapping[str, Any], ids: Any, labels: Any, mask: Any) -> Any:
    x = ops.embed(params["table"], ids)
    x = ops.reshape(x, shape=(ids.shape[0], -1))
    h = ops.tanh(ops.affine(x, *params["hidden"]))
    return ops.softmax_cross_entropy(ops.affine(h, *params["out"]), labels, mask)


def window_params(seed: int, V: int = 40, D: int = 4, W: int = 3, H: int = 6, L: int = 5) -> dict[str, Any]:
    normal = np.random.default_rng(seed).standard_normal
    params = {
        "table": normal((V, D)),
        "hidden": Layer(0.5 * normal((W * D, H)), np.zeros(H)),
        "out": Layer(0.5 * normal((H, L)), np.zeros(L)),
    }
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def window_batch(B: int = 7, V: int = 40, W: int = 3, L: int = 5) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, V // 4, (B, W)), rng.integers(0, L, B)
    return jnp.asarray(ids, jnp.int32), jnp.asarray(labels, jnp.int32), jnp.arange(B) != 2


@pytest.mark.parametrize("larger", [ops.maximum, max])
def test_lecture_example(larger: Callable[..., Any]) -> None:
    value, gradients = autodiff.value_and_grad(lambda x, y, z: (x + y) * larger(y, z), argnums=(0, 1, 2))(1.0, 2.0, 0.0)
    assert float(value) == 6
    assert [float(g) for g in gradients] == [2, 5, 0]


FAN_OUTS: dict[str, Callable[[Any], Any]] = {
    "one input twice": lambda x: x * x,
    "leaf three times": lambda x: x * x + x,
    "diamond": lambda x: (lambda y: ops.tanh(y) * ops.exp(y))(x * 3.0),
    "uneven diamond": lambda x: (lambda y: y + ops.tanh(ops.tanh(ops.tanh(y))))(ops.sigmoid(x)),
    "diamond of diamonds": lambda x: (lambda y: (lambda z: z * z)(y * y + y))(x * x - x),
    "n-fold": lambda x: sum((ops.tanh(x * n) for n in (2.0, 3.0, 4.0, 5.0)), start=x),
    "doubled eight times": lambda x: [x := x + x for _ in range(8)][-1],
}


@pytest.mark.parametrize("shape", FAN_OUTS)
def test_fan_out_sums(shape: str) -> None:
    agree(FAN_OUTS[shape], 0.7)


def walk_recursively(seeds: Mapping[Node, Any], join: Callable[[Any, Any], Any]) -> dict[Node, Any]:
    order: list[Node] = []

    def visit(node: Node) -> None:
        if node not in order:
            for x in node.inputs:
                if isinstance(x, Node):
                    visit(x)
            order.append(node)

    for node in seeds:
        visit(node)
    cotangents = dict(seeds)
    for node in reversed([n for n in order if n.op]):
        rule = node.op.vjp(cotangents[node], node.value, *map(autodiff.primal, node.inputs))
        for x, g in zip(node.inputs, rule, strict=True):
            if isinstance(x, Node):
                cotangents[x] = join(cotangents[x], g) if x in cotangents else g
    return cotangents


@pytest.mark.parametrize("shape", FAN_OUTS)
def test_engine_that_overwrites_at_a_fan_out_is_caught(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "backward", lambda seeds: walk_recursively(seeds, lambda old, new: old + new))
    agree(FAN_OUTS[shape], 0.7)
    monkeypatch.setattr(graph, "backward", lambda seeds: walk_recursively(seeds, lambda old, new: new))
    with pytest.raises(AssertionError):
        agree(FAN_OUTS[shape], 0.7)


def test_long_chain_needs_no_recursion() -> None:
    def chain(x: Any) -> Any:
        y = x
        for _ in range(20_000):
            y = ops.add(y, x)
        return y

    assert float(autodiff.grad(chain)(1.0)) == 20_001


def test_operators_are_the_ops() -> None:
    x, y = jnp.asarray([[1.5, -2.0], [0.5, 3.0]]), jnp.asarray([[0.3, 4.0], [-1.0, 2.0]])
    for node, array in (
        (autodiff.record(x) + y, x + y),
        (x + autodiff.record(y), x + y),
        (autodiff.record(x) - y, x - y),
        (x - autodiff.record(y), x - y),
        (autodiff.record(x) * y, x * y),
        (autodiff.record(x) / y, x / y),
        (x / autodiff.record(y), x / y),
        (autodiff.record(x) @ y, x @ y),
        (x @ autodiff.record(y), x @ y),
        (-autodiff.record(x), -x),
        (2 - autodiff.record(x), 2 - x),
        (autodiff.record(x) - 2.5, x - 2.5),
        (1 / autodiff.record(x), 1 / x),
        (np.float32(3) * autodiff.record(x), 3 * x),
        (autodiff.record(x) * np.float32(3), 3 * x),
        (np.asarray(x) - autodiff.record(y), x - y),
        (np.asarray(x) @ autodiff.record(y), x @ y),
    ):
        assert isinstance(node, Node)
        np.testing.assert_array_equal(node.value, array)
    agree(lambda a, b: ops.sum((2 - a) * b / (a * a + 1.0) - 3 / (b @ a) + (-a)), x, y, argnums=(0, 1))


def test_comparisons_compare_values() -> None:
    x = autodiff.record(2.0)
    assert x > 1
    assert x >= autodiff.record(2.0)
    assert x < np.float32(3)
    assert x <= 2
    assert not x > autodiff.record(2.0)
    assert x == 2
    assert x == autodiff.record(2.0)
    assert x != 3
    assert x in (1.0, 2.0)
    assert x
    assert not autodiff.record(0.0)


def test_a_condition_on_a_recorded_value_is_the_one_on_its_value() -> None:
    x = jnp.asarray([0.0, 2.0, -1.0])
    agree(lambda x: ops.sum(ops.where(x == 0.0, x, x * 2.0)), x)
    agree(lambda x: ops.sum(ops.where(x != 0.0, x, x * 2.0)), x)
    agree(lambda x, y: x * 3.0 if x != y else x * y, 2.0, 2.0)
    agree(lambda x: x * 2.0 if x else x * 3.0, 0.0)


@pytest.mark.parametrize(
    "use",
    [lambda n: n[0], lambda n: n**2, lambda n: 2**n, abs, len, list, np.asarray, lambda n: np.array(n, np.float32)],
    ids=["get", "pow", "rpow", "abs", "len", "iter", "numpy", "numpy-dtype"],
)
def test_what_has_no_rule_names_those_that_have(use: Any) -> None:
    with pytest.raises(TypeError, match=r"Node\(leaf, float32\[3\]\): required one of windownet's ops"):
        use(autodiff.record(jnp.ones(3)))


@pytest.mark.parametrize("argnums", [0, 1, -1, -2, (0,), (1, 0), (0, -1), [0, 2]])
def test_argnums_as_in_jax(argnums: Any) -> None:
    agree(lambda x, y, z: ops.tanh(x * y) + y / z, 0.5, -1.25, 3.0, argnums=argnums)


@pytest.mark.parametrize("has_aux", [False, True])
def test_keywords_and_aux_as_in_jax(has_aux: bool) -> None:
    def fun(params: Any, x: Any, *, scale: float) -> Any:
        y = ops.tanh(params["w"] * x)
        loss = ops.sum(y) * scale
        return (loss, {"hidden": y, "plain": x, "none": None}) if has_aux else loss

    ours = agree(fun, {"w": jnp.asarray([0.5, 2.0])}, jnp.asarray([1.0, -1.0]), has_aux=has_aux, scale=3.0)
    assert not any(isinstance(leaf, Node) for leaf in jax.tree.leaves(ours))


@pytest.mark.parametrize(
    ("fun", "params"),
    [
        (lambda p: ops.sum(ops.affine(p[0], *p[1])), [jnp.ones((2, 3)), Layer(jnp.ones((3, 2)), jnp.ones(2))]),
        (lambda p: p[0]["a"] * p[1][0], ({"a": jnp.float32(2), "unused": jnp.ones((2, 3))}, [jnp.float32(3), None])),
        (lambda p: p["a"], {"a": jnp.float32(2)}),
        (lambda p: jnp.float32(3), {"a": jnp.ones(4)}),
        (lambda p: ops.sum(ops.tanh(p["a"])), {"a": jnp.ones((0, 3)), "b": ()}),
        (lambda p: ops.sum(p["half"]), {"half": jnp.ones(3, jnp.bfloat16), "whole": jnp.ones(2)}),
        (lambda p: ops.sum(p[0] * p[1]), (np.ones(3, np.float32), np.full(3, 2, np.float32))),
    ],
)  # fmt: skip
def test_params_are_any_tree(fun: Callable[[Any], Any], params: Any) -> None:
    agree(fun, params)


def test_vjp_as_in_jax() -> None:
    def fun(p: Any, x: Any) -> Any:
        y = ops.tanh(ops.matmul(p["w"], x))
        return {"y": y, "twice": (y, y), "square": y * y, "p": p["b"], "constant": jnp.ones(2)}

    args = (
        {"w": jnp.asarray([[1.0, 2], [3, 4], [5, 6]]) / 9, "b": jnp.ones(2)},
        jnp.asarray([[0.5, 1, 2], [3, -1, 0.1]]),
    )
    value, pull_back = autodiff.vjp(fun, *args)
    expected, jax_pull_back = jax.vjp(fun, *args)
    same(value, expected)
    rng = np.random.default_rng(0)
    for _ in range(2):
        g = jax.tree.map(lambda y: jnp.asarray(rng.standard_normal(y.shape), y.dtype), value)
        same(pull_back(g), jax_pull_back(g))

    value, pull_back, aux = autodiff.vjp(lambda x: (x * x, {"x": x + 1.0}), 3.0, has_aux=True)
    assert (float(value), float(aux["x"]), float(pull_back(jnp.float32(2))[0])) == (9, 4, 12)


def test_same_inside_jit_vmap_and_scan() -> None:
    params, batch = window_params(0), window_batch()
    expected = jax.jit(jax.value_and_grad(window_loss))(params, *batch)
    same(autodiff.value_and_grad(window_loss)(params, *batch), expected)
    same(jax.jit(autodiff.value_and_grad(window_loss))(params, *batch), expected)

    def over_seeds(engine: Any) -> Any:
        return jax.jit(jax.vmap(engine.value_and_grad(window_loss), in_axes=(0, None, None, None)))

    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *map(window_params, range(3)))
    same(over_seeds(autodiff)(stacked, *batch), over_seeds(jax)(stacked, *batch))

    def train(engine: Any) -> Any:
        def step(params: Any, _: None) -> Any:
            loss, gradient = engine.value_and_grad(window_loss)(params, *batch)
            return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient), loss

        return jax.jit(lambda params: jax.lax.scan(step, params, length=5))

    (_, losses), (_, by_jax) = train(autodiff)(params), train(jax)(params)
    assert losses[-1] < losses[0]
    same(losses, by_jax)


def test_jax_differentiates_our_gradient() -> None:
    params, batch = window_params(0), window_batch()

    def penalty(engine: Any) -> Any:
        return lambda p: sum(jnp.sum(g * g) for g in jax.tree.leaves(engine.grad(window_loss)(p, *batch)))

    same(jax.jit(jax.grad(penalty(autodiff)))(params), jax.jit(jax.grad(penalty(jax)))(params))

    def f(x: Any) -> Any:
        return ops.sum(ops.gelu(x) * ops.log(x))

    x = jnp.asarray([0.3, 2.0, 1.1])
    same(jax.jacfwd(autodiff.grad(f))(x), jax.hessian(f)(x))


def test_nothing_of_the_graph_is_left_in_the_compiled_step() -> None:
    params, batch = window_params(0, V=500, D=50, W=5, H=64, L=9), window_batch(128, 500, 5, 9)

    def flops(engine: Any) -> float:
        compiled = jax.jit(engine.value_and_grad(window_loss)).lower(params, *batch).compile()
        return compiled.cost_analysis()["flops"]

    assert flops(autodiff) == pytest.approx(flops(jax), rel=0.02)


def test_import_brings_the_reverse_mode_alone() -> None:
    listing = "import sys, windownet.autodiff; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    ours = {m for m in modules if m.split(".")[0] == "windownet"}
    assert {m for m in ours if not m.startswith("windownet.autodiff")} == {"windownet"}
    assert "windownet.autodiff.ops.tables" in ours
    assert not {"flax", "optax", "datasets", "pydantic"} & set(modules)
