"""What training is compiled with."""

from collections.abc import Iterator

import jax
import pytest

from windownet import machine


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    machine.compiler_options.cache_clear()
    yield
    machine.compiler_options.cache_clear()


def test_this_version_of_xla_knows_all_of_them() -> None:
    expected = machine._CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    assert machine.compiler_options() == expected


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(machine, "_CPU_OPTIONS", {"xla_cpu_of_another_version": 1, "xla_cpu_enable_fast_math": False})
    assert machine.compiler_options() == {"xla_cpu_enable_fast_math": False}


def test_a_value_that_xla_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(machine, "_CPU_OPTIONS", {"xla_cpu_prefer_vector_width": "wide"})
    with pytest.raises(jax.errors.JaxRuntimeError):
        machine.compiler_options()


def test_what_the_environment_sets_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=256")
    assert set(machine._CPU_OPTIONS) - set(machine.compiler_options()) == {"xla_cpu_prefer_vector_width"}


def test_other_devices_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert machine.compiler_options() == {}
