import jax.numpy as jnp
import optax
import pytest
from hypothesis import given, settings, strategies as st

from windownet.schema.curves import ScheduleConfig
from windownet.train.stopping import is_over, rate_factor


@pytest.mark.parametrize(
    ("f1", "patience", "over"),
    [
        ([0.0], 1, False),
        ([50.0, 40.0], 1, True),
        ([50.0, 40.0], 2, False),
        ([50.0, 40.0, 45.0], 2, True),
        ([50.0, 50.0], 1, True),
        ([50.0, 40.0, 60.0], 2, False),
        ([50.0, 40.0, 60.0, 1.0, 2.0], 2, True),
        ([50.0] * 99, 0, False),
    ],
)
def test_patience_counts_the_epochs_since_the_best(f1, patience, over):
    assert is_over(f1, patience) == over


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 12.5, 50.0, 75.0]), max_size=20), st.integers(1, 4), st.sampled_from([0.0, 0.3]))
def test_the_rate_falls_as_optax_has_it(f1, patience, final):
    peer = optax.contrib.reduce_on_plateau(0.5, patience, rtol=0.0, atol=1e-6, min_scale=final)
    state = peer.init(jnp.zeros(()))
    schedule = ScheduleConfig(name="plateau", factor=0.5, patience=patience, final=final)
    for n, now in enumerate(f1, start=1):
        _, state = peer.update(jnp.zeros(()), state, value=-jnp.asarray(now))
        assert rate_factor(f1[:n], schedule) == pytest.approx(float(state.scale))
    assert rate_factor(f1, ScheduleConfig(name="linear", patience=patience)) == 1
