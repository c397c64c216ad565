"""RowSparse: sums, merging and the walk back."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

from windownet import autodiff
from windownet.autodiff import RowSparse, ops, rows as rows_module
from windownet.autodiff.rows import is_row_sparse, put, sum_by_row, take
from windownet.data.batches import Batch
from windownet.model.network import WindowNetwork
from windownet.optim.rowwise import rowwise

V, D = 5, 2


def dense(rows: Any, values: Any, height: int = V) -> np.ndarray:
    table = np.zeros((height, np.shape(values)[1]))
    for row, value in zip(np.asarray(rows), np.asarray(values), strict=True):
        if row < height:
            table[row] += value
    return table


def make(rows: list[int], seed: int = 0) -> RowSparse:
    values = np.random.default_rng(seed).integers(-9, 9, (len(rows), D)).astype(np.float32)
    return RowSparse(jnp.asarray(rows, jnp.int32), jnp.asarray(values), V)


lists = st.lists(st.integers(0, V), max_size=8)


@settings(deadline=None, max_examples=30)
@given(lists, lists)
def test_sums(first: list[int], second: list[int]) -> None:
    a, b = make(first), make(second, 1)
    expected = dense(a.rows, a.values) + dense(b.rows, b.values)
    np.testing.assert_array_equal((a + b).to_dense(), expected)
    np.testing.assert_array_equal(a + b.to_dense(), expected)
    np.testing.assert_array_equal(a.to_dense() + b, expected)
    merged = (a + b).merged()
    named = np.asarray(merged.rows)[np.asarray(merged.rows) < V]
    assert len(set(named.tolist())) == len(named)
    np.testing.assert_array_equal(dense(merged.rows, merged.values), expected)
    assert merged.merged() is merged


def test_sum_of_a_list() -> None:
    both = [make([0, 2]), make([2, V], 1)]
    for zero in (0, 0.0, np.int64(0)):
        np.testing.assert_array_equal((zero + both[0]).to_dense(), both[0].to_dense())
    np.testing.assert_array_equal(sum(both).to_dense(), both[0].to_dense() + both[1].to_dense())  # type: ignore[union-attr]


def test_rows_of_a_program_may_come_in_a_list() -> None:
    table = jnp.arange(V * D, dtype=jnp.float32).reshape(V, D)
    found = jax.jit(lambda i: (take(table, [i, i + 1]), put(table, [i], 0.0)))(1)
    for came, expected in zip(found, (table[1:3], table.at[1].set(0)), strict=True):
        np.testing.assert_array_equal(came, expected)
    with pytest.raises(OverflowError):
        take(table, 2**70)


def test_a_table_without_rows_reads_zeros() -> None:
    np.testing.assert_array_equal(take(np.zeros((0, 2), np.float32), np.array([0, -1])), np.zeros((2, 2)))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_numpys_wide_row_numbers_are_of_no_row(dtype: Any) -> None:
    # Whose lowest 32 bits are those of a row.
    rows, table = np.array([2**32 + 1, 2], dtype), jnp.arange(V * D, dtype=jnp.float32).reshape(V, D)
    np.testing.assert_array_equal(ops.take_rows(table, rows), [[0, 0], table[2]])
    np.testing.assert_array_equal(ops.embed(table, rows), [table[V - 1], table[2]])
    np.testing.assert_array_equal(put(table, rows, 0.0), table.at[2].set(0))
    for op, first in ((ops.take_rows, 0), (ops.embed, V - 1)):
        gradient = autodiff.grad(lambda t, op=op: ops.sum(op(t, rows)))(table)
        expected = np.zeros((V, D))
        expected[2] += 1
        expected[first] += op is ops.embed
        np.testing.assert_array_equal(gradient, expected)


def test_merging_has_the_same_bits_on_every_run_and_under_jit() -> None:
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.integers(0, 3, 200), jnp.int32)
    sparse = RowSparse(rows, jnp.asarray(rng.normal(size=(200, 4)), jnp.float32), 7)
    program = jax.jit(lambda s: s.to_dense())
    assert (program(sparse) == program(sparse)).all()
    np.testing.assert_allclose(program(sparse), dense(rows, sparse.values, 7), rtol=1e-5, atol=1e-5)


def test_a_table_that_is_only_looked_up_keeps_its_rows() -> None:
    def loss(table: Any) -> Any:
        return ops.sum(ops.square(ops.take_rows(table, jnp.int32([3, 1, V]))))

    table = jnp.arange(10.0).reshape(V, D)
    value, gradient = autodiff.value_and_grad(loss, row_sparse=True)(table)
    assert isinstance(gradient, RowSparse)
    assert gradient.rows.tolist() == [3, 1, V]
    plain_value, plain = autodiff.value_and_grad(loss)(table)
    assert value == plain_value
    np.testing.assert_array_equal(gradient.to_dense(), plain)
    np.testing.assert_array_equal(plain, jax.grad(loss)(table))


@pytest.mark.parametrize("row_sparse", [False, True])
def test_fan_out_of_a_table(row_sparse: bool) -> None:
    def loss(table: Any) -> Any:
        twice = ops.add(ops.take_rows(table, jnp.int32([0, 1])), ops.take_rows(table, jnp.int32([1, 1])))
        whole = ops.sum(ops.multiply(table, table))
        scaled = ops.take_rows(ops.multiply(table, table), jnp.int32([2]))
        return ops.add(ops.add(ops.sum(ops.square(twice)), whole), ops.sum(scaled))

    table = jnp.arange(10.0).reshape(V, D)
    gradient = autodiff.value_and_grad(loss, row_sparse=row_sparse)(table)[1]
    np.testing.assert_allclose(gradient, jax.grad(loss)(table), rtol=1e-6)


def test_adds_to_a_table_of_numpy() -> None:
    table, sparse = np.ones((V, D), np.float32), make([1, 3, 1])
    for total in (table + sparse, sparse + table):
        np.testing.assert_array_equal(total, 1 + dense(sparse.rows, sparse.values))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match=r"one shape and dtype, got float32\[5, 2\] and float32\[6, 2\]"):
        make([0]) + RowSparse(jnp.int32([0]), jnp.ones((1, D)), 6)
    for height in (3, 7):
        with pytest.raises(TypeError, match=rf"an array \[5, 2\] of floats to add to, got float32\[{height}, 2\]"):
            make([0]) + jnp.zeros((height, D))
    for rows, values in [(3, 2), (2, 3)]:
        uneven = RowSparse(jnp.zeros(rows, jnp.int32), jnp.ones((values, D)), V)
        with pytest.raises(TypeError, match=rf"values \[U, D\], got int32\[{rows}\] and \[{values}, 2\]"):
            uneven.to_dense()
    with pytest.raises(TypeError, match=r"an array \[5, 2\] of floats to add to, got int32\[5, 2\]"):
        make([0]) + jnp.zeros((V, D), jnp.int32)
    with pytest.raises(TypeError, match=r"required rows int \[U\] and values \[U, D\], got float32\[1\] and \[1, 2\]"):
        RowSparse(jnp.zeros(1), jnp.ones((1, D)), V).merged()
    wrong = autodiff.Op("look", lambda t: t[:1], lambda g, y, t: (RowSparse(jnp.int32([0]), g, 4),))
    with pytest.raises(TypeError, match=r"cotangent of t float32\[5,2\]: required float32\[5,2\], got float32\[4,2\]"):
        autodiff.grad(lambda t: ops.sum(wrong(t)))(jnp.ones((V, D)))


@pytest.mark.parametrize(
    "function",
    [
        lambda g, h: optax.scale(2).update(g, optax.EmptyState()),
        lambda g, h: optax.scale(-1.0).update(g, optax.EmptyState()),
        lambda g, h: optax.clip_by_global_norm(1.0).update(g, optax.EmptyState()),
        lambda g, h: optax.sgd(optax.constant_schedule(0.1)).update(g, optax.sgd(0.1).init({"t": jnp.ones((V, D))})),
        lambda g, h: optax.tree.norm(g),
        lambda g, h: jax.tree.map(jnp.add, g, h),
        lambda g, h: jax.tree.map(lambda x: 0.5 * x, g),
        lambda g, h: jax.tree.map(lambda x: x.astype(jnp.float32), g),
    ],
)
def test_nothing_reckons_with_row_numbers(function: Any) -> None:
    g, h = {"t": make([1, 2])}, {"t": make([3, 4])}
    for run in (function, jax.jit(function)):
        with jax.numpy_dtype_promotion("standard"), pytest.raises((TypeError, ValueError, NotImplementedError)):
            run(g, h)


def test_a_sum_of_trees_keeps_rows_apart() -> None:
    total = jax.tree.map(jnp.add, {"b": jnp.ones(2)}, {"b": jnp.ones(2)}) | {"t": make([1, 2]) + make([3, 2], 1)}
    again = jax.tree.map(lambda x, y: x + y, {"t": make([1, 2])}, {"t": make([3, 2], 1)}, is_leaf=is_row_sparse)
    assert total["b"].tolist() == [2, 2]
    np.testing.assert_array_equal(total["t"].to_dense(), again["t"].to_dense())


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32])
def test_rows_pass_through_jax_as_they_are(dtype: Any, unique: bool) -> None:
    rows = np.array([3, 0, 7, 100], dtype)
    sparse = RowSparse(jnp.asarray(rows), jnp.ones((4, D)), V, unique)
    assert sparse.rows.dtype == jnp.int32
    copies = [
        jax.jit(lambda s: s)(sparse),
        jax.tree.unflatten(jax.tree.structure(sparse), jax.tree.leaves(sparse)),
        jax.device_put(sparse),
        jax.lax.scan(lambda s, _: (s, None), sparse, None, 2)[0],
        jax.tree.map(lambda x: x[0], jax.vmap(lambda _: sparse)(jnp.ones(2))),
    ]
    for copy in copies:
        assert copy.rows.tolist() == rows.tolist()
        assert (copy.rows.dtype, copy.height, copy.unique) == (jnp.int32, V, unique)
    several = jax.vmap(lambda _: sparse)(jnp.ones(2))
    assert not several.unique
    sums = jax.vmap(lambda s: s.merged().to_dense() if s.unique is unique else None)(several)
    np.testing.assert_array_equal(sums[1], sparse.to_dense())


def test_rows_that_were_gathered_are_no_longer_known_to_be_unique() -> None:
    one = RowSparse(jnp.array([1, 2]), jnp.ones((2, D)), V, unique=True)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, one)
    assert (one.unique, both.unique) == (True, False)
    np.testing.assert_array_equal(both.to_dense(), one.to_dense() * 2)


def test_it_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        make([1]).values = jnp.zeros((1, D))  # type: ignore[misc]


def test_wide_rows_that_do_not_fit_name_no_row() -> None:
    with jax.enable_x64(True):
        wide = RowSparse(jnp.array([1, 2**32 + 1, -1, 4], jnp.int64), jnp.ones((4, D), jnp.float32), V)
        assert wide.rows.tolist() == [1, -1, -1, 4]


@pytest.mark.parametrize("unique", [False, True])
def test_a_negative_row_is_padding(unique: bool) -> None:
    sparse = RowSparse(jnp.int32([-1, 2]), jnp.ones((2, D)), V, unique)
    np.testing.assert_array_equal(sparse.to_dense(), dense([2], np.ones((1, D))))
    np.testing.assert_array_equal(optax.apply_updates(jnp.zeros((V, D)), sparse), dense([2], np.ones((1, D))))


@pytest.mark.parametrize(("table", "values"), [("bfloat16", "float32"), ("float16", "float32"), ("float32", "float16")])
def test_a_table_keeps_its_dtype_and_is_rounded_after_the_sum(table: Any, values: Any) -> None:
    before, step = jnp.full((V, D), 1, table), jnp.full((2, D), 0.0039, values)
    after = RowSparse(jnp.int32([1, 3]), step, V) + before
    wide = np.float32
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after[1], (before[1].astype(wide) + step[0].astype(wide)).astype(table))
    np.testing.assert_array_equal(after[0], before[0])


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other devices than a CPU run, on this one."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    programs = sum_by_row, rows_module._sums_of_runs
    for program in programs:
        program.clear_cache()
    yield
    for program in programs:
        program.clear_cache()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("slots", [0, 1, 5, 64])
@pytest.mark.parametrize("kinds", [1, 3])
def test_a_gpu_sums_without_a_scatter_of_equal_rows(slots: int, kinds: int) -> None:
    rng = np.random.default_rng(slots)
    rows = rng.integers(0, kinds, slots).astype(np.int32)
    values = rng.normal(size=(slots, 4)).astype(np.float32)
    np.testing.assert_allclose(sum_by_row(rows, values, kinds), dense(rows, values, kinds), rtol=1e-5, atol=1e-5)
    rows[: slots // 3] = -1
    sparse = RowSparse(jnp.asarray(rows), jnp.asarray(values), kinds)
    kept = rows >= 0
    expected = dense(rows[kept], values[kept], kinds)
    np.testing.assert_allclose(sparse.to_dense(), expected, rtol=1e-5, atol=1e-5)
    merged = sparse.merged()
    assert sorted(merged.rows[merged.filled()].tolist()) == sorted(set(rows[kept].tolist()))


def additions_that_collide(program: Any, *args: Any, platform: str) -> int:
    """Scatters of a lowered program that add floats to rows which may be equal: atomics, on a GPU."""
    text = jax.jit(program).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    scatters = re.findall(r'"stablehlo\.scatter".*?unique_indices = (\w+).*?\n(.*?)stablehlo\.return', text, re.DOTALL)
    return sum(unique == "false" and "stablehlo.add" in body for unique, body in scatters)


def test_no_step_adds_to_equal_rows_by_atomics_on_a_gpu() -> None:
    net = WindowNetwork(200, 5, 3, 5, 4, 2, (6,), "tanh")
    optimizer = rowwise(optax.adam(1e-3), tables=["words"])
    params = net.init(jax.random.key(0))
    rows, words = np.arange(40, dtype=np.int32), np.zeros((64, 5), np.int32)
    batch = Batch(rows, words, words, words[:, 0], np.ones(64, bool))

    def step(params: Any, state: Any, batch: Batch) -> Any:
        gradient = autodiff.value_and_grad(net.loss, row_sparse=True)(params, batch)[1]
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
        on_gpu, on_cpu = (additions_that_collide(step, params, state, batch, platform=p) for p in ("cuda", "cpu"))
    assert on_gpu == 0
    # A CPU has no atomics, and scatters in a tenth of the time of a sort: so what counts can count.
    assert on_cpu == 1

    def merged(rows: jax.Array, values: jax.Array) -> jax.Array:
        return RowSparse(rows, values, 50).to_dense()

    values = jnp.ones((64, 4))
    assert additions_that_collide(merged, words[:, 0], values, platform="cuda") == 0
    assert additions_that_collide(merged, words[:, 0], values, platform="cpu") == 1
