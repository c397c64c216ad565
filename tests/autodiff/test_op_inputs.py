"""What an op refuses at its door: shapes and dtypes that it would have to broadcast or cast."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from windownet.autodiff.ops import OPS

f32, i32 = jnp.float32, jnp.int32


@pytest.mark.parametrize(
    ("name", "inputs", "static", "message"),
    [
        *(
            (name, (jnp.zeros(3), other), {}, f"{name}: required two arrays of one shape and dtype, got float32")
            for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")
            for other in (jnp.zeros((1,)), jnp.zeros((3, 3)), jnp.zeros(3, jnp.float16), jnp.zeros(3, i32))
        ),
        ("matmul", (jnp.zeros((2, 3)), jnp.zeros((2, 3))), {}, r"matmul: .* got \[2, 3\] and \[2, 3\]"),
        ("matmul", (jnp.zeros((1, 2, 3)), jnp.zeros((4, 3, 2))), {}, "matmul: required"),
        ("matmul", (jnp.zeros(3), jnp.zeros(3)), {}, "matmul: required"),
        ("affine", (jnp.zeros((2, 3)), jnp.zeros((3, 4)), jnp.zeros((1, 4))), {}, r"affine: .* and \[1, 4\]"),
        ("affine", (jnp.zeros((2, 3)), jnp.zeros((4, 3)), jnp.zeros(3)), {}, "affine: required"),
        ("prelu", (jnp.zeros((2, 3)), jnp.zeros(1)), {}, r"prelu: .* got \[2, 3\] and \[1\]"),
        ("where", (jnp.ones(3, bool), jnp.zeros(3), jnp.zeros(())), {}, r"where: .* got bool\[3\], float32\[3\]"),
        ("where", (jnp.ones(3, bool), jnp.zeros(3), jnp.zeros(3, jnp.float16)), {}, "where: .* one dtype"),
        ("slice", (jnp.zeros(3),), {"start": 1, "stop": 4}, "slice: required 0 <= start <= stop <= 3, got 1 and 4"),
        ("slice", (jnp.zeros(3),), {"start": -1, "stop": 2}, "slice: required"),
        ("embed", (jnp.zeros((3, 2)), jnp.zeros(3)), {}, r"embed: .* integer ids, got \[3, 2\] and float32"),
        ("embed", (jnp.zeros(3), jnp.zeros(3, i32)), {}, "embed: required"),
        ("take_rows", (jnp.zeros((3, 2)), jnp.zeros((2, 2), i32)), {}, r"rows int \[U\], got \[2, 2\]; embed takes"),
        ("take_rows", (jnp.zeros(3), jnp.zeros(3, i32)), {}, r"take_rows: required a table \[V, D\]"),
        ("dropout", (jnp.zeros(3), jnp.ones(3, bool)), {"rate": 1.0}, "dropout: required 0 <= rate < 1, got 1.0"),
        ("dropout", (jnp.zeros(3), jnp.ones(2, bool)), {"rate": 0.5}, r"dropout: required a mask bool\[3\]"),
        ("dropout", (jnp.zeros(3), jnp.ones(3)), {"rate": 0.5}, r"dropout: .* got float32\[3\]"),
        *(
            (name, (jnp.zeros((2, 3)), labels, mask), {}, f"{name}: required logits")
            for name in ("softmax_cross_entropy", "multiclass_margin")
            for labels, mask in (
                (jnp.zeros(3, i32), jnp.ones(3, bool)),
                (jnp.zeros(2, f32), jnp.ones(2, bool)),
                (jnp.zeros(2, i32), jnp.ones(2, f32)),
                (jnp.zeros(2, i32), jnp.ones((2, 1), bool)),
            )
        ),
        ("binary_logistic", (jnp.zeros(3), jnp.zeros(3)), {}, r"binary_logistic: .* got \[3\] and float32\[3\]"),
        ("binary_logistic", (jnp.zeros(3), jnp.ones((3, 1), bool)), {}, "binary_logistic: required"),
        (
            "weighted_logistic",
            (jnp.zeros(3), jnp.ones(3, bool), jnp.ones((1, 3))),
            {},
            r"weighted_logistic: .* bool\[3\] and float32\[1, 3\]",
        ),
    ],
)
def test_op_refuses_what_it_would_have_to_broadcast_or_cast(name: str, inputs: Any, static: Any, message: str) -> None:
    # Promotion allowed, so that the refusal is the op's own.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        pytest.raises((TypeError, ValueError), match=message),
    ):
        OPS[name](*inputs, **static)
