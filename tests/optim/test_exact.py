"""What an exact rowwise refuses because a small table shows that it would be wrong."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from windownet.optim import missed
from windownet.optim.missed import Missed
from windownet.optim.rowwise import rowwise

PARAMS = {"table": jnp.ones((50, 8)), "bias": jnp.ones(3)}
WARM = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 100, 2000)
SHORT = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 100, 150)


def begin(inner: optax.GradientTransformation, closed: Missed | None = None, **options: Any) -> Any:
    return rowwise(inner, "exact", tables=["table"], missed=closed, **options).init(PARAMS)


def over_the_largest(updates: Any, state: Any, params: Any) -> Any:
    """Updates over their largest, or over 1e6, by a reduction that jax has no name for."""

    def scaled(x: jax.Array) -> jax.Array:
        return x / jax.lax.reduce(
            x, jnp.asarray(1e6, x.dtype), lambda a, b: jnp.where(a > b, a, b), tuple(range(x.ndim))
        )

    return jax.tree.map(scaled, updates), state


def jitted(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.GradientTransformation(inner.init, jax.jit(inner.update))


def looped(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same, with its update in a loop of one turn and a condition."""

    def update(updates: Any, state: Any, params: Any) -> Any:
        def turn(_: Any, carry: Any) -> Any:
            return jax.lax.cond(True, lambda u, s: inner.update(u, s, params), lambda u, s: (u, s), *carry)

        return jax.lax.fori_loop(0, 1, turn, (updates, state))

    return optax.GradientTransformation(inner.init, update)


@pytest.mark.parametrize(
    "inner",
    [
        optax.lamb(0.1),
        optax.lars(0.1),
        optax.fromage(0.1),
        optax.adafactor(0.1),
        optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1)),
        optax.chain(optax.clip_by_block_rms(0.01), optax.sgd(0.1)),
        optax.chain(optax.trace(0.9), optax.masked(optax.clip_by_global_norm(1.0), {"table": True, "bias": False})),
        # These bounds are met by many rows only.
        optax.chain(optax.adam(1e-2), optax.clip_by_global_norm(1e6)),
        optax.chain(optax.lion(1e-2), optax.masked(optax.clip_by_global_norm(1e6), {"table": True, "bias": False})),
        jitted(optax.chain(optax.lion(1e-2), optax.clip_by_global_norm(1e6))),
        looped(optax.chain(optax.lion(1e-2), optax.clip_by_global_norm(1e6))),
        optax.chain(
            optax.trace(0.9), optax.GradientTransformation(lambda params: optax.EmptyState(), over_the_largest)
        ),
    ],
    ids=[
        *("lamb", "lars", "fromage", "adafactor", "columns", "block", "moments"),
        *("adam", "lion", "jitted", "looped", "reduced"),
    ],
)
def test_rows_that_depend_on_one_another(inner: optax.GradientTransformation) -> None:
    with pytest.raises(TypeError, match="updates of each row of table 'table' that depend on that row alone, got some"):
        begin(inner)
    rowwise(inner, "lazy", tables=["table"]).init(PARAMS)


@pytest.mark.parametrize("wrapped", [jitted, looped])
def test_a_norm_of_gradients_is_no_tie_between_rows(wrapped: Any) -> None:
    begin(wrapped(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))))
    begin(jitted(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))))


def far_bounds(updates: Any, state: Any, params: Any) -> Any:
    return jax.tree.map(lambda x: x * jnp.minimum(1, 1e5 / optax.tree.norm(updates)), state["trace"]), state


def by_the_bias_gradient(updates: Any, state: Any, params: Any) -> Any:
    trace = jax.tree.map(lambda t, g: 0.9 * t + g, state["trace"], updates)
    return jax.tree.map(lambda x: x / (1 + jnp.linalg.norm(updates["bias"])), trace), {"trace": trace}


@pytest.mark.parametrize("update", [far_bounds, by_the_bias_gradient])
def test_missed_updates_that_gradients_of_others_change(update: Any) -> None:
    inner = optax.GradientTransformation(lambda params: {"trace": jax.tree.map(jnp.ones_like, params)}, update)
    with pytest.raises(TypeError, match=r"that other rows or gradients change, by (0|more than themselves)"):
        begin(inner)
    rowwise(inner, "lazy", tables=["table"]).init(PARAMS)


def test_a_mean_of_gradients_whose_bound_is_far_off() -> None:
    with pytest.raises(TypeError, match="depend on how many rows there are, as through a mean of gradients"):
        begin(optax.chain(optax.clip_by_block_rms(5e3), optax.sgd(1e-6, momentum=0.9)))


def test_a_number_that_is_none_is_the_same_for_any_height() -> None:
    guarded = optax.stateless(
        lambda updates, _: jax.tree.map(lambda x: jnp.where(x > 1e38, x * np.float32("nan"), x), updates)
    )
    begin(optax.chain(guarded, optax.adam(0.1)))


def test_a_large_network_beside_the_table_is_not_made() -> None:
    # Half a terabyte, were it.
    types = {**PARAMS, "bias": jax.ShapeDtypeStruct((250_000, 500_000), jnp.float32)}
    inner = optax.multi_transform(
        {"table": optax.adam(0.1), "others": optax.chain(optax.clip_by_global_norm(1.0), contrib.muon(0.1))},
        {"table": "table", "bias": "others"},
    )
    assert jax.eval_shape(rowwise(inner, "exact", tables=["table"]).init, types).step.shape == ()


def by_the_bias(updates: Any, state: Any, params: Any) -> Any:
    return jax.tree.map(lambda x: x * jnp.linalg.norm(params["bias"]), updates), state


def test_updates_that_another_parameter_changes() -> None:
    scaled = optax.GradientTransformation(lambda params: optax.EmptyState(), by_the_bias)
    with pytest.raises(TypeError, match="depend on no other parameter, got some that bias changes; use mode 'lazy'"):
        begin(optax.chain(optax.trace(0.9), scaled))


def test_rows_of_one_table_that_another_changes() -> None:
    def crossed(updates: Any, state: Any, params: Any) -> Any:
        return {"a": updates["a"] + 0.1 * params["b"], "b": updates["b"]}, state

    inner = optax.GradientTransformation(lambda params: optax.EmptyState(), crossed)
    with pytest.raises(TypeError, match="got some that other rows of b change"):
        rowwise(inner, "exact", tables=["a", "b"]).init({"a": jnp.ones((3, 2)), "b": jnp.ones((3, 2))})


FORMS = {
    "sgd": (optax.sgd(WARM), missed.decay(WARM)),
    "momentum": (optax.sgd(1e-3, 0.99), missed.momentum(1e-3, 0.99)),
    "adagrad": (optax.adagrad(0.1), missed.decay(0.1, sum_of_squares=1.0)),
    "adamw": (optax.adamw(WARM, weight_decay=0.1), missed.adam(WARM, weight_decay=0.1)),
    "nadam": (optax.nadam(1e-3), missed.adam(1e-3, nesterov=True)),
    "epsilon": (optax.adam(1e-3, eps=1e-3), missed.adam(1e-3, eps=1e-3)),
    "small epsilon": (optax.nadam(1e-3, eps=1e-6), missed.adam(1e-3, eps=1e-6, nesterov=True)),
    "clipped": (optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-3)), missed.adam(1e-3)),
}


@pytest.mark.parametrize("name", FORMS)
def test_right_forms_pass(name: str) -> None:
    inner, closed = FORMS[name]
    assert jax.jit(lambda: begin(inner, closed))().now.shape == (4,)


@pytest.mark.parametrize(
    ("inner", "closed", "message"),
    [
        (optax.adam(1e-3), missed.adam(2e-3), "off by 1 of what 24 missed updates of table 'table' do"),
        (optax.adamw(1e-2, weight_decay=0.1), missed.adam(1e-2), "off by"),
        # optax's adamw decays by 1e-4 unless it is told otherwise.
        (optax.adamw(1e-3), missed.adam(1e-3), "off by 1 of"),
        (optax.adam(WARM), missed.adam(SHORT), "missed updates of table 'table' do after .04 others"),
        (optax.adabelief(1e-3), missed.adam(1e-3), "off by"),
        (optax.adam(1e-3, eps_root=1e-3), missed.adam(1e-3), "off by"),
        (optax.adam(1e-3, eps_root=1e-12), missed.adam(1e-3), "off by"),
        (optax.adam(1e-3, eps=1e-6), missed.adam(1e-3), "off by"),
        (optax.adam(1e-3), missed.adam(1e-3, eps=1e-10), "off by"),
        (optax.sgd(0.1, 0.9, nesterov=True), missed.momentum(0.1, 0.9), "off by"),
        (optax.rmsprop(0.1, decay=0.9), missed.decay(0.1, nu=0.99), "off by"),
        (optax.adam(1e-3), missed.adam(1e-3)._replace(direction=lambda state: state["mu"] * jnp.nan), "off by nan"),
        (optax.amsgrad(1e-3), missed.adam(1e-3), "a state of table 'table' of mu, nu, got mu, nu, nu_max; leave"),
        (optax.rmsprop(0.1, centered=True), missed.decay(0.1, nu=0.9), "of nu, got mu, nu"),
        (optax.chain(optax.trace(0.9), optax.trace(0.5)), missed.momentum(1.0, 0.9), "of trace, got trace, trace"),
    ],
)
def test_forms_of_another_transformation(inner: Any, closed: Missed, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        begin(inner, closed)
    if "off by" in message:
        begin(inner, closed, proven=True)


@pytest.mark.parametrize("closed", [None, missed.adam(0.1)])
def test_what_other_leaves_decide_is_refused_in_closed_form_too(closed: Missed | None) -> None:
    with pytest.raises(TypeError, match=r"only counts updates or stays as it is, got notfinite_count, which"):
        begin(optax.apply_if_finite(optax.adam(0.1), 5), closed)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("wide", [False, True])
def test_tables_of_any_dtype_stand_their_trial(dtype: str, wide: bool) -> None:
    inner = optax.chain(optax.inject_hyperparams(optax.scale_by_adam)(b1=0.9), optax.sgd(0.1))
    with jax.enable_x64(wide):
        params = jax.tree.map(lambda x: x.astype(dtype if wide or dtype != "float64" else "float32"), PARAMS)
        rowwise(inner, "exact", tables=["table"]).init(params)
        closed = rowwise(inner, "exact", tables=["table"], missed=missed.adam(0.1))
        if dtype == "bfloat16":
            with pytest.raises(ValueError, match="'table' and its state to be of float32 or wider, got bfloat16, in"):
                closed.init(params)
        else:
            closed.init(params)


def test_a_state_that_is_narrower_than_its_table_has_no_closed_form() -> None:
    with pytest.raises(ValueError, match="of float32 or wider, got bfloat16"):
        begin(optax.adam(0.1, mu_dtype="bfloat16"), missed.adam(0.1))


def test_tables_without_elements() -> None:
    for shape in ((3, 0), (0, 3)):
        assert rowwise(optax.adam(0.1), "exact").init(jnp.ones(shape)).inner[0].mu.shape == shape


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (optax.chain(optax.sgd(0.1, 0.9), contrib.reduce_on_plateau()), "'value'"),
        (contrib.momo(0.1), "'value'"),
    ],
)
def test_what_needs_other_arguments(inner: Any, said: str) -> None:
    with pytest.raises(
        TypeError, match=rf"rowwise: 'exact' required an update from .* alone.*got .*{said}.*; use mode"
    ):
        begin(inner)


def by_height(of: str) -> optax.GradientTransformation:
    def large(params: Any) -> Any:
        return jax.tree.map(lambda x: x.size >= 100, params)

    if of == "muon":
        return contrib.muon(0.1)
    if of == "mask":
        return optax.chain(optax.add_decayed_weights(0.1, mask=large), optax.sgd(0.1))
    return optax.multi_transform({True: optax.adam(0.1), False: optax.sgd(0.1)}, large)


@pytest.mark.parametrize("of", ["mask", "labels", "muon"])
def test_what_looks_at_the_height_of_a_table(of: str) -> None:
    with pytest.raises(TypeError, match="required an update that is the same for a few rows of a table as for all"):
        begin(by_height(of))
