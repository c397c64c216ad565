"""Nonlinearities, each elementwise: x [...] -> [...].

At a kink the rule takes the slope that jax's own function takes: 0 for ReLU at 0, 1 for leaky ReLU and PReLU at 0,
alpha for ELU at 0, 1 for hard tanh at its ends. A NaN gives a NaN slope: a comparison would turn it into a silent zero.
"""

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Op


def _sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x)


def _sigmoid_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * y * (1 - y),)


sigmoid = Op("sigmoid", _sigmoid, _sigmoid_vjp)


def _tanh(x: jax.Array) -> jax.Array:
    """Hyperbolic tangent."""
    return jnp.tanh(x)


def _tanh_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * (1 - y * y),)


tanh = Op("tanh", _tanh, _tanh_vjp)


def _hard_tanh(x: jax.Array) -> jax.Array:
    """x clipped to [-1, 1] (Collobert et al. 2011, section 3.3)."""
    return jax.nn.hard_tanh(x)


def _hard_tanh_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * _step(x, jnp.abs(x) <= 1, 1, 0),)


hard_tanh = Op("hard_tanh", _hard_tanh, _hard_tanh_vjp)


def _relu(x: jax.Array) -> jax.Array:
    """max(x, 0)."""
    return jax.nn.relu(x)


def _relu_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * _step(x, x > 0, 1, 0),)


relu = Op("relu", _relu, _relu_vjp)


def _leaky_relu(x: jax.Array, *, negative_slope: float = 0.01) -> jax.Array:
    """x where x >= 0, negative_slope * x elsewhere."""
    return jax.nn.leaky_relu(x, negative_slope)


def _leaky_relu_vjp(g: Cotangent, y: jax.Array, x: jax.Array, *, negative_slope: float = 0.01) -> tuple[Cotangent]:
    return (g * _step(x, x >= 0, 1, negative_slope),)


leaky_relu = Op("leaky_relu", _leaky_relu, _leaky_relu_vjp)


def _prelu(x: jax.Array, slope: jax.Array) -> jax.Array:
    """x [..., H] where x >= 0, slope [H] times x elsewhere; one learned slope a unit (He et al. 2015)."""
    if x.ndim < 1 or slope.shape != x.shape[-1:]:
        raise TypeError(f"prelu: required x [..., H] and slope [H], got {list(x.shape)} and {list(slope.shape)}")
    return jnp.where(x >= 0, x, x * jnp.broadcast_to(slope, x.shape))


def _prelu_vjp(g: Cotangent, y: jax.Array, x: jax.Array, slope: jax.Array) -> tuple[Cotangent, Cotangent]:
    local = jnp.where(jnp.isnan(x), x, jnp.where(x >= 0, jnp.ones_like(x), jnp.broadcast_to(slope, x.shape)))
    # A unit's slope served every leading index, so it gets the sum over them.
    below = jnp.where(x >= 0, jnp.zeros_like(x), x)
    return g * local, (g * below).sum(tuple(range(x.ndim - 1)))


prelu = Op("prelu", _prelu, _prelu_vjp)


def _elu(x: jax.Array, *, alpha: float = 1.0) -> jax.Array:
    """x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""
    return jax.nn.elu(x, alpha)


def _elu_vjp(g: Cotangent, y: jax.Array, x: jax.Array, *, alpha: float = 1.0) -> tuple[Cotangent]:
    # exp of the negative part only: a large positive x must not overflow into the branch that is not taken.
    return (g * jnp.where(x > 0, jnp.ones_like(x), alpha * jnp.exp(jnp.minimum(x, 0))),)


elu = Op("elu", _elu, _elu_vjp)


def _silu(x: jax.Array) -> jax.Array:
    """x * sigmoid(x), also called swish."""
    return jax.nn.silu(x)


def _silu_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    s = jax.nn.sigmoid(x)
    return (g * s * (1 + x * (1 - s)),)


silu = Op("silu", _silu, _silu_vjp)

_INVERSE_SQRT_2 = 0.7071067811865476
_INVERSE_SQRT_2_PI = 0.3989422804014327
_SQRT_2_OVER_PI = 0.7978845608028654


def _gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x), Phi the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=False)


def _gelu_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    distribution = 0.5 * jax.scipy.special.erfc(-x * _INVERSE_SQRT_2)
    density = _INVERSE_SQRT_2_PI * jnp.exp(-0.5 * x * x)
    return (g * (distribution + x * density),)


gelu = Op("gelu", _gelu, _gelu_vjp)


def _gelu_tanh(x: jax.Array) -> jax.Array:
    """The tanh approximation of GELU: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    return jax.nn.gelu(x, approximate=True)


def _gelu_tanh_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    t = jnp.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
    return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner),)


gelu_tanh = Op("gelu_tanh", _gelu_tanh, _gelu_tanh_vjp)


def _softplus(x: jax.Array) -> jax.Array:
    """log(1 + exp(x)), without overflow."""
    return jax.nn.softplus(x)


def _softplus_vjp(g: Cotangent, y: jax.Array, x: jax.Array) -> tuple[Cotangent]:
    return (g * jax.nn.sigmoid(x),)


softplus = Op("softplus", _softplus, _softplus_vjp)


def _step(x: jax.Array, condition: jax.Array, holds: float, otherwise: float) -> jax.Array:
    slope = jnp.where(condition, jnp.full_like(x, holds), jnp.full_like(x, otherwise))
    return jnp.where(jnp.isnan(x), x, slope)
