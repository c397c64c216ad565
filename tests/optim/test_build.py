"""Optimizers from the config: plain optax's, their papers' formulas, and the same on touched rows."""

import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from windownet import config
from windownet.autodiff import RowSparse
from windownet.errors import InputError
from windownet.optim import build
from windownet.optim.rowwise import rowwise
from windownet.schema.config import Config
from windownet.schema.training import OptimizerConfig

RATE, DECAY = 0.03, 0.1
# Every number differs from its default, so that one that is not handed on shows.
NUMBERS = {"learning_rate": RATE, "momentum": 0.7, "accumulator": 0.2, "decay": 0.8, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
EXPECTED = {
    "sgd": lambda c, rate: optax.sgd(rate),
    "momentum": lambda c, rate: optax.sgd(rate, momentum=c.momentum),
    "nesterov": lambda c, rate: optax.sgd(rate, momentum=c.momentum, nesterov=True),
    "adagrad": lambda c, rate: optax.adagrad(rate, c.accumulator, c.eps),
    "rmsprop": lambda c, rate: optax.rmsprop(rate, decay=c.decay, eps=c.eps),
    "adadelta": lambda c, rate: optax.adadelta(rate, rho=c.decay, eps=c.eps),
    "adam": lambda c, rate: optax.adam(rate, c.b1, c.b2, c.eps),
    "adamw": lambda c, rate: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=DECAY),
    "nadam": lambda c, rate: optax.nadam(rate, c.b1, c.b2, c.eps),
    "radam": lambda c, rate: optax.radam(rate, c.b1, c.b2, c.eps),
    "lion": lambda c, rate: optax.lion(rate, c.b1, c.b2, weight_decay=0),
}
NAMES = get_args(OptimizerConfig.model_fields["name"].annotation)
START = np.array([1.0, -2.0, 3.0])


def make(name: str, decay: float | None = None, **sections: dict[str, Any]) -> Config:
    decay = (DECAY if name == "adamw" else 0.0) if decay is None else decay
    o = {"name": name, **NUMBERS, "weight_decay": decay} | sections.pop("optimizer", {})
    return config.parse({"optimizer": o, **sections}, "test")


def gradient(params: Any) -> Any:
    return 2 * params - 1


def run(optimizer: optax.GradientTransformation, steps: int = 10) -> np.ndarray:
    params = jnp.asarray(START)
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def direction(name: str, g: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """What the rate is multiplied with, gradient by gradient, as the optimizer's paper has it."""
    m = v = x = np.zeros(3)
    if name == "adagrad":
        v = v + NUMBERS["accumulator"]
    mu, rho, b1, b2, eps = (NUMBERS[key] for key in ("momentum", "decay", "b1", "b2", "eps"))
    for t, now in enumerate(g, start=1):
        match name:
            case "sgd":
                yield now
            case "momentum" | "nesterov":
                m = mu * m + now
                yield m if name == "momentum" else mu * m + now
            case "adagrad":
                v = v + now**2
                yield now / np.sqrt(v + eps)
            case "rmsprop":
                v = rho * v + (1 - rho) * now**2
                yield now / np.sqrt(v + eps)
            case "adadelta":
                v = rho * v + (1 - rho) * now**2
                step = np.sqrt(x + eps) / np.sqrt(v + eps) * now
                x = rho * x + (1 - rho) * step**2
                yield step
            case "lion":
                step = np.sign(b1 * m + (1 - b1) * now)
                m = b2 * m + (1 - b2) * now
                yield step
            case _:
                m, v = b1 * m + (1 - b1) * now, b2 * v + (1 - b2) * now**2
                mean, root = m / (1 - b1**t), np.sqrt(v / (1 - b2**t)) + eps
                if name == "nadam":
                    mean = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * now / (1 - b1**t)
                if name == "radam":
                    longest = 2 / (1 - b2) - 1
                    length = longest - 2 * t * b2**t / (1 - b2**t)
                    share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                    yield mean if length < 5 else math.sqrt(share) * mean / root
                else:
                    yield mean / root


def by_formula(name: str, decay: float, steps: int = 10) -> np.ndarray:
    params = START.copy()

    def gradients() -> Iterator[np.ndarray]:
        while True:
            yield gradient(params)

    along = direction(name, gradients())
    for _ in range(steps):
        # Decoupled: the decay has no part in the direction (Loshchilov & Hutter 2019).
        params = params - RATE * (next(along) + decay * params)
    return params


@pytest.mark.parametrize(("name", "decay"), [*((name, None) for name in NAMES), ("nesterov", 0.2), ("radam", 0.2)])
def test_ten_steps_equal_optax_and_the_papers_formula(name: str, decay: float | None) -> None:
    c = make(name, decay)
    with jax.enable_x64(True):
        got = run(build.build(c, 10))
        if decay is None:
            assert (got == run(EXPECTED[name](c.optimizer, optax.constant_schedule(RATE)))).all()
    np.testing.assert_allclose(got, by_formula(name, c.optimizer.weight_decay), rtol=1e-7)
    assert (np.abs(got - START) > 1e-3).all()


def test_the_rate_follows_the_schedule() -> None:
    c = make("sgd", schedule={"name": "cosine", "warmup": 0.3})
    expected = run(optax.sgd(optax.warmup_cosine_decay_schedule(0.0, RATE, 3, 10, 0.0)))
    assert (run(build.build(c, 10)) == expected).all()


PARAMS = {
    "words": np.linspace(-1, 1, 24).reshape(8, 3),
    "capitals": np.ones((2, 2)),
    "hidden": [{"w": np.linspace(0.5, 2, 8).reshape(4, 2), "b": np.ones(2), "slope": np.ones(2)}],
    "output": {"w": np.ones((2, 3)), "b": np.ones(3)},
}


def arrays() -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float32), PARAMS)


def updates_of(c: Config, gradients: Any) -> dict[str, np.ndarray]:
    optimizer = build.build(c, 10)
    updates = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])(gradients, arrays())
    return {build.by_path.name_of(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(updates)}


def ones() -> Any:
    return jax.tree.map(np.ones_like, arrays())


def zeros() -> Any:
    return jax.tree.map(np.zeros_like, arrays())


def test_decay_leaves_biases_and_what_is_asked_alone() -> None:
    left = {
        ("*.b", "*.slope"): {"words", "capitals", "hidden.0.w", "output.w"},
        ("output.*", "words"): {"capitals", "hidden.0.w", "hidden.0.b", "hidden.0.slope"},
    }
    for undecayed, expected in left.items():
        updates = updates_of(make("lion", 0.5, optimizer={"undecayed": list(undecayed)}), zeros())
        assert {name for name, leaf in updates.items() if leaf.any()} == expected
        np.testing.assert_allclose(updates["capitals"], -RATE * 0.5 * PARAMS["capitals"], rtol=1e-6)
    assert OptimizerConfig().undecayed == ("*.b", "*.slope")


def test_clipping() -> None:
    gradients = jax.tree.map(lambda x: 3 * x, ones())
    size = sum(leaf.size for leaf in jax.tree.leaves(gradients))
    by_value = updates_of(make("sgd", optimizer={"clip_value": 0.5}), gradients)
    np.testing.assert_allclose(by_value["words"], -RATE * 0.5, rtol=1e-6)
    by_norm = updates_of(make("sgd", optimizer={"clip_norm": 2.0}), gradients)
    np.testing.assert_allclose(by_norm["words"], -RATE * 2 / math.sqrt(size), rtol=1e-6)
    within = updates_of(make("sgd", optimizer={"clip_norm": 1e3, "clip_value": 4.0}), gradients)
    np.testing.assert_allclose(within["words"], -RATE * 3, rtol=1e-6)
    # The gradient is bounded, not what the rule makes of it; and its norm is that of the entries that are left.
    before = updates_of(make("adam", optimizer={"clip_value": 0.5}), gradients)
    np.testing.assert_allclose(before["words"], -RATE * 0.5 / (0.5 + NUMBERS["eps"]), rtol=1e-5)
    uneven = {**gradients, "words": 1000 * gradients["words"], "capitals": 0.1 * np.ones_like(gradients["capitals"])}
    both = updates_of(make("sgd", optimizer={"clip_value": 0.5, "clip_norm": 2.0}), uneven)
    few = both["capitals"].size
    norm = math.sqrt((size - few) * 0.5**2 + few * 0.1**2)
    np.testing.assert_allclose(both["words"], -RATE * 0.5 * 2 / norm, rtol=1e-5)
    np.testing.assert_allclose(both["capitals"], -RATE * 0.1 * 2 / norm, rtol=1e-5)


def test_rates_of_layers() -> None:
    o = {"fan_in_rates": True, "rates": {"output.*": 2.0, "output.b": 9.0, "words": 0.5}}
    updates = updates_of(make("sgd", optimizer=o), ones())
    factors = {name: float(leaf.ravel()[0] / -RATE) for name, leaf in updates.items()}
    assert factors == pytest.approx(
        {
            "words": 0.5,
            "capitals": 1,
            **dict.fromkeys(("hidden.0.w", "hidden.0.b", "hidden.0.slope"), 1 / 4),
            **dict.fromkeys(("output.w", "output.b"), 2 / 2),
        }
    )


def test_max_norm_bounds_the_units_of_hidden_layers_and_nothing_else() -> None:
    params, gradients = arrays(), jax.tree.map(lambda x: -20 * x, ones())
    c = make("sgd", regularization={"max_norm": 3.0})
    optimizer = build.build(c, 10)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    free = np.asarray(params["hidden"][0]["w"]) + 20 * RATE
    norms = np.linalg.norm(free, axis=0)
    assert (norms > 3).all()
    after = np.asarray(optax.apply_updates(params, updates)["hidden"][0]["w"])
    np.testing.assert_allclose(after, free * 3 / norms, rtol=1e-5)
    np.testing.assert_allclose(updates["output"]["w"], 20 * RATE, rtol=1e-6)
    loose = updates_of(make("sgd", regularization={"max_norm": 100.0}), gradients)
    np.testing.assert_allclose(loose["hidden.0.w"], 20 * RATE, rtol=1e-5)


def touched(steps: int, each: int) -> np.ndarray:
    """Rows of each step, some of 8 and the rest empty slots; the last step touches all, so that all are caught up."""
    rng = np.random.default_rng(5)
    rows = [np.append(rng.permutation(8)[:each], np.full(8 - each, 8)) for _ in range(steps - 1)]
    return np.stack([*rows, np.arange(8)])


def train(c: Config, each: int = 3) -> np.ndarray:
    optimizer = build.build_rowwise(c, 24)
    traces = []

    def one(params: Any, state: Any, rows: Any, k: Any) -> Any:
        traces.append(1)
        params, state = optimizer.touch(params, state, {"words": rows})
        g = jax.tree.map(lambda x: jnp.cos(5 * x + k), params)
        g["words"] = RowSparse(rows, g["words"].at[rows].get(mode="fill", fill_value=0), 8, unique=True)
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state

    # Compiling is what takes the time here.
    step = jax.jit(one, compiler_options={"xla_backend_optimization_level": 0})
    params = {"words": arrays()["words"], "output": arrays()["output"]["b"]}
    state = optimizer.init(params)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(state)]
    for k, rows in enumerate(touched(24, each)):
        params, state = step(params, state, jnp.asarray(rows), jnp.asarray(k, jnp.float32))
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == dtypes
    assert len(traces) == 1
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("name", NAMES)
def test_touched_rows_alone_equal_all_rows(name: str) -> None:
    # An epsilon that the closed form of adam's missed updates may leave out; decay, clipping and rates beside it.
    o = {"clip_norm": 1.5, "rates": {"words": 0.5}}
    o |= {"eps": 1e-8} if "adam" in name else {"learning_rate": 1.0} if name == "adadelta" else {}
    decay = 0.0 if name == "adam" else 0.3
    exact, dense = (
        train(make(name, decay, optimizer={**o, "rows": rows}, schedule={"name": "linear"}))
        for rows in ("exact", "dense")
    )
    np.testing.assert_allclose(exact, dense, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", ["exact", "replay"])
def test_what_is_taken_for_proven_stands_its_trial(name: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "rowwise", lambda *args, proven, **options: rowwise(*args, **options))
    c = make(name, 0.01, optimizer={"eps": 1e-8, "rows": rows, "clip_norm": 1.0}, schedule={"name": "cosine"})
    build.build_rowwise(c, 10).init(arrays())


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.95), ("momentum", 0.95), ("sgd", 0.95)])
def test_more_decay_than_a_closed_form_bears_is_replayed(name: str, decay: float) -> None:
    o = {"learning_rate": 1.0, "eps": 1e-8}
    exact, dense = (train(make(name, decay, optimizer={**o, "rows": rows})) for rows in ("exact", "dense"))
    np.testing.assert_allclose(exact, dense, rtol=2e-4, atol=2e-5)
    assert build.is_replayed(make(name, decay, optimizer=o)) == (name != "sgd")
    assert not build.is_replayed(make(name, 0.01, optimizer={"learning_rate": 1.0, "eps": 1e-8}))


def test_the_decay_that_a_closed_form_bears_is_that_at_the_words_own_rate() -> None:
    o = {"learning_rate": 0.1, "eps": 1e-8, "b1": 0.9, "b2": 0.999}
    for share, replayed in ((8.0, True), (0.1, False)):
        c = make("adamw", 0.05, optimizer={**o, "rates": {"words": share}})
        assert build.is_replayed(c) == replayed
        assert np.isfinite(train(c)).all()


@pytest.mark.parametrize("undecayed", [[], ["words"]])
def test_sums_of_too_many_terms_are_replayed(undecayed: list[str]) -> None:
    for b2, replayed in ((0.91, False), (0.901, True)):
        c = make("adam", optimizer={"b1": 0.9, "b2": b2, "eps": 1e-8, "undecayed": undecayed, "rows": "exact"})
        assert build.is_replayed(c) == replayed
        assert (build.build_rowwise(c, 10).init({"words": jnp.ones((2, 2))}).now is None) == replayed


def test_lazy_differs_where_a_row_was_missed_and_only_there() -> None:
    some, every = (
        [train(make("adam", optimizer={"rows": rows}), each) for rows in ("lazy", "dense")] for each in (3, 8)
    )
    assert np.abs(some[0] - some[1]).max() > 1e-3
    np.testing.assert_allclose(*every, rtol=1e-5, atol=1e-7)


FACTORS = (1.0, 0.3, 0.3, 0.05, 2.0)


def run_of_epochs(c: Config, renewed: bool = True) -> np.ndarray:
    """The table after epochs of 8 steps, each with its factor of the rate; touched rows are few and seldom."""

    def one(params: Any, state: Any, rows: Any, k: Any, factor: Any) -> Any:
        optimizer = build.build_rowwise(c, 40, factor)
        params, state = optimizer.touch(params, state, {"words": rows})
        g = {"words": jnp.cos(5 * params["words"] + k)}
        g["words"] = RowSparse(rows, g["words"].at[rows].get(mode="fill", fill_value=0), 8, unique=True)
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(one, compiler_options={"xla_backend_optimization_level": 0})
    params = {"words": jnp.asarray(arrays()["words"])}
    state = build.build_rowwise(c, 40).init(params)
    for k, rows in enumerate(touched(8 * len(FACTORS), 2)):
        factor = jnp.asarray(FACTORS[k // 8], jnp.float32)
        if k and not k % 8:
            before = jnp.asarray(FACTORS[k // 8 - 1], jnp.float32)
            params, state = build.build_rowwise(c, 40, before).flush(params, state)
            if renewed:
                state = build.build_rowwise(c, 40, factor).renew(state)
        params, state = step(params, state, jnp.asarray(rows), jnp.asarray(k, jnp.float32), factor)
    return np.asarray(params["words"])


@pytest.mark.parametrize(
    ("name", "decay", "rows"),
    [("adam", 0.0, "exact"), ("adamw", 0.5, "exact"), ("momentum", 0.3, "exact"), ("momentum", 0.3, "replay")],
)
def test_rows_keep_up_with_a_rate_that_falls_between_epochs(name: str, decay: float, rows: str) -> None:
    numbers = {"eps": 1e-8, "rates": {"words": 0.5}, "rows": rows}
    c = make(name, decay, optimizer=numbers, schedule={"name": "linear", "warmup": 0.1})
    exact, forgetful = run_of_epochs(c), run_of_epochs(c, renewed=False)

    # The peer is optax alone, on all rows, with one schedule that has the factors in it.
    table = jnp.asarray(FACTORS)
    within = build.schedules.build(c.schedule, c.optimizer, 40)

    def rate(k: Any) -> Any:
        return 0.5 * table[k // 8] * within(k)

    o = c.optimizer
    direction = optax.trace(o.momentum) if name == "momentum" else optax.scale_by_adam(o.b1, o.b2, o.eps)
    peer = optax.chain(direction, optax.add_decayed_weights(decay), optax.scale_by_learning_rate(rate))
    params = jnp.asarray(arrays()["words"])
    state = peer.init(params)
    for k, rows_of_step in enumerate(touched(8 * len(FACTORS), 2)):
        of_rows = jnp.isin(jnp.arange(8), rows_of_step)[:, None]
        updates, state = peer.update(jnp.where(of_rows, jnp.cos(5 * params + k), 0), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(exact, params, rtol=2e-4, atol=2e-5)
    # What a replay keeps has no rate in it, so there is nothing to renew.
    assert (np.abs(forgetful - params).max() > 1e-3) == (rows == "exact")


# How each number of an optimizer is put into optax's own transformation of it, and that of the rows of what it missed.
SCHEDULED = {
    "momentum": ("momentum", lambda n: optax.trace(n)),
    "decay": ("rmsprop", lambda n: optax.scale_by_rms(decay=n, eps=NUMBERS["eps"])),
    "b1": ("adam", lambda n: optax.scale_by_adam(n, NUMBERS["b2"], 1e-8)),
    "b2": ("adam", lambda n: optax.scale_by_adam(NUMBERS["b1"], n, 1e-8)),
    "eps": ("adam", lambda n: optax.scale_by_adam(NUMBERS["b1"], NUMBERS["b2"], n)),
    "weight_decay": ("adamw", lambda n: optax.add_decayed_weights(n)),
    "clip_value": ("sgd", lambda n: optax.clip(n)),
    "clip_norm": ("momentum", lambda n: optax.clip_by_global_norm(n)),
}
SETTINGS = {"weight_decay": 0.8, "clip_value": 0.9, "clip_norm": 0.7, "learning_rate": 0.3, "momentum": 0.9}


def by_injection(field: str, number: Callable[[Any], Any]) -> np.ndarray:
    """What `train` computes, on all rows, by optax and its own way to schedule a number."""
    part = SCHEDULED[field][1]
    varied = optax.inject_hyperparams(lambda n: part(n))(n=number)
    peer = {
        "weight_decay": lambda: (optax.scale_by_adam(NUMBERS["b1"], NUMBERS["b2"], 1e-8), varied),
        "clip_norm": lambda: (varied, optax.trace(SETTINGS["momentum"])),
    }.get(field, lambda: (varied,))()
    optimizer = optax.chain(*peer, optax.scale_by_learning_rate(SETTINGS["learning_rate"]))
    params = {"words": jnp.asarray(arrays()["words"]), "output": jnp.asarray(arrays()["output"]["b"])}
    state = optimizer.init(params)

    def one(params: Any, state: Any, of_rows: Any, k: Any) -> Any:
        g = jax.tree.map(lambda x: jnp.cos(5 * x + k), params)
        g["words"] = jnp.where(of_rows, g["words"], 0)
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(one, compiler_options={"xla_backend_optimization_level": 0})
    for k, rows in enumerate(touched(24, 3)):
        of_rows = jnp.isin(jnp.arange(8), rows)[:, None]
        params, state = step(params, state, of_rows, jnp.asarray(k, jnp.float32))
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("field", SCHEDULED)
def test_a_number_may_follow_a_curve_of_its_own(field: str) -> None:
    name, _ = SCHEDULED[field]
    eps = NUMBERS["eps"] if field in ("eps", "decay") else 1e-8
    clips = {other: 0.0 for other in ("clip_value", "clip_norm") if other != field}
    o = {**SETTINGS, **clips, "eps": eps, "undecayed": [], "rows": "exact"}
    o["weight_decay"] = SETTINGS["weight_decay"] if field == "weight_decay" else 0.0
    schedule = {"others": {f"optimizer.{field}": {"name": "linear", "final": 0.1}}}
    found = train(make(name, optimizer=o, schedule=schedule))
    begin = {**NUMBERS, **o}[field]
    expected = by_injection(field, lambda k: begin * (1 - 0.9 * jnp.minimum(k, 24) / 24))
    np.testing.assert_allclose(found, expected, rtol=5e-4, atol=5e-5)
    # And it is not what the number gives that does not move.
    assert np.abs(train(make(name, optimizer=o)) - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["sgd", "adam", "lion"])
@pytest.mark.parametrize("others", [{}, {"optimizer.b1": {"name": "linear", "final": 0.5}}])
def test_the_share_of_the_tables_rate_may_follow_a_curve_of_its_own(name: str, others: dict[str, Any]) -> None:
    def made(rates: dict[str, float], rows: str, **curves: Any) -> np.ndarray:
        optimizer = {**SETTINGS, "eps": 1e-8, "clip_value": 0.0, "clip_norm": 0.0, "rates": rates, "rows": rows}
        return train(make(name, optimizer=optimizer, schedule={"name": "cosine", "others": {**others, **curves}}))

    curve = {"name": "linear", "final": 0.1, "warmup": 0.25}
    expected = made({"w*": 3.0, "words": 1.0}, "dense", **{"optimizer.rates.w*": curve})
    np.testing.assert_allclose(
        made({"words": 3.0}, "exact", **{"optimizer.rates.words": curve}), expected, rtol=5e-4, atol=5e-5
    )
    assert np.abs(made({"words": 3.0}, "dense") - expected).max() > 1e-3


def test_the_bound_of_norms_may_follow_a_curve_of_its_own() -> None:
    others = {"regularization.max_norm": {"name": "linear", "final": 0.5}}
    optimizer = build.build(make("sgd", regularization={"max_norm": 3.0}, schedule={"others": others}), 10)
    params = arrays()
    state = optimizer.init(params)
    for step in range(3):
        updates, state = optimizer.update(jax.tree.map(lambda x: -20 * x, ones()), state, params)
        params = optax.apply_updates(params, updates)
        norms = np.linalg.norm(params["hidden"][0]["w"], axis=0)
        np.testing.assert_allclose(norms, 3 - 0.15 * step, rtol=1e-5)


def test_penalty_and_decay_are_one_for_sgd_and_two_for_adam() -> None:
    def penalized(optimizer: optax.GradientTransformation, strength: float) -> np.ndarray:
        return run(optax.chain(optax.add_decayed_weights(strength), optimizer))

    def decoupled(name: str, decay: float) -> np.ndarray:
        return run(build.build(make(name, decay), 10))

    np.testing.assert_allclose(penalized(optax.sgd(RATE), DECAY), decoupled("sgd", DECAY), rtol=1e-6)
    plain = build.build(make("adam"), 10)
    assert np.abs(penalized(plain, DECAY) - decoupled("adamw", DECAY)).max() > 1e-3


def test_a_decay_that_takes_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"^a: optimizer.weight_decay: required less than 1 / optimizer.learning_rate"):
        config.parse({"optimizer": {"name": "sgd", "weight_decay": 0.5, "learning_rate": 2.0}}, "a")


def test_rate_and_decay_may_be_arrays_of_a_compiled_program() -> None:
    # Runs that differ in them alone are computed together, none of them with 0 for "none".
    c = make("adamw", 0.3, schedule={"name": "one_cycle", "warmup": 0.2})

    def ran(rate: Any, decay: Any) -> Any:
        o = c.optimizer.model_copy(update={"learning_rate": rate, "weight_decay": decay})
        optimizer = build.build_rowwise(c.model_copy(update={"optimizer": o}), 10)
        params = {"words": jnp.asarray(arrays()["words"])}
        state = optimizer.init(params)
        g = {"words": RowSparse(jnp.arange(2), jnp.ones((2, 3)), 8, unique=True)}
        # In a warm-up, the first rate is 0.
        for _ in range(2):
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
        return params["words"]

    mapped = jax.jit(jax.vmap(ran))(jnp.array([RATE, 0.1, RATE]), jnp.array([0.0, 0.3, 0.3]))
    np.testing.assert_allclose(mapped[2], ran(RATE, 0.3), rtol=1e-5)
    assert (mapped[0] != mapped[2]).any()
    assert (mapped[1] != mapped[2]).any()


def test_every_name_is_tested() -> None:
    functions: dict[str, Callable[..., Any]] = EXPECTED
    assert set(functions) == set(NAMES)


def test_an_epsilon_that_counts_is_not_left_out_of_missed_updates() -> None:
    params = {"words": jnp.ones((2, 2))}
    ends = {}
    for rows in ("exact", "dense"):
        optimizer = build.build_rowwise(
            make("adam", optimizer={"eps": 1e-3, "b1": 0.9, "b2": 0.999, "learning_rate": 0.01, "rows": rows}), 60
        )
        now, state = params, optimizer.init(params)
        for k in range(60):
            touched = jnp.array([0] if k == 0 else [1])
            now, state = optimizer.touch(now, state, {"words": touched})
            gradient = {"words": RowSparse(touched, jnp.full((1, 2), 1e-3), 2, unique=True)}
            updates, state = optimizer.update(gradient, state, now)
            now = optax.apply_updates(now, updates)
        ends[rows] = np.asarray(optimizer.flush(now, state)[0]["words"])
    assert np.allclose(ends["exact"], ends["dense"], rtol=1e-6)
    assert ends["dense"][0, 0] > 0.975
    # As the field says: from above 1e-7 on.
    for eps, replayed in ((1e-7, False), (1.01e-7, True)):
        assert build.is_replayed(make("adam", optimizer={"eps": eps})) == replayed
