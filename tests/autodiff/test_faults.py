"""Every planted fault is refused, by the witness or duty that the table names."""

import functools

import faults
import pytest


@functools.cache
def _report(name: str) -> faults.Report:
    return faults.FAULTS[name].build().check()


def test_table_is_large_enough() -> None:
    assert len(faults.FAULTS) >= 30
    assert sum(not isinstance(f.build().subject, faults.Op) for f in faults.FAULTS.values()) >= 5


@pytest.mark.parametrize("name", faults.FAULTS)
def test_fault_is_caught(name: str) -> None:
    assert not _report(name).ok
    assert faults.FAULTS[name].caught_by in {c.witness for c in _report(name).wrong}


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("affine_decayed", {faults.ZERO}),
        ("square_upstream_clipped", {faults.LINEAR}),
        ("square_not_repeatable", {faults.DETERMINISTIC}),
        ("square_stale_residual", {faults.ELSEWHERE}),
        ("affine_bias_across_examples", {faults.VMAP}),
        ("relu_nan_to_zero", {faults.NON_FINITE}),
        ("sigmoid_float32_only", {faults.FLOAT32}),
        ("softplus_bfloat16_only", {faults.BFLOAT16}),
        ("maximum_tie_to_both", {faults.TOGETHER}),
        ("softplus_stopped", {faults.NUMERIC}),
        ("embed_expects_order", {faults.ORDER}),
    ],
)
def test_nothing_else_would_catch_it(name: str, only: set[str]) -> None:
    # What each of these duties and witnesses is there for: without it the fault would pass.
    assert {c.witness for c in _report(name).wrong} == only


def test_the_network_without_faults_is_right() -> None:
    faults.network({}).check().raise_if_wrong()


def test_a_fault_leaves_the_table_of_ops_alone() -> None:
    before = dict(faults.ops.OPS)
    for fault in faults.FAULTS.values():
        fault.build()
    assert dict(faults.ops.OPS) == before
