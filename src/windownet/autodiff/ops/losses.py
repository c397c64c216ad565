"""Losses fused with their last nonlinearity, so that the rule is a subtraction and nothing overflows."""

import jax
import jax.numpy as jnp

from windownet.autodiff.graph import Cotangent, Op
from windownet.autodiff.rows import widened
from windownet.autodiff.scalars import Scalar, is_zero, like


def _softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, *, smoothing: Scalar = 0.0
) -> jax.Array:
    """Mean over the labels that count of -log softmax(logits)[label]: a scalar.

    logits [..., L]; labels int [...] in 0..L-1; mask bool [...], False for a label that does not count. With no label
    that counts, 0. `smoothing` spreads that share of each label evenly over all L (Szegedy et al. 2016, section 7);
    it has no cotangent.
    """
    _require_labels("softmax_cross_entropy", logits, labels, mask)
    shifted, _, total = _softmax_parts(logits)
    chosen = jnp.where(_is_label(logits, labels), shifted, jnp.zeros_like(shifted)).sum(-1)
    if not is_zero(smoothing):
        share = like(smoothing, logits)
        chosen = (1 - share) * chosen + share * shifted.mean(-1)
    losses = jnp.log(total[..., 0]) - chosen
    return jnp.where(mask, losses, jnp.zeros_like(losses)).sum() / _count(mask, logits)


def _softmax_cross_entropy_vjp(
    g: Cotangent, y: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array, *, smoothing: Scalar = 0.0
) -> tuple[Cotangent, None, None]:
    # softmax - one-hot, or what it is smoothed to, for the labels that count.
    _, exps, total = _softmax_parts(logits)
    target = _is_label(logits, labels).astype(logits.dtype)
    if not is_zero(smoothing):
        share = like(smoothing, logits)
        target = (1 - share) * target + share / logits.shape[-1]
    delta = exps / total - target
    scale = jnp.where(mask, g / _count(mask, logits), jnp.zeros_like(g))
    return delta * scale[..., None], None, None


softmax_cross_entropy = Op("softmax_cross_entropy", _softmax_cross_entropy, _softmax_cross_entropy_vjp)


def _multiclass_margin(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the labels that count of max(0, 1 + the highest other logit - the label's): a scalar.

    logits [..., L]; labels int [...] in 0..L-1; mask bool [...], False for a label that does not count. With no label
    that counts, 0. The multi-class hinge of Crammer and Singer (2001, equation 4).
    """
    _require_labels("multiclass_margin", logits, labels, mask)
    losses = jax.nn.relu(_violation(logits, labels)[0])
    return jnp.where(mask, losses, jnp.zeros_like(losses)).sum() / _count(mask, logits)


def _multiclass_margin_vjp(
    g: Cotangent, y: jax.Array, logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> tuple[Cotangent, None, None]:
    # max routes to the highest rival, in equal parts where several are: up with it, down with the label.
    violation, rivals = _violation(logits, labels)
    highest = (rivals == rivals.max(-1, keepdims=True)).astype(logits.dtype)
    delta = highest / highest.sum(-1, keepdims=True) - _is_label(logits, labels).astype(logits.dtype)
    # A comparison alone makes a NaN's slope a silent zero, and so does jnp.heaviside before jax 0.10.2.
    missed = jnp.where(jnp.isnan(violation), violation, (violation > 0).astype(violation.dtype))
    scale = jnp.where(mask, missed * (g / _count(mask, logits)), jnp.zeros_like(violation))
    return delta * scale[..., None], None, None


multiclass_margin = Op("multiclass_margin", _multiclass_margin, _multiclass_margin_vjp)


def _binary_logistic(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of -log sigmoid(z) where the label is true, -log sigmoid(-z) where not: a scalar.

    logits z [...]; labels bool [...].
    """
    if labels.shape != logits.shape or labels.dtype != jnp.bool_:
        raise TypeError(
            "binary_logistic: required logits [...] and labels bool [...], "
            f"got {list(logits.shape)} and {labels.dtype}{list(labels.shape)}"
        )
    return _logistic_losses(logits, labels).mean()


def _binary_logistic_vjp(g: Cotangent, y: jax.Array, logits: jax.Array, labels: jax.Array) -> tuple[Cotangent, None]:
    return _logistic_delta(logits, labels) * (g / max(logits.size, 1)), None


binary_logistic = Op("binary_logistic", _binary_logistic, _binary_logistic_vjp)


def _weighted_logistic(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum of weight times -log sigmoid(z) where the label is true, -log sigmoid(-z) where not: a scalar.

    logits z [...]; labels bool [...]; weights [...] of the dtype of the logits.
    """
    same = labels.shape == weights.shape == logits.shape
    if not same or labels.dtype != jnp.bool_ or weights.dtype != logits.dtype:
        raise TypeError(
            "weighted_logistic: required logits [...], labels bool [...] and weights [...], "
            f"got {list(logits.shape)}, {labels.dtype}{list(labels.shape)} and {weights.dtype}{list(weights.shape)}"
        )
    return (weights * _logistic_losses(logits, labels)).sum()


def _weighted_logistic_vjp(
    g: Cotangent, y: jax.Array, logits: jax.Array, labels: jax.Array, weights: jax.Array
) -> tuple[Cotangent, None, Cotangent]:
    return _logistic_delta(logits, labels) * weights * g, None, _logistic_losses(logits, labels) * g


weighted_logistic = Op("weighted_logistic", _weighted_logistic, _weighted_logistic_vjp)


def _require_labels(name: str, logits: jax.Array, labels: jax.Array, mask: jax.Array) -> None:
    integer = jnp.issubdtype(labels.dtype, jnp.integer)
    if not integer or labels.shape != logits.shape[:-1] or mask.shape != labels.shape or mask.dtype != jnp.bool_:
        raise TypeError(
            f"{name}: required logits [..., L], labels int [...] and mask bool [...], "
            f"got {list(logits.shape)}, {labels.dtype}{list(labels.shape)} and {mask.dtype}{list(mask.shape)}"
        )


def _violation(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    # How far the margin is missed, and the other logits.
    is_label = _is_label(logits, labels)
    rivals = jnp.where(is_label, jnp.full_like(logits, -jnp.inf), logits)
    true = jnp.where(is_label, logits, jnp.zeros_like(logits)).sum(-1)
    return 1 + rivals.max(-1) - true, rivals


def _softmax_parts(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    # The forward and its rule both start here, so XLA computes it once. Subtracting the largest logit keeps large ones
    # exact: log-sum-exp itself would round their differences away.
    shifted = logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    exps = jnp.exp(shifted)
    return shifted, exps, exps.sum(-1, keepdims=True)


def _logistic_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.softplus(jnp.where(labels, -logits, logits))


def _logistic_delta(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # sigmoid - label; as a difference, that of a true label with a large logit would have lost all its digits.
    wrong = jax.nn.sigmoid(jnp.where(labels, -logits, logits))
    return jnp.where(labels, -wrong, wrong)


def _is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # A comparison instead of an index: the gradient of an index is a scatter.
    labels = widened(labels)
    classes = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    return classes == labels[..., None]


def _count(mask: jax.Array, logits: jax.Array) -> jax.Array:
    return jnp.maximum(mask.sum(), 1).astype(logits.dtype)
