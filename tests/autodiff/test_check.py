"""The checker: what it accepts, what it names, and that none of its witnesses leans on another."""

import json
import re
from collections.abc import Callable
from typing import Any

import faults
import jax
import jax.numpy as jnp
import numpy as np
import op_samples
import pytest

from windownet.autodiff import Op, RowSparse, ops
from windownet.autodiff.check import check_custom_vjp, check_gradients, check_op
from windownet.autodiff.proof.differences import Differences, Slopes
from windownet.autodiff.proof.problem import Problem
from windownet.autodiff.report import Comparison

RNG = np.random.default_rng(3)
X, W, B = RNG.standard_normal((4, 3)), RNG.standard_normal((3, 2)), RNG.standard_normal(2)


def _witnesses(report: Any) -> set[str]:
    return {c.witness for c in report.wrong}


def test_no_right_rule_is_refused_over_a_hundred_seeds() -> None:
    names, refused = sorted(ops.OPS), []
    for seed in range(100):
        name = names[seed % len(names)]
        drawn = op_samples.samples(name, seed)
        sample = drawn[seed // len(names) * 3 % len(drawn)]
        report = check_op(ops.OPS[name], *sample.inputs, seed=seed, **sample.static)
        refused += [f"{name}, seed {seed}: {report.worst}"] if not report.ok else []
    assert not refused, f"{len(refused)} of 100: {refused}"


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (ops.matmul, (np.zeros((0, 3)), np.ones((3, 2)))),
        (ops.concatenate, (np.ones((2, 0)), np.ones((2, 0)))),
        (ops.add, (np.float64(3), np.float64(4))),
        (ops.sqrt, (np.array([0.0, 1.0, 4.0]),)),
        (ops.divide, (np.array([0.0, 1.0, 4.0]), np.array([1.0, 0.0, 3.0]))),
        (ops.exp, (np.array([-1e300, 0.0, 1e3]),)),
    ],
)
def test_right_rules_at_the_edges_are_accepted(op: Op, inputs: tuple[Any, ...]) -> None:
    check_op(op, *inputs).raise_if_wrong()


SMALL = np.array([0, 0, 0, 0, 1e-6])


def test_a_rule_that_is_right_at_zeros_only() -> None:
    low = Op("low", lambda x, a, b: x @ a @ b, lambda g, y, x, a, b: (g @ b.T @ a.T, 5 * x.T @ g @ b.T, (x @ a).T @ g))
    for op, inputs in (
        (Op("square", lambda x: x * x, lambda g, y, x: (3 * g * x,)), (np.zeros(5),)),
        # Right again where the size of the other numbers is nothing to go by.
        (Op("near", jnp.square, lambda g, y, x: (jnp.where((x != 0) & (abs(x) < 4e-7), 3, 2) * g * x,)), (SMALL,)),
        (low, (X, RNG.standard_normal((3, 2)), np.zeros((2, 3)))),
    ):
        assert [c.witness for c in check_op(op, *inputs).wrong] == ["another point"]


def test_a_promise_of_rows_that_each_occur_once_is_held_to() -> None:
    table, rows = np.ones((4, 2)), np.array([1, 1, 2])
    own = Op("own", lambda t, i: t[i], lambda g, y, t, i: (RowSparse(i, g, len(t), unique=True), None))
    for op, static in ((ops.take_rows, {"unique": True}), (own, {})):
        assert not check_op(op, table, rows, **static).ok
        report = check_gradients(
            lambda t, i, op=op, static=static: ops.sum(ops.square(op(t, i, **static))), table, rows
        )
        assert not report.ok
        assert not report.ops[op.name].ok
        check_op(op, table, rows[1:], **static).raise_if_wrong()


@pytest.mark.parametrize("name", ["maximum", *op_samples.KINKS])
def test_right_rules_on_their_kinks_are_accepted_and_counted(name: str) -> None:
    for sample in op_samples.ties(name, seed=2):
        report = check_op(ops.OPS[name], *sample.inputs, **sample.static)
        report.raise_if_wrong()
        assert report.kinks > 0 or name == "elu"


@pytest.mark.parametrize(("at_zero", "ok"), [(0.0, True), (0.5, True), (1.0, True), (1.5, False), (-0.1, False)])
def test_a_kink_allows_what_lies_between_its_sides(at_zero: float, ok: bool) -> None:
    x = np.array([-1.3, 0.0, 0.4, 0.0, 2.0])

    def rule(g: Any, y: Any, x: Any) -> tuple[Any]:
        slope = jnp.where(x == 0, at_zero, (x > 0).astype(jnp.float32)).astype(x.dtype)
        return (g * (slope + 0 * x),)

    report = check_op(faults.with_rule(ops.relu, rule), x)
    assert report.ok is ok
    assert report.kinks == 2 if ok else {"jax.vjp", "central differences"} <= _witnesses(report)


@pytest.mark.parametrize(("factor", "ok"), [(1.0, True), (1.01, False)])
def test_kinks_nearby_at_every_distance_are_stepped_around(factor: float, ok: bool) -> None:
    offsets = np.concatenate([sign * 10.0 ** -np.arange(1, 8) for sign in (-1, 1)])

    def forward(b: jax.Array) -> jax.Array:
        return jnp.maximum(jnp.broadcast_to(b, offsets.shape) + offsets.astype(b.dtype), 0).mean() + 300

    def rule(g: Any, y: Any, b: Any) -> tuple[Any]:
        above = jnp.broadcast_to(b, offsets.shape) > -offsets.astype(b.dtype)
        return (factor * g * above.astype(b.dtype).mean() + 0 * b,)

    report = check_op(Op("f", forward, rule), np.zeros(()))
    assert (report.kinks, _witnesses(report)) == (0, set() if ok else {"jax.vjp", "central differences"})


def test_too_many_kinks_prove_nothing() -> None:
    assert check_op(ops.relu, np.zeros(1)).duties["share of kinks"].error == 1
    assert _witnesses(check_op(ops.relu, np.zeros(5))) == {"share of kinks"}


def _kinked_network(relu: Op) -> Any:
    # Word 0 is all zeros and the biases are zero, so its windows stand on every unit's kink.
    params = {"words": RNG.standard_normal((9, 3)), "w": RNG.standard_normal((3, 4)), "b": np.zeros(4)}
    params["words"][0] = 0
    ids = np.array([0, 3, 4, 0, 5, 7], np.int32)

    def loss(params: Any, ids: Any) -> Any:
        hidden = relu(ops.affine(ops.embed(params["words"], ids), params["w"], params["b"]))
        return ops.mean(ops.square(hidden - 1.0))

    return check_gradients(loss, params, ids)


def test_a_network_on_its_kinks_is_accepted_and_they_are_counted() -> None:
    report = _kinked_network(ops.relu)
    report.raise_if_wrong()
    assert {leaf.name: leaf.kinks > 0 for leaf in report.leaves} == {"words": True, "w": False, "b": True}


def test_a_network_whose_kinks_are_taken_otherwise_than_jax_does() -> None:
    def half(g: Any, y: Any, x: Any) -> tuple[Any]:
        return (g * (0.5 * jnp.sign(x) + 0.5),)

    assert _kinked_network(faults.with_rule(ops.relu, half)).ops["relu"].ok


@pytest.mark.parametrize(("error", "caught"), [(1e-12, False), (1e-9, True)])
def test_an_error_of_one_entry_in_the_tenth_digit_is_seen(error: float, caught: bool) -> None:
    def rule(g: Any, y: Any, x: Any, w: Any, b: Any) -> Any:
        return g @ w.T, (x.T @ g).at[1, 0].multiply(1 + error), g.sum(0)

    report = check_op(faults.with_rule(ops.affine, rule), X, W, B)
    assert report.ok is not caught
    if caught:
        assert (report.worst.op, report.worst.leaf, report.worst.place) == ("affine", "w", "[1, 0]")


def test_differences_see_an_error_that_both_derivations_share() -> None:
    def forward(x: jax.Array) -> jax.Array:
        return x * x + jax.lax.stop_gradient(1e-5 * x * x)

    report = check_op(Op("f", forward, lambda g, y, x: (2 * g * x,)), X)
    assert _witnesses(report) == {"central differences"}


def _without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Problem, "witness", lambda self, leaves, others, g: self.hand(leaves, others, g))


def _without_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = lambda self, probes, relative: Slopes(*np.full((5, len(probes), np.shape(relative)[-1]), np.nan))  # noqa: E731
    monkeypatch.setattr(Differences, "slopes", nothing)


@pytest.mark.parametrize(
    ("without", "left"), [(_without_jax, "central differences"), (_without_differences, "jax.vjp")]
)
@pytest.mark.parametrize("name", ["affine_one_percent", "embed_sets", "network_bias_one_percent"])
def test_each_witness_stands_alone(
    without: Callable[[pytest.MonkeyPatch], None], left: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    assert left in _witnesses(faults.FAULTS[name].build().check())


def test_a_network_s_report_names_the_op_the_leaves_and_the_curve() -> None:
    report = faults.FAULTS["network_slope_of_input"].build().check()
    assert report.worst.op == "tanh"
    assert [name for name, c in report.ops.items() if not c.ok] == ["tanh"]
    assert {leaf.name for leaf in report.leaves if not leaf.ok} == {"words", "capitals", "hidden.weight", "hidden.bias"}
    assert all(leaf.worst is not None and leaf.probes > 0 and leaf.sweep for leaf in report.leaves)
    hidden = next(leaf for leaf in report.leaves if leaf.name == "hidden.weight")
    errors = [error for _, error in hidden.sweep]
    # A V: truncation on the left, rounding on the right, and the chosen step at its bottom.
    assert min(errors) < 1e-4 * errors[0] and min(errors) < 0.1 * errors[-1]
    assert dict(hidden.sweep)[hidden.step] < 1e-6
    text = str(report)
    assert all(word in text for word in ("WRONG", "output.weight", "step sweep", "0 kinks", "seed 0"))


def test_raise_if_wrong_states_the_worst_in_one_line_then_the_table() -> None:
    check_op(ops.tanh, X).raise_if_wrong()
    with pytest.raises(AssertionError) as caught:
        faults.FAULTS["embed_sets"].build().check().raise_if_wrong()
    first, *table = str(caught.value).splitlines()
    assert re.match(r"embed: wrong gradient: op 'embed', table\[4, \d\]: jax.vjp: hand .* required .* tolerance", first)
    assert any("untouched" in line for line in table)


def test_a_report_is_plain_json_and_repeats_for_its_seed() -> None:
    def report(seed: int) -> dict[str, Any]:
        return check_op(ops.relu, np.append(X, [np.inf, 0.0]), seed=seed).to_json()

    first, again, other = report(1), report(1), report(2)
    assert json.loads(json.dumps(first, allow_nan=False)) == first == again != other
    assert first["seed"] == 1 and first["leaves"][0]["kinks"] == first["kinks"] == 1


def test_a_nan_is_never_right() -> None:
    broken = faults.with_rule(ops.tanh, lambda g, y, x: ((g * (1 - y * y)).at[2, 1].set(jnp.nan),))
    worst = check_op(broken, X).worst
    assert (worst.place, worst.error) == ("[2, 1]", np.inf)
    assert not any(Comparison("", "", "", 0, 0, *numbers).ok for numbers in ((np.nan, 1.0), (0.0, np.nan)))


def test_rows_that_are_not_read_are_found_and_counted() -> None:
    case = faults.network({})
    words = next(leaf for leaf in case.check().leaves if leaf.name == "words")
    # Windows whose label does not count read nothing that the loss notices.
    assert words.untouched == 40 - len(np.unique(case.inputs[1][:6]))


def test_known_rows_are_required_to_be_all() -> None:
    case = faults.network({})
    rows = np.unique(case.inputs[1][:6])
    check_gradients(case.subject, *case.inputs, rows={"words": rows}).raise_if_wrong()
    with pytest.raises(ValueError, match=rf"rows: every row of leaf words .* it reads row {rows[0]}, which"):
        check_gradients(case.subject, *case.inputs, rows={"words": rows[1:]})
    with pytest.raises(ValueError, match=r"rows: the name of a leaf is required \(capitals, .*\), got word"):
        check_gradients(case.subject, *case.inputs, rows={"word": rows})
    with pytest.raises(ValueError, match=r"rows: a table \[V, D\] is required, leaf output.bias has shape \[4\]"):
        check_gradients(case.subject, *case.inputs, rows={"output.bias": rows})


def _plain(params: Any, ids: Any, capitals: Any, labels: Any, mask: Any) -> Any:
    x = [params["words"][ids].reshape(8, 12), 1e-6 * params["capitals"][capitals].reshape(8, 6)]
    hidden = jnp.tanh(jnp.concatenate(x, 1) @ params["hidden"]["weight"] + params["hidden"]["bias"][None])
    logits = hidden @ params["output"]["weight"] + params["output"]["bias"][None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]
    return -jnp.where(mask, chosen, 0).sum() / mask.sum().astype(chosen.dtype)


def test_a_reference_in_plain_jax_is_a_witness_of_its_own() -> None:
    case = faults.network({})
    check_gradients(case.subject, *case.inputs, reference=_plain).raise_if_wrong()
    wrong = check_gradients(case.subject, *case.inputs, reference=lambda *args: 1.01 * _plain(*args))
    assert {"value", "jax.vjp"} <= _witnesses(wrong)


LARGE_IDS = RNG.integers(0, 1500, (60, 3), dtype=np.int32)


def _large(embed: Op = ops.embed, bend: Op = ops.tanh, **options: Any) -> Any:
    # Too large to be evaluated at many displacements at once. Word 0 is all zeros, so a window of it is on every kink.
    table = 0.3 * np.random.default_rng(8).standard_normal((1500, 4)).astype(np.float32)
    table[0] = 0
    weight = jnp.asarray(np.random.default_rng(9).standard_normal((12, 2)), jnp.bfloat16)
    ids = LARGE_IDS.copy()
    ids[5] = 0

    def loss(params: Any, ids: Any) -> Any:
        hidden = bend(ops.matmul(ops.reshape(embed(params["table"], ids), shape=(60, 12)), params["weight"]))
        return ops.mean(ops.square(hidden - 0.5))

    return check_gradients(loss, {"table": table, "weight": weight}, ids, **options), np.unique(ids)


def test_a_large_network_is_accepted() -> None:
    done: list[tuple[int, int, str]] = []
    report, rows = _large(progress=lambda *step: done.append(step))
    report.raise_if_wrong()
    assert [leaf.dtype for leaf in report.leaves] == ["float32", "bfloat16"]
    assert report.leaves[0].untouched == 1500 - len(rows)
    assert done[-1][0] == done[-1][1] and all(a <= b for a, b, _ in done)


def test_a_row_of_a_large_network_that_is_wrong_in_its_eighth_digit_is_named() -> None:
    row = int(np.unique(LARGE_IDS)[7])

    def rule(g: Any, y: Any, table: Any, ids: Any) -> Any:
        rows = jnp.zeros_like(table).at[ids.reshape(-1)].add(g.reshape(-1, 4))
        return rows.at[row].multiply(1 - 1e-8), None

    worst = _large(embed=faults.with_rule(ops.embed, rule))[0].worst
    assert (worst.leaf, worst.place.split(",")[0]) == ("table", f"[{row}")


def test_differences_see_what_a_large_network_s_derivations_share() -> None:
    def forward(x: jax.Array) -> jax.Array:
        return x * x + jax.lax.stop_gradient(1e-4 * x * x)

    report, _ = _large(bend=Op("bend", forward, lambda g, y, x: (2 * g * x,)))
    assert _witnesses(report) == {"central differences"}
    assert not any(leaf.ok for leaf in report.leaves)


def test_a_large_network_whose_kinks_are_taken_otherwise_than_jax_does() -> None:
    def half(g: Any, y: Any, x: Any) -> tuple[Any]:
        return (g * (0.5 * jnp.sign(x) + 0.5),)

    report, _ = _large(bend=faults.with_rule(ops.relu, half))
    report.raise_if_wrong()
    assert report.kinks > 0


def test_settings_are_as_before_and_every_dtype_is_checked_in_float64() -> None:
    def settings() -> list[Any]:
        return [jax.config.values[name] for name in ("jax_enable_x64", "jax_debug_nans", "jax_default_device")]

    before = settings()
    for dtype in (np.float16, np.float32, jnp.bfloat16, np.float64):
        report = check_op(ops.tanh, X.astype(dtype))
        report.raise_if_wrong()
        assert report.leaves[0].dtype == jnp.dtype(dtype).name
    assert settings() == before


@jax.custom_vjp
def lookup(table: jax.Array, ids: jax.Array) -> jax.Array:
    return table[ids]


def _lookup_forward(table: jax.Array, ids: jax.Array) -> Any:
    return table[ids], (table, ids)


def _lookup_backward(saved: Any, g: jax.Array) -> Any:
    table, ids = saved
    return jnp.zeros_like(table).at[ids].add(g).at[123].multiply(1.01), None


lookup.defvjp(_lookup_forward, _lookup_backward)


def test_a_custom_vjp_with_one_wrong_row_is_named() -> None:
    table, ids = RNG.standard_normal((1000, 5)).astype(np.float32), np.arange(1, 1000, 2)
    report = check_custom_vjp(lookup, table, ids)
    assert (report.subject, report.worst.leaf, report.worst.place[:5]) == ("lookup", "table", "[123,")
    check_custom_vjp(lookup, table, ids[ids != 123]).raise_if_wrong()
    with pytest.raises(TypeError, match=r"jax.custom_vjp.* is required, got lookup; .* pass the inner one"):
        check_custom_vjp(jax.jit(lookup), table, ids)


def _custom(value: Callable[..., Any], rule: Callable[..., Any]) -> Any:
    def power(n: int, x: Any) -> Any:
        return {"y": x["a"] ** n * x["b"]}

    f = jax.custom_vjp(power, nondiff_argnums=(0,))
    f.defvjp(lambda n, x: (value(power(n, x)), x), rule)
    return f


def _power_rule(n: int, x: Any, g: Any) -> Any:
    return ({"a": g["y"] * n * x["a"] ** (n - 1) * x["b"], "b": g["y"] * x["a"] ** n},)


def test_a_custom_vjp_of_trees_with_arguments_that_are_not_differentiated() -> None:
    args = 3, {"a": X, "b": np.abs(X)}
    right = check_custom_vjp(_custom(lambda y: y, _power_rule), *args)
    right.raise_if_wrong()
    assert [leaf.name for leaf in right.leaves] == ["x.a", "x.b"]
    other_value = _custom(lambda y: {"y": 1.001 * y["y"]}, _power_rule)
    assert _witnesses(check_custom_vjp(other_value, *args)) == {"value"}
    swapped = _custom(lambda y: y, lambda n, x, g: (dict(zip("ba", _power_rule(n, x, g)[0].values(), strict=True)),))
    assert "jax.vjp" in _witnesses(check_custom_vjp(swapped, *args))


def test_a_pair_of_a_function_and_its_rule() -> None:
    def forward(x: Any, layer: Any) -> Any:
        return x @ layer["w"] + layer["b"][None]

    def rule(g: Any, x: Any, layer: Any) -> Any:
        return g @ layer["w"].T, {"w": x.T @ g, "b": g.sum(0)}

    args = X, {"w": W, "b": B}
    check_custom_vjp((forward, rule), *args).raise_if_wrong()
    transposed = check_custom_vjp(
        (forward, lambda g, x, layer: (g @ layer["w"].T, {"w": g.T @ x, "b": g.sum(0)})), *args
    )
    assert str(transposed.worst) == (
        "contract: raised TypeError: cotangent of layer: required float64[3,2], got float64[2,3]"
    )
    tree = check_custom_vjp((forward, lambda g, x, layer: (g @ layer["w"].T, x.T @ g)), *args)
    assert "cotangent of layer: required the tree PyTreeDef({'b': *, 'w': *})" in str(tree.worst)


def _random(x: jax.Array) -> jax.Array:
    return x * float(np.random.default_rng().uniform(1, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_op(jnp.tanh, X), TypeError, "check_op: an Op is required, got"),
        (lambda: check_op(ops.embed, [1.5], np.arange(3)), TypeError, "embed: required a table"),
        (lambda: check_op(ops.negate, np.arange(3)), TypeError, "at least one floating array is required .* got none"),
        (lambda: check_op(ops.affine, X, W.T, B), TypeError, r"affine: required .* got \[4, 3\], \[2, 3\] and \[2\]"),
        (
            lambda: check_op(Op("f", lambda x: x.astype(jnp.float32), lambda g, y, x: (g,)), X),
            TypeError,
            r"op 'f': an output that follows its inputs' dtype is required, .* got float32\[4,3\]",
        ),
        (lambda: check_op(Op("f", _random, lambda g, y, x: (g,)), X), ValueError, "f: a deterministic function"),
        (
            lambda: check_gradients(lambda p: ops.mean(p["x"] * _factor()), {"x": X}),
            ValueError,
            "a deterministic function is required; two calls gave different values",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(p["x"]), {"x": X, "ids": np.arange(3)}),
            TypeError,
            r"a floating array is required in every leaf of params, leaf ids is int64\[3\]; pass it in the batch",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(p["x"], axis=0), {"x": X}),
            TypeError,
            r"the loss must return one floating scalar, got float64\[3\]",
        ),
        (
            lambda: check_gradients(lambda p: (ops.sum(p["x"]), 1), {"x": X}),
            TypeError,
            r"the loss must return one floating scalar, got \('float64\[\]', 'int",
        ),
        (
            lambda: check_gradients(lambda p, x: ops.sum(p * x), X, X, reference=lambda p: p.sum()),
            TypeError,
            r"the reference must take the loss's arguments, params and 1 of the batch; <lambda>\(p\) does not",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(p), X, reference=lambda p: p.sum(0)),
            TypeError,
            r"the reference must return one floating scalar, got float64\[3\]",
        ),
        (
            lambda: check_gradients(lambda p: ops.sum(ops.log(p)), X),
            ValueError,
            "check_gradients: a finite loss is required, got nan",
        ),
        (lambda: check_gradients(lambda p: 1.0, {}), TypeError, "at least one floating array is required"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def _factor() -> float:
    return float(np.random.default_rng().uniform(1, 2))


def test_a_rule_swapped_in_is_the_rule_that_is_checked() -> None:
    # jax caches what it compiled by the function's identity; a check must not see yesterday's rule.
    right, wrong = Op("f", jnp.tanh, ops.tanh.vjp), Op("f", jnp.tanh, lambda g, y, x: (g,))
    assert [check_op(op, X).ok for op in (right, wrong, right)] == [True, False, True]
