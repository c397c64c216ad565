"""Every schedule against its formula, in float64 and without optax."""

import math
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from windownet import config
from windownet.optim import missed, schedules
from windownet.schema.curves import ScheduleConfig

NAMES = get_args(ScheduleConfig.model_fields["name"].annotation)
PEAK = 0.3
# Every number differs from its default, so that one that is not handed on shows.
NUMBERS = {
    "final": 0.125,
    "power": 3.0,
    "factor": 0.7,
    "every": 0.1,
    "cycles": 3,
    "growth": 2.0,
    "start": 0.2,
    "climb": 0.4,
    "decay": 0.35,
}
JUMPS = {"step", "cosine"}


def make(name: str, steps: int, **numbers: Any) -> Callable[[Any], Any]:
    c = config.parse({"schedule": {"name": name, **numbers}, "optimizer": {"learning_rate": PEAK}}, "test")
    return schedules.build(c.schedule, c.optimizer, steps)


def rates(rate: Callable[[Any], Any], count: int) -> np.ndarray:
    """The rates of the first steps; always asked in arrays of one shape, so that jax compiles each operation once."""
    arrays = [rate(jnp.asarray(np.arange(start, start + 250))) for start in range(0, count, 250)]
    return np.concatenate([np.broadcast_to(array, 250) for array in arrays])[:count]


def half_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * min(share, 1))) / 2


def formula(name: str, step: int, steps: int, warmup: int) -> float:
    """The factor of the peak, as the literature has it, with NUMBERS; `warmup` in steps."""
    if step < warmup:
        return formula(name, warmup, steps, warmup) * step / warmup
    t, length = step - warmup, steps - warmup
    share = min(t / length, 1)
    match name:
        case "constant" | "plateau":
            return 1
        case "step":
            return 0.7 ** (t // (steps // 10))
        case "exponential":
            return math.exp(math.log(0.7) * t / (steps / 10))
        case "inverse_time":
            return 1 / (1 + t / (steps / 10))
        case "inverse_sqrt":
            return 1 / math.sqrt(1 + t / (steps / 10))
        case "linear":
            return 0.125 + 0.875 * (1 - share)
        case "polynomial":
            return 0.125 + 0.875 * (1 - share) ** 3
        case "cosine":
            # Three cycles of 1, 2 and 4 sevenths.
            start, end = next((a, b) for a, b in [(0, 1), (1, 3), (3, 7)] if b == 7 or t < round(b * length / 7))
            start, end = round(start * length / 7), round(end * length / 7)
            return half_cosine(1, 0.125, (t - start) / (end - start))
        case "one_cycle":
            climb = round(0.4 * length)
            return (
                half_cosine(0.2, 1, t / climb) if t < climb else half_cosine(1, 0.125, (t - climb) / (length - climb))
            )
        case "triangular":
            place = 3 * share % 1
            return 0.2 + 0.8 * (2 * place if place < 0.5 else 2 - 2 * place)
        case "warmup_stable_decay":
            decay = round(0.35 * steps)
            return 1 - 0.875 * min(max(0, t - (length - decay)) / decay, 1)
    raise AssertionError(name)


@pytest.mark.parametrize(("name", "warmup"), [("cosine", 0.0), *((name, 0.163) for name in NAMES)])
def test_equals_its_formula(name: str, warmup: float) -> None:
    steps = 200
    rate = make(name, steps, warmup=warmup, **NUMBERS)
    # A few steps after the end as well: closed forms of missed updates look ahead.
    at = np.arange(steps + 50)
    expected = [PEAK * formula(name, int(step), steps, round(warmup * steps)) for step in at]
    np.testing.assert_allclose(rates(rate, steps + 50), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(set(NAMES) - JUMPS))
def test_no_jump_at_the_seams(name: str) -> None:
    # What is continuous changes a tenth as much in a step where the run has ten times the steps.
    coarse, fine = (np.abs(np.diff(rates(make(name, n, warmup=0.2, **NUMBERS), n))).max() for n in (300, 3000))
    assert fine <= 0.12 * coarse


def test_a_warm_up_climbs_to_the_peak_where_a_triangle_has_one_step() -> None:
    rate = make("triangular", 5, warmup=0.99, start=0.0)
    np.testing.assert_allclose(rates(rate, 5), [PEAK * share for share in (0, 0.25, 0.5, 0.75, 1)], rtol=1e-5)


@pytest.mark.parametrize("climb", [0.0, 0.02])
def test_a_warm_up_climbs_to_the_peak_where_one_cycle_has_no_climb(climb: float) -> None:
    rate = make("one_cycle", 20, warmup=0.25, climb=climb, start=0.04)
    expected = [PEAK * share for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    np.testing.assert_allclose(rates(rate, 6), expected, rtol=1e-5)
    c = config.parse({"schedule": {"name": "one_cycle", "warmup": 0.25, "climb": climb}}, "test")
    assert schedules.seams(c.schedule, 20) == {5: "warm-up is over"}


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 18, 21, 200])
@pytest.mark.parametrize(("cycles", "warmup"), [(1, 0.0), (9, 0.0), (14, 0.1), (18, 0.0), (50, 0.2)])
def test_every_cycle_of_a_triangle_has_its_height(steps: int, cycles: int, warmup: float) -> None:
    rate = rates(make("triangular", steps, cycles=cycles, start=0.0, warmup=warmup), steps)[round(warmup * steps) :]
    held = min(cycles, max(1, len(rate) // 2))
    for cycle in range(held):
        of_cycle = np.arange(len(rate)) * held // len(rate) == cycle
        assert rate[of_cycle].max() >= 0.499 * PEAK
    # It does not fall apart into more of them: that many times it comes down.
    slopes = np.sign(np.diff([0, *rate, 0]))
    assert (np.diff(slopes[slopes != 0]) < 0).sum() == held


def test_restarts_jump_to_the_peak_and_nowhere_else() -> None:
    rate = rates(make("cosine", 700, **NUMBERS), 701)
    rises = np.flatnonzero(np.diff(rate) > 0) + 1
    assert rises.tolist() == [100, 300]
    assert rate[rises] == pytest.approx(PEAK)
    assert rate[700] == pytest.approx(PEAK * 0.125)


@pytest.mark.parametrize(
    ("name", "last"),
    [("linear", 0.0), ("polynomial", 0.0), ("cosine", 0.0), ("one_cycle", 0.0), ("warmup_stable_decay", 0.0)],
)
@pytest.mark.parametrize("after", [0, 1, 1000])
def test_ends_with_exactly_what_is_asked(name: str, last: float, after: int) -> None:
    assert float(make(name, 100, warmup=0.3)(100 + after)) == last
    assert float(make(name, 100, final=1.0)(100 + after)) == pytest.approx(PEAK, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_shortest_runs_have_rates(name: str, steps: int) -> None:
    for warmup, numbers in (
        (0.0, {}),
        (0.99, {"decay": 0.01}),
        (0.5, {"cycles": 50, "growth": 10.0, "climb": 0.99, "every": 1e-9, "decay": 0.01, "start": 0.0}),
    ):
        rate = rates(make(name, steps, warmup=warmup, **numbers), 50)
        assert np.isfinite(rate).all()
        assert rate.min() >= 0
        assert rate.max() <= PEAK * (1 + 1e-6)
        assert rate[:steps].max() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("numbers", [{}, {"every": 0.21, "start": 1e-9, "final": 1e-12}])
def test_nothing_is_below_the_lowest(name: str, numbers: dict[str, Any]) -> None:
    curve = ScheduleConfig(name=name, **{**NUMBERS, **numbers})
    assert curve.lowest() > 0
    # With 7 steps, 0.21 of them are 1.
    for steps in (1, 2, 7, 40):
        rate = rates(make(name, steps, **NUMBERS | numbers), steps)
        assert rate.min() >= PEAK * curve.lowest() * (1 - 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_takes_steps_of_any_shape_under_jit_and_vmap(name: str) -> None:
    rate = make(name, 60, warmup=0.1, **NUMBERS)
    steps = jnp.arange(12, 24, dtype=jnp.int32).reshape(3, 4)
    whole = rate(steps)
    assert (whole.shape, whole.dtype) == ((3, 4), jnp.float32)
    one_by_one = [[float(rate(jnp.asarray(step, jnp.int32))) for step in row] for row in steps]
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(rate)(steps), whole, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.vmap(rate))(steps), whole, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_form_of_missed_updates_takes_it(name: str) -> None:
    closed = missed.adam(make(name, 60, warmup=0.1, **NUMBERS))
    assert np.isfinite(jax.jit(closed.note)(jnp.asarray(7, jnp.int32), closed.begin())).all()


def test_word_dropout_changes_between_epochs_alone() -> None:
    curve = {"name": "linear", "final": 0.2}
    tree = {
        "regularization": {"word_dropout": 0.5, "input_dropout": 0.5},
        "schedule": {"others": {schedules.WORD_DROPOUT: curve, "regularization.input_dropout": curve}},
        "train": {"epochs": 4},
    }
    numbers = schedules.others(config.parse(tree, "test"), 12)
    each = [0.5 * (1 - 0.8 * step / 12) for step in range(12)]
    np.testing.assert_allclose(rates(numbers["regularization.input_dropout"], 12), each, rtol=1e-5)
    np.testing.assert_allclose(rates(numbers[schedules.WORD_DROPOUT], 12), np.repeat(each[::3], 3), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {20: "warm-up is over"}),
        ("cosine", {20: "warm-up is over", 31: "restart", 54: "restart"}),
        ("one_cycle", {20: "warm-up is over", 52: "climb is over"}),
        ("warmup_stable_decay", {20: "warm-up is over", 65: "decay begins"}),
    ],
)
def test_seams_are_where_the_rate_turns(name: str, expected: dict[int, str]) -> None:
    c = config.parse({"schedule": {"name": name, "warmup": 0.2, **NUMBERS}}, "test")
    assert schedules.seams(c.schedule, 100) == expected
    rate = rates(schedules.build(c.schedule, c.optimizer, 100), 102)
    bends = np.abs(np.diff(rate, 2))
    for step, what in expected.items():
        if what == "climb is over":
            assert rate.argmax() == step
        else:
            # Nowhere near by does the slope change as it does there.
            assert bends[step - 2 : step + 1].max() > 2 * max(bends[step - 6], bends[step + 4])
