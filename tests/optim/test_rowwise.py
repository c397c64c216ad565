"""Row-wise optimizers: exact against the dense optax optimizer, lazy against torch, and what a wrong one looks like."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet.autodiff import RowSparse, ops, value_and_grad
from windownet.autodiff.rows import is_row_sparse
from windownet.optim import missed
from windownet.optim.missed import Missed
from windownet.optim.rowwise import Rowwise, rowwise

V, D, U, STEPS = 60, 3, 6, 500
RATE = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 50, STEPS, 1e-3)

Case = tuple[optax.GradientTransformation, Missed | None]
CASES: dict[str, Case] = {
    "sgd": (optax.sgd(RATE), missed.decay(RATE)),
    "sgd with decay": (
        optax.chain(optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(RATE)),
        missed.decay(RATE, 0.1),
    ),
    "momentum": (optax.sgd(RATE, momentum=0.9), missed.momentum(RATE, 0.9)),
    "nesterov": (optax.sgd(RATE, momentum=0.9, nesterov=True), missed.momentum(RATE, 0.9, nesterov=True)),
    "momentum with decoupled decay": (
        optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(RATE)),
        missed.momentum(RATE, 0.9, weight_decay=0.1),
    ),
    "momentum with L2": (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(RATE, momentum=0.9)), None),
    "adagrad": (optax.adagrad(RATE), missed.decay(RATE, sum_of_squares=1.0)),
    "rmsprop": (optax.rmsprop(RATE), missed.decay(RATE, nu=0.9)),
    "adam": (optax.adam(RATE), missed.adam(RATE)),
    "adamw": (optax.adamw(RATE, weight_decay=0.1), missed.adam(RATE, weight_decay=0.1)),
    "lion": (optax.lion(RATE, weight_decay=0.1), None),
    "clipped adamw": (
        optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(RATE, weight_decay=0.1)),
        missed.adam(RATE, weight_decay=0.1),
    ),
}


def zipf_rows(steps: int, seed: int = 0) -> np.ndarray:
    """Rows a step, each once, padded with V; the rarest go untouched for hundreds of steps."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, V + 1)
    rows = np.full((steps, U), V, np.int32)
    for n in range(steps):
        drawn = np.unique(rng.choice(V, U - 1, p=share / share.sum()))
        rows[n, : len(drawn)] = drawn
    return rows


ROWS = zipf_rows(STEPS)


def run(optimizer: Rowwise, dtype: Any, touch: Callable[..., Any] | None = None, steps: int = STEPS) -> Any:
    """Parameters and inner state after `steps` steps and a flush; the gradient depends on the value that is read."""
    rng = np.random.default_rng(1)
    params = {"table": jnp.asarray(rng.normal(size=(V, D)), dtype), "bias": jnp.zeros(4, dtype)}
    state = optimizer.init(params)
    slabs, biases = (jnp.asarray(rng.normal(size=(steps, *shape)), dtype) for shape in ((U, D), (4,)))
    catch_up = touch or optimizer.touch

    def one(carry: Any, batch: Any) -> Any:
        (params, state), (rows, slab, bias) = carry, batch
        params, state = catch_up(params, state, {"table": rows})
        read = params["table"].at[rows].get(mode="fill", fill_value=0)
        gradient = {"table": RowSparse(rows, slab + read, V, unique=True), "bias": bias}
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    program = jax.jit(lambda carry, batches: jax.lax.scan(one, carry, batches)[0])
    params, state = program((params, state), (jnp.asarray(ROWS[:steps]), slabs, biases))
    params, state = jax.jit(optimizer.flush)(params, state)
    return params, state.inner


def difference(a: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max() / jnp.maximum(jnp.abs(y).max(), 1e-30)) for x, y in pairs)


def test_rows_go_untouched_for_hundreds_of_steps() -> None:
    gaps = [np.diff(np.flatnonzero((row == ROWS).any(1)), prepend=0, append=STEPS).max() for row in range(V)]
    assert max(gaps) > 200


@pytest.mark.parametrize("name", CASES)
def test_exact_by_replay_equals_the_dense_optimizer(name: str) -> None:
    with jax.enable_x64(True):
        inner = CASES[name][0]
        dense = run(rowwise(inner, "dense", tables=["table"]), jnp.float64)
        assert difference(run(rowwise(inner, "exact", tables=["table"]), jnp.float64), dense) < 1e-9


@pytest.mark.parametrize("name", [name for name, (_, closed) in CASES.items() if closed is not None])
def test_exact_in_closed_form_equals_the_dense_optimizer(name: str) -> None:
    inner, closed = CASES[name]
    dense = run(rowwise(inner, "dense", tables=["table"]), jnp.float32)
    fast = run(rowwise(inner, "exact", tables=["table"], missed=closed), jnp.float32)
    assert difference(fast, dense) < 1e-5


def forget(optimizer: Rowwise) -> Callable[..., Any]:
    return lambda params, state, rows: (params, state)


def twice(optimizer: Rowwise) -> Callable[..., Any]:
    def touch(params: Any, state: Any, rows: Any) -> Any:
        once, _ = optimizer.touch(params, state, rows)
        return optimizer.touch(once, state, rows)

    return touch


def one_too_few(optimizer: Rowwise) -> Callable[..., Any]:
    def touch(params: Any, state: Any, rows: Any) -> Any:
        late = state._replace(last={name: jnp.minimum(last + 1, state.step) for name, last in state.last.items()})
        params, after = optimizer.touch(params, late, rows)
        return params, after

    return touch


@pytest.mark.parametrize("fault", [forget, twice, one_too_few], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("closed", [False, True])
def test_a_wrong_catch_up_is_seen(fault: Callable[[Rowwise], Callable[..., Any]], closed: bool) -> None:
    inner, form = CASES["adamw"]
    dense = run(rowwise(inner, "dense", tables=["table"]), jnp.float32, steps=100)
    exact = rowwise(inner, "exact", tables=["table"], missed=form if closed else None)
    assert difference(run(exact, jnp.float32, steps=100), dense) < 1e-5
    assert difference(run(exact, jnp.float32, fault(exact), steps=100), dense) > 1e-4


def test_the_bound_of_what_epsilon_adds() -> None:
    # Short by at most Var(x) / (1 + mean x)^2 of the sum, x = eps / (sqrt(v) corrected), v fading by b2 a step.
    b1, b2, rate, count, m, v = 0.9, 0.999, 1e-2, 40, 1e-3, 1e-6
    with jax.enable_x64(True):
        for eps in (1e-2, 1e-1, 1.0):
            inner = optax.adam(rate, b1, b2, eps)
            rows = {"t": jnp.zeros((1, 1))}
            moved = []
            for closed in (None, missed.adam(rate, b1, b2, eps=eps)):
                optimizer = rowwise(inner, "exact", tables=["t"], missed=closed, proven=True)
                state = optimizer.init(rows)
                field = jax.tree.map(lambda x: x, state.inner)
                adam = field[0]._replace(
                    count=jnp.int32(1), mu={"t": jnp.full((1, 1), m)}, nu={"t": jnp.full((1, 1), v)}
                )
                now = closed.note(jnp.int32(1), state.now) if closed else state.now
                state = state._replace(
                    inner=(adam, *field[1:]),
                    step=jnp.int32(1),
                    last={"t": jnp.ones(1, jnp.int32)},
                    now=now,
                    outlook={name: jnp.tile(now, (1, 1)) for name in state.outlook},
                )
                for _ in range(count):
                    empty = {"t": RowSparse(jnp.full(1, 1, jnp.int32), jnp.zeros((1, 1)), 1)}
                    _, state = optimizer.update(empty, state, rows)
                moved.append(float(optimizer.flush(rows, state)[0]["t"][0, 0]))
            steps = np.arange(2, count + 2)
            j = steps - 1
            sizes = rate * (m * b1**j / (1 - b1**steps)) / np.sqrt(v * b2**j / (1 - b2**steps))
            x = eps / np.sqrt(v * b2**j / (1 - b2**steps))
            mean = np.average(x, weights=sizes)
            bound = float(np.sum(sizes) * np.average((x - mean) ** 2, weights=sizes) / (1 + mean) ** 2)
            # Beside epsilon there is what float32 rounds in the two sums whose difference is taken.
            assert abs(moved[0] - moved[1]) <= bound + 1e-5 * abs(moved[0])
            assert abs(moved[0] - moved[1]) >= 0.9 * bound / (1 + x.max())


@pytest.mark.parametrize("gradient", [1e-6, 1e-8, 1e-9])
def test_closed_form_where_epsilon_is_what_counts(gradient: float) -> None:
    moved = []
    for mode, closed in (("dense", None), ("exact", missed.adam(1e-3))):
        optimizer = rowwise(optax.adam(1e-3), mode, missed=closed)  # type: ignore[arg-type]

        def one(carry: Any, row: jax.Array, optimizer: Rowwise = optimizer) -> Any:
            table, state = optimizer.touch(*carry, {"": row})
            updates, state = optimizer.update(RowSparse(row, jnp.full((1, 1), gradient), 1), state, table)
            updates = updates.to_dense() if isinstance(updates, RowSparse) else updates
            return (optax.apply_updates(table, updates), state), None

        table = jnp.zeros((1, 1))
        rows = jnp.where(jnp.arange(1_500) < 1_000, 0, 1)[:, None]
        moved.append(optimizer.flush(*jax.lax.scan(one, (table, optimizer.init(table)), rows)[0])[0])
    assert difference(moved[1], moved[0]) < 1e-6


def test_decay_stays_what_it_is_in_a_long_run() -> None:
    closed, steps, gap = missed.decay(0.1, 1e-3), 40_000, 10_000

    def one(now: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        now = closed.note(step, now)
        return now, now

    noted = jax.lax.scan(one, closed.begin(), jnp.arange(1, steps + 1))[1]
    row, _ = closed.catch_up(jnp.ones((1, 1)), {}, jnp.full(1, gap), noted[-gap - 1][None], noted[-1])
    np.testing.assert_allclose(row, np.exp(gap * np.log1p(-1e-4)), rtol=2e-6)


def test_schedules_that_take_nothing_but_a_scalar() -> None:
    rate = optax.cosine_onecycle_schedule(STEPS, 1e-2)
    dense = run(rowwise(optax.adam(rate), "dense", tables=["table"]), jnp.float32, steps=100)
    exact = run(rowwise(optax.adam(rate), "exact", tables=["table"], missed=missed.adam(rate)), jnp.float32, steps=100)
    assert difference(exact, dense) < 1e-5


def test_lazy_leaves_untouched_rows_alone() -> None:
    optimizer = rowwise(optax.adamw(0.1, weight_decay=0.5), "lazy")
    table = jnp.arange(12.0).reshape(4, 3)
    state = optimizer.init(table)
    updates, after = optimizer.update(RowSparse(jnp.int32([2, 4]), jnp.ones((2, 3)), 4), state, table)
    moved = optax.apply_updates(table, updates)
    assert (moved[jnp.array([0, 1, 3])] == table[jnp.array([0, 1, 3])]).all()
    assert (moved[2] != table[2]).all()
    assert not after.inner[0].mu[jnp.array([0, 1, 3])].any()


def test_lazy_equals_torchs_sparse_adam() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; make install-bench brings it")
    rng = np.random.default_rng(0)
    start = rng.normal(size=(V, D)).astype(np.float32)
    weight = torch.nn.Parameter(torch.tensor(start))
    # torch adds eps before it corrects for bias, optax after; with a tiny eps they are the same rule.
    theirs = torch.optim.SparseAdam([weight], lr=0.01, eps=1e-20)
    optimizer = rowwise(optax.adam(0.01, eps=1e-20), "lazy")
    table, step = jnp.asarray(start), jax.jit(optimizer.update)
    state = optimizer.init(table)
    for n in range(60):
        slab = rng.normal(size=(U, D)).astype(np.float32)
        rows = np.where(ROWS[n] < V, ROWS[n], ROWS[n][0])
        weight.grad = torch.sparse_coo_tensor(
            torch.tensor(rows[None].astype(np.int64)), torch.tensor(slab), (V, D), check_invariants=True
        )
        theirs.step()
        updates, state = step(RowSparse(jnp.asarray(rows), jnp.asarray(slab), V), state, table)
        table = optax.apply_updates(table, updates)
        np.testing.assert_allclose(table, weight.detach().numpy(), rtol=2e-5, atol=1e-6)


def test_global_norm_counts_rows_once_and_no_empty_slot() -> None:
    optimizer = rowwise(optax.clip_by_global_norm(1.0), "lazy", tables=["t"])
    params = {"t": jnp.zeros((4, 2)), "b": jnp.zeros(2)}
    sparse = RowSparse(jnp.int32([1, 1, 4]), jnp.array([[3.0, 0], [0, 4], [100, 100]]), 4)
    dense = {"t": jnp.zeros((4, 2)).at[1].set(jnp.array([3.0, 4])), "b": jnp.array([12.0, 0])}
    expected, _ = optax.clip_by_global_norm(1.0).update(dense, optax.EmptyState(), params)
    updates, _ = optimizer.update({"t": sparse, "b": dense["b"]}, optimizer.init(params), params)
    assert difference({"t": updates["t"].to_dense(), "b": updates["b"]}, expected) < 1e-6


@pytest.mark.parametrize("mode", ["lazy", "exact", "dense"])
@pytest.mark.parametrize(("dtype", "height"), [("uint8", 256), ("uint8", 300), ("int8", 128), ("uint16", 70_000)])
def test_ids_may_have_a_dtype_that_does_not_hold_the_height(mode: Any, dtype: str, height: int) -> None:
    ids = np.array([0, 3, min(height, np.iinfo(dtype).max + 1) - 1])
    optimizer = rowwise(optax.sgd(0.1, momentum=0.9), mode)

    def loss_of(table: jax.Array, rows: jax.Array) -> jax.Array:
        return ops.sum(ops.square(ops.take_rows(table, rows)))

    def trained(rows: jax.Array) -> jax.Array:
        table = jnp.ones((height, 1))
        state = optimizer.init(table)
        for step in range(3):
            rows = rows if step != 1 else rows[:1]
            table, state = optimizer.touch(table, state, {"": rows})
            gradient = value_and_grad(loss_of, row_sparse=True)(table, rows)[1]
            updates, state = optimizer.update(gradient, state, table)
            table = optax.apply_updates(table, updates)
        return table

    table = trained(jnp.asarray(ids, dtype))
    np.testing.assert_array_equal(table, trained(jnp.asarray(ids, jnp.int32)))
    assert (table[ids] != 1).all()


def test_decay_that_a_closed_form_does_not_bear_is_not_a_number_where_it_was_not_refused() -> None:
    form = missed.adam(lambda k: 0.1 * jnp.ones(()), weight_decay=0.9)
    assert np.isnan(form.note(jnp.int32(1), form.begin())[:2]).all()
    form = missed.adam(lambda k: 0.1 * jnp.ones(()), weight_decay=0.1)
    assert np.isfinite(form.note(jnp.int32(1), form.begin())).all()


def test_extra_arguments_reach_the_inner_transformation() -> None:
    def update(updates: Any, state: Any, params: Any = None, *, value: Any, **_: Any) -> Any:
        return jax.tree.map(lambda u: value * u, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    for mode in ("lazy", "dense"):
        optimizer, params = optax.chain(rowwise(inner, mode, tables=["t"])), {"t": jnp.zeros((2, 1))}
        gradient = {"t": RowSparse(jnp.int32([1]), jnp.ones((1, 1)), 2)}
        updates, _ = optimizer.update(gradient, optimizer.init(params), params, value=3.0)
        np.testing.assert_array_equal(optax.apply_updates(params, updates)["t"], [[0], [3]])


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_a_table_that_a_step_does_not_look_up(mode: Any) -> None:
    params = {"a": jnp.ones((4, 2)), "b": jnp.ones((3, 2))}
    optimizer, state = rowwise(optax.adam(0.1), mode, tables=["a", "b"]), None
    state = optimizer.init(params)
    gradient = {"a": RowSparse(jnp.int32([1]), jnp.ones((1, 2)), 4), "b": RowSparse.nothing(params["b"])}
    updates, state = optimizer.update(gradient, state, params)
    after = optax.apply_updates(params, updates)
    assert (after["b"] == 1).all()
    np.testing.assert_allclose(after["a"][1], 0.9, rtol=1e-5)
    assert (after["a"][0] == 1).all()


@pytest.mark.parametrize("mode", ["lazy", "exact"])
@pytest.mark.parametrize("empty", [-1, 4, 9])
def test_an_empty_slot_counts_for_nothing_whatever_its_number(mode: Any, empty: int) -> None:
    results = []
    for slots in ([1], [1, empty]):
        optimizer = rowwise(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)), mode, tables=["t"])
        params = {"t": np.ones((4, 2), np.float32)}
        state = optimizer.init(params)
        rows = np.asarray(slots, np.int32)
        params, state = optimizer.touch(params, state, {"t": rows})
        values = 5.0 ** np.arange(1, len(slots) + 1)[:, None] * np.ones((len(slots), 2))
        gradient = {"t": RowSparse(rows, jnp.asarray(values, jnp.float32), 4)}
        updates, state = optimizer.update(gradient, state, params)
        results.append((optax.apply_updates(params, updates), state))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_touching_no_row_changes_nothing() -> None:
    optimizer = rowwise(optax.adam(0.1), "exact")
    table = jnp.ones((4, 2))
    state = optimizer.init(table)._replace(step=jnp.int32(3))
    touched = optimizer.touch(table, state, {"": jnp.zeros(0, jnp.int32)})
    jax.tree.map(np.testing.assert_array_equal, touched, (table, state))


@pytest.mark.parametrize(
    ("mode", "closed", "dtype", "tables"),
    [
        ("exact", True, jnp.float32, ["a"]),
        ("exact", True, jnp.float32, ["a", "b"]),
        ("exact", False, jnp.float16, ["a", "b"]),
        ("lazy", False, jnp.float16, ["a"]),
    ],
)
def test_nothing_of_the_tables_size_is_made(mode: Any, closed: bool, dtype: Any, tables: list[str]) -> None:
    height = 100_000
    size = height * 4
    optimizer = rowwise(optax.adam(1e-3), mode, tables=tables, missed=missed.adam(1e-3) if closed else None)
    params = {name: jnp.zeros((height, 8), dtype) for name in tables}

    def one(carry: Any, rows: jax.Array) -> Any:
        params, state = optimizer.touch(*carry, dict.fromkeys(tables, rows))
        read = {name: table.at[rows].get(mode="fill", fill_value=0) + 1 for name, table in params.items()}
        gradient = {name: RowSparse(rows, slab, height, unique=True) for name, slab in read.items()}
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    program = jax.jit(lambda carry, rows: jax.lax.scan(one, carry, rows), donate_argnums=0)
    compiled = program.lower((params, optimizer.init(params)), jnp.zeros((4, 16), jnp.int32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < size / 10


class Params(NamedTuple):
    """Parameters whose fields are attributes, as a state's are."""

    a: Any
    b: Any


def two_tables(optimizer: Rowwise, frozen: bool = False) -> Callable[[Any, Any], Any]:
    """A program of 40 steps that touch few rows of one table, fewer of the other, at times none."""
    steps = 40
    rng = np.random.default_rng(0)
    a, b = (
        rng.integers(-2, 11, (steps, 4)),
        np.where(np.arange(steps)[:, None] % 3, rng.integers(0, 14, (steps, 2)), 14),
    )

    def one(carry: Any, rows: Any) -> Any:
        params, state = optimizer.touch(*carry, {"a": rows[0], "b": rows[1]})
        state = optimizer.skip(state) if frozen else state
        pairs = zip(params, rows, strict=True)
        slabs = [RowSparse(r, jnp.sin(3 * t.at[r].get(mode="fill", fill_value=0)), len(t)) for t, r in pairs]
        updates, state = optimizer.update(Params(*slabs), state, params)
        return (optax.apply_updates(params, updates), state), None

    def run_of(params: Any, state: Any) -> Any:
        return optimizer.flush(*jax.lax.scan(one, (params, state), (jnp.asarray(a), jnp.asarray(b)))[0])

    return jax.jit(run_of, compiler_options={"xla_backend_optimization_level": 0})


TWO = Params(jnp.ones((9, 2)), jnp.full((14, 3), 2.0))


@pytest.mark.parametrize("closed", [False, True])
def test_two_tables_of_other_rows_and_gaps(closed: bool) -> None:
    inner, form = optax.adamw(1e-2, weight_decay=0.1), missed.adam(1e-2, weight_decay=0.1) if closed else None
    exact = rowwise(inner, "exact", tables=["a", "b"], missed=form)
    dense = rowwise(inner, "dense", tables=["a", "b"])
    of_exact, of_dense = two_tables(exact), two_tables(dense)
    params, state = of_exact(TWO, exact.init(TWO))
    expected = of_dense(TWO, dense.init(TWO))
    assert difference(params, expected[0]) < 1e-5
    assert difference(state.inner, expected[1].inner) < 1e-5
    # A state that was trained densely goes on.
    adopted = of_exact(expected[0], exact.adopt(expected[0], expected[1].inner))
    assert difference(adopted[0], of_dense(*expected)[0]) < 1e-5


def test_what_a_skipped_row_missed_is_the_same_in_closed_form() -> None:
    inner, form = optax.adamw(1e-2, weight_decay=0.1), missed.adam(1e-2, weight_decay=0.1)
    ends = []
    for closed in (form, None):
        optimizer = rowwise(inner, "exact", tables=["a", "b"], missed=closed, proven=True)
        ends.append(two_tables(optimizer, frozen=True)(TWO, optimizer.init(TWO))[0])
    assert difference(*ends) < 1e-5


def test_replay_begins_where_the_last_of_the_rows_was_left() -> None:
    made = []

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        jax.debug.callback(lambda: made.append(1))
        return updates, state

    inner = optax.chain(optax.GradientTransformation(lambda params: optax.EmptyState(), update), optax.trace(0.9))
    optimizer = rowwise(inner, "exact", proven=True)
    table = jnp.ones((4, 2))
    state = optimizer.init(table)
    # At step 10, rows have had 10, 7, 0 and 9 updates.
    state = state._replace(step=jnp.int32(10), last={"": jnp.int32([10, 7, 0, 9])})
    for rows, expected in (([0], 0), ([0, 4, -1], 0), ([1, 0, 4], 3), ([3, 9], 1), ([2], 10)):
        made.clear()
        jax.block_until_ready(optimizer.touch(table, state, {"": jnp.int32(rows)}))
        jax.effects_barrier()
        assert len(made) == expected, rows


@pytest.mark.parametrize(
    ("inner", "counted", "message"),
    [
        (optax.adam(optax.exponential_decay(0.1, 5, 0.5)), [3, 4], r"counts of updates are the same, got \[3, 4\]"),
        (optax.sgd(0.1), [], "a state of the inner transformation"),
    ],
)
def test_states_that_cannot_be_adopted(inner: Any, counted: list[int], message: str) -> None:
    table, counts = jnp.ones((2, 2)), iter(counted)
    optimizer = rowwise(inner, "exact")
    state = jax.tree.map(lambda x: jnp.int32(next(counts)) if x.ndim == 0 else x, inner.init(table))
    with pytest.raises(ValueError, match=message):
        optimizer.adopt(table, state if counted else optax.adam(0.1).init(table))


ONES = jnp.ones((2, 2))


def touched(rows: Any) -> Any:
    optimizer = rowwise(optax.sgd(1.0, 0.9), "exact")
    return optimizer.touch(ONES, optimizer.init(ONES), {"": rows})


@pytest.mark.parametrize("made", ["lazy", "exact", "closed"])
@pytest.mark.parametrize("used", ["lazy", "dense", "exact", "closed"])
def test_a_state_of_another_mode(made: str, used: str) -> None:
    optimizers = {
        "lazy": rowwise(optax.adam(0.1)),
        "dense": rowwise(optax.adam(0.1), "dense"),
        "exact": rowwise(optax.adam(0.1), "exact"),
        "closed": rowwise(optax.adam(0.1), "exact", missed=missed.adam(0.1)),
    }
    optimizer, rows = optimizers[used], jnp.array([1])
    gradient = RowSparse(rows, jnp.ones((1, 2)), 2)
    state = optimizers[made].init(ONES)
    uses = [
        lambda state: optimizer.update(gradient, state, ONES),
        lambda state: optimizer.touch(ONES, state, {"": rows}),
        lambda state: optimizer.flush(ONES, state),
        optimizer.skip,
        optimizer.renew,
    ]
    for use in uses:
        if made == used or (made, used) == ("lazy", "dense"):
            use(state)
        else:
            with pytest.raises(ValueError, match=r"required a state of mode .*; `flush` .*, then `adopt\(params, st"):
                use(state)
        use(optimizer.adopt(ONES, state.inner))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_numpys_wide_row_numbers_are_of_no_row(dtype: Any) -> None:
    optimizer = rowwise(optax.sgd(1.0, 0.9), "exact")
    state = optimizer.init(ONES)
    for gradient in (RowSparse(jnp.arange(2), jnp.ones((2, 2)), 2), RowSparse.nothing(ONES)):
        _, state = optimizer.update(gradient, state, ONES)
    _, state = optimizer.touch(ONES, state, {"": np.array([2**32 + 1], dtype)})
    np.testing.assert_array_equal(state.last[""], [1, 1])


@pytest.mark.parametrize("mode", ["lazy", "exact", "closed", "dense"])
def test_variables_of_flax(mode: str) -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.table, self.w = nnx.Param(jnp.ones((3, 2))), nnx.Param(jnp.ones(2))

    closed = missed.adam(0.1, weight_decay=0.1) if mode == "closed" else None
    how: Any = "exact" if mode == "closed" else mode
    model, plain = Model(), {"table": jnp.ones((3, 2)), "w": jnp.ones(2)}
    optimizer = nnx.Optimizer(
        model, rowwise(optax.adamw(0.1, weight_decay=0.1), how, tables=["table"], missed=closed), wrt=nnx.Param
    )
    alone = rowwise(optax.adamw(0.1, weight_decay=0.1), how, tables=["table"], missed=closed)
    state = alone.init(plain)
    for row in (1, 2):
        sparse = RowSparse(jnp.array([row]), jnp.ones((1, 2)), 3)
        gradient = nnx.state(model, nnx.Param)
        gradient = jax.tree.map(lambda x, sparse=sparse: sparse if x.ndim == 2 else jnp.ones_like(x), gradient)
        optimizer.update(model, gradient)
        updates, state = alone.update({"table": sparse, "w": jnp.ones(2)}, state, plain)
        plain = optax.apply_updates(plain, updates)
    np.testing.assert_array_equal(model.table[...], plain["table"])
    np.testing.assert_array_equal(model.w[...], plain["w"])
    assert model.table[...][2, 0] < 1


def test_fields_of_name_value_are_tables_too() -> None:
    class Fields(NamedTuple):
        key: jax.Array
        value: jax.Array

    for params, names in (
        (Fields(ONES, ONES), ["value"]),
        ({"m": Fields(ONES, ONES)}, ["m.key", "m.value"]),
        ({"m": Fields(ONES, ONES)}, ["m.value"]),
    ):
        optimizer = rowwise(optax.adam(0.1), "exact", tables=names)
        assert set(optimizer.init(params).last) == set(names)


def test_no_leaf_of_a_state_is_without_numbers() -> None:
    # orbax saves none that is.
    for optimizer in (rowwise(optax.adam(0.1)), rowwise(optax.adam(0.1), "exact"), rowwise(optax.adam(0.1), "dense")):
        assert all(leaf.size for leaf in jax.tree.leaves(optimizer.init(ONES)))


def test_a_part_of_several_transformations_takes_its_own_parameters() -> None:
    optimizer = rowwise(optax.adam(0.1), "exact", tables=["t"])
    params = {"t": ONES, "w": jnp.ones(2)}
    both = optax.multi_transform({"a": optimizer, "b": optax.sgd(0.1)}, {"t": "a", "w": "b"})
    own = both.init(params).inner_states["a"].inner_state
    with pytest.raises(ValueError, match=r"whose inner state has 3 leaves, got some for which it has 5; .*MaskedNode"):
        optimizer.touch(params, own, {"t": jnp.array([1])})
    optimizer.touch({**params, "w": optax.MaskedNode()}, own, {"t": jnp.array([1])})


@pytest.mark.parametrize("mode", ["lazy", "exact"])
@pytest.mark.parametrize("inner", [optax.sgd(0.1), optax.adam(0.1)])
@pytest.mark.parametrize("shape", [(V + 1, D), (V, D + 1), (V - 1, D)])
def test_a_state_of_a_table_of_another_shape_is_refused(mode: Any, inner: Any, shape: tuple[int, int]) -> None:
    optimizer, table = rowwise(inner, mode), jnp.ones(shape)
    state, rows = optimizer.init(jnp.ones((V, D))), jnp.array([shape[0] - 1])
    gradient = RowSparse(rows, jnp.ones((1, shape[1])), shape[0])
    if not (state.last or jax.tree.leaves(state.inner)):
        # Nothing is kept, so any parameters will do.
        optimizer.update(gradient, state, table)
        return
    refused = pytest.raises(ValueError, match=rf"state of table '' \[{shape[0]}, {shape[1]}\], got one .* \[{V}, ")
    if shape[0] != V or jax.tree.leaves(state.inner):
        with refused:
            optimizer.update(gradient, state, table)
    if mode == "exact" and shape[0] != V:
        with refused:
            optimizer.touch(table, state, {"": rows})


def test_a_sum_that_begins_with_zeros_of_a_gradient_touches_its_rows_alone() -> None:
    gradient = RowSparse(jnp.array([5]), jnp.ones((1, D)), V)
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    assert not zeros.filled().any()
    total = jax.tree.map(operator.add, zeros, gradient, is_leaf=is_row_sparse)
    optimizer = rowwise(optax.adam(0.1))
    table = jnp.ones((V, D))
    first, state = optimizer.update(RowSparse(jnp.array([0]), jnp.ones((1, D)), V), optimizer.init(table), table)
    table = optax.apply_updates(table, first)
    moved = optax.apply_updates(table, optimizer.update(total, state, table)[0])
    assert np.flatnonzero((moved != table).any(axis=1)).tolist() == [5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rowwise(optax.sgd(1.0), "sparse"), "mode must be one of lazy, exact, dense, got 'sparse'"),
        (
            lambda: rowwise(optax.sgd(1.0), tables=["x"]).init({"t": jnp.ones((2, 2))}),
            r"got \['x'\]; they have \['t'\]",
        ),
        (lambda: rowwise(optax.sgd(1.0)).init({"t": jnp.ones((2, 2))}), r"have \['t'\]: name those .* by .*tables=\["),
        (
            lambda: rowwise(optax.sgd(1.0), tables=["t"]).update(
                {"t": None}, rowwise(optax.sgd(1.0), tables=["t"]).init({"t": ONES}), {"t": ONES}
            ),
            r"must be leaves of the gradients, got \['t'\]; they have \[\]",
        ),
        (
            lambda: rowwise(optax.sgd(1.0), tables=["a.b"]).init({"a.b": ONES, "a": {"b": ONES}}),
            r"required one leaf of the parameters by the path of each table, got several by \['a.b'\]",
        ),
        (lambda: rowwise(optax.sgd(1.0), missed=missed.decay(1.0)), "`missed` required mode 'exact', .* got 'lazy'"),
        (
            lambda: touched(jnp.zeros((2, 3), jnp.int32)),
            r"touch required rows of table '' to be int \[U\], got int32\[2, 3\]",
        ),
        (lambda: touched(jnp.zeros(2)), r"int \[U\], got float32\[2\]"),
        (lambda: rowwise(optax.sgd(1.0)).init(jnp.ones(2)), r"must be \[V, D\], got \[2\]"),
        (
            lambda: rowwise(optax.scale_by_factored_rms(min_dim_size_to_factor=1)).init(jnp.ones((4, 3))),
            "must be elementwise",
        ),
        (
            lambda: rowwise(optax.sgd(1.0)).update(
                jnp.ones((2, 2)), rowwise(optax.sgd(1.0)).init(jnp.ones((2, 2))), jnp.ones((2, 2))
            ),
            r"must be a RowSparse, got an array \[2, 2\]; .*row_sparse=True",
        ),
        (lambda: missed.adam(1e-3, b1=0.9, b2=0.8), "0 <= b1 < b2 < 1, got 0.9 and 0.8"),
        (lambda: missed.adam(1e-3, b1=-0.5), "0 <= b1 < b2 < 1, got -0.5 and 0.999"),
        (lambda: missed.adam(1e-3, b2=1.0), "0 <= b1 < b2 < 1, got 0.9 and 1.0"),
        (lambda: missed.adam(1e-3, eps=0.0), "eps must be above 0, got 0.0"),
        (lambda: missed.decay(2.0, 0.5), "rate times weight_decay must be below 1, .*, got 2.0 times 0.5; leave"),
        (lambda: missed.decay(np.float32(2.0), 0.5), "must be below 1"),
        (lambda: missed.adam(0.1, weight_decay=0.9), "rate times weight_decay must be below 0.02"),
        (lambda: missed.momentum(0.1, 0.99, weight_decay=0.1), "must be below 0.002"),
        (lambda: missed.momentum(0.1, 1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: rowwise(optax.sgd(1.0), tables="table"), "tables must be a collection of names, .* got 'table'"),
        (lambda: rowwise(optax.sgd(1.0), tables=[]), r"at least one, got \[\]"),
        (
            lambda: rowwise(optax.sgd(1.0), tables=["t"]).touch(None, None, {"tt": 1}),
            r"\{table: rows\} of the tables \['t'\], got those of \['tt'\]",
        ),
        (lambda: rowwise(optax.sgd(1.0)).touch(None, None, jnp.ones(1, int)), r"of the tables \[''\], got ArrayImpl"),
        (
            lambda: rowwise(optax.sgd(1.0), "exact").touch(ONES, optax.EmptyState(), {"": jnp.ones(1, int)}),
            "required the RowwiseState that `init` began, got EmptyState; of a chain",
        ),
        (lambda: rowwise("adam"), "inner must be an optax transformation, such as .*, got 'adam'"),  # type: ignore[arg-type]
        (
            lambda: jax.vmap(lambda rate: rowwise(optax.adam(rate), "exact").init(ONES).step)(jnp.ones(2)),
            "numbers, .*, got one of tracers, .*proven=True",
        ),
    ],
)
def test_what_cannot_be(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()
