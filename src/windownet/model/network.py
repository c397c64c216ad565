"""The window network (Collobert et al. 2011, section 3.3), written only in our ops.

Axes: B windows in a batch, W window width, D word-vector width, F capitalization width, H hidden units, L tags,
V rows of the word table, U rows that a batch touches.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from windownet.autodiff import ops
from windownet.autodiff.scalars import Scalar, is_zero
from windownet.data.batches import Batch
from windownet.model.initializers import Initializers

Params = dict[str, Any]


@dataclass(frozen=True)
class WindowNetwork:
    """The network's sizes and choices; its parameters are a pytree that every method takes.

    The parameters: `words` [V, D] and `capitals` [classes, F], each with a row that stands for the padding beyond a
    sentence's ends and is learned like any other; `hidden`, a list with `w` [I, H], `b` [H] and, for PReLU, `slope`
    [H] a layer; `output` with `w` [H, L] and `b` [L].

    Attributes:
      vocabulary: V.
      capitalizations: classes of capitalization.
      tags: L.
      window: W, odd.
      word_width: D.
      capitalization_width: F.
      hidden: H of each hidden layer, from the first; empty for none.
      nonlinearity: name of the op behind each hidden layer.
      input_dropout: share of a window's I = W(D + F) inputs that training drops.
      hidden_dropout: share of each hidden layer's outputs that it drops.
      label_smoothing: share of a label that is spread over all tags.
      l2: factor of the penalty on the layers' weights.
      margin: whether the loss is the multiclass hinge in the cross-entropy's place.
      initializers: how first values are drawn.
    """

    vocabulary: int
    capitalizations: int
    tags: int
    window: int
    word_width: int
    capitalization_width: int
    hidden: tuple[int, ...]
    nonlinearity: str
    input_dropout: Scalar = 0.0
    hidden_dropout: Scalar = 0.0
    label_smoothing: Scalar = 0.0
    l2: Scalar = 0.0
    margin: bool = False
    initializers: Initializers = field(default_factory=Initializers)

    def init(self, key: jax.Array, dtype: Any = jnp.float32) -> Params:
        """First values, as `initializers` has them; the biases of hidden layers are zero."""
        initializers = self.initializers
        keys = iter(jax.random.split(key, 3 + len(self.hidden)))
        width = self.window * (self.word_width + self.capitalization_width)
        params: Params = {
            "words": initializers.table(next(keys), (self.vocabulary, self.word_width), dtype),
            "capitals": initializers.table(next(keys), (self.capitalizations, self.capitalization_width), dtype),
            "hidden": [],
        }
        for units in self.hidden:
            layer = {"w": initializers.weight(next(keys), (width, units), dtype), "b": jnp.zeros(units, dtype)}
            if self.nonlinearity == "prelu":
                layer["slope"] = jnp.full(units, 0.25, dtype)
            params["hidden"].append(layer)
            width = units
        params["output"] = {
            "w": initializers.weight(next(keys), (width, self.tags), dtype),
            "b": initializers.output_bias(self.tags, dtype),
        }
        return params

    def scores(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Any:
        """Logits [B, L] of the middle words' tags; `key` turns dropout on."""
        return self._scores(self._rows(params, batch), params, batch, key)

    def best(self, params: Params, batch: Batch) -> jax.Array:
        """The most likely tags of the middle words, int32 [B]."""
        return jnp.argmax(self.scores(params, batch), axis=-1)

    def loss(
        self, params: Params, batch: Batch, key: jax.Array | None = None, start: Any = None, anchor: Scalar = 0.0
    ) -> Any:
        """Mean cross-entropy of the batch's tags, a scalar in nats, or with `margin` their hinge, and the penalties.

        `l2` adds `l2 / 2` times the squares of all layers' weights; biases and tables of vectors are left out.

        Args:
          params: the parameters.
          batch: B windows.
          key: turns dropout on.
          start: words [V, D] as training began with them, for `anchor`.
          anchor: adds `anchor / 2` times the squared distances of the batch's U rows from `start`.
        """
        rows = self._rows(params, batch)
        scores = self._scores(rows, params, batch, key)
        if self.margin:
            loss = ops.multiclass_margin(scores, batch.tags, batch.mask)
        else:
            loss = ops.softmax_cross_entropy(scores, batch.tags, batch.mask, smoothing=self.label_smoothing)
        for layer in (*params["hidden"], params["output"]) if not is_zero(self.l2) else ():
            squares = ops.sum(ops.square(layer["w"]))
            loss = ops.add(loss, ops.multiply(squares, jnp.asarray(self.l2 / 2, squares.dtype)))
        if is_zero(anchor):
            return loss
        moved = ops.sum(ops.square(ops.subtract(rows, ops.take_rows(start, batch.rows, unique=True))))
        return ops.add(loss, ops.multiply(moved, jnp.asarray(anchor / 2, moved.dtype)))

    def pre_activations(self, params: Params, batch: Batch) -> list[tuple[Any, Params]]:
        """What the nonlinearity of each hidden layer is given, [B, H], with the layer's parameters; no dropout."""
        found, x = [], self._windows(self._rows(params, batch), params, batch)
        for layer in params["hidden"]:
            found.append((ops.affine(x, layer["w"], layer["b"]), layer))
            x = self._activate(*found[-1])
        return found

    def _rows(self, params: Params, batch: Batch) -> Any:
        return ops.take_rows(params["words"], batch.rows, unique=True)

    def _scores(self, rows: Any, params: Params, batch: Batch, key: jax.Array | None) -> Any:
        keys = (None,) * (1 + len(self.hidden)) if key is None else jax.random.split(key, 1 + len(self.hidden))
        x = _dropout(self._windows(rows, params, batch), keys[0], self.input_dropout)
        for layer, layer_key in zip(params["hidden"], keys[1:], strict=True):
            x = self._activate(ops.affine(x, layer["w"], layer["b"]), layer)
            x = _dropout(x, layer_key, self.hidden_dropout)
        return ops.affine(x, params["output"]["w"], params["output"]["b"])

    def _windows(self, rows: Any, params: Params, batch: Batch) -> Any:
        words = ops.embed(rows, batch.words)
        capitals = ops.embed(params["capitals"], batch.capitals)
        x = ops.concatenate(words, capitals, axis=2)
        return ops.reshape(x, shape=(x.shape[0], x.shape[1] * x.shape[2]))

    def _activate(self, x: Any, layer: Params) -> Any:
        return ops.OPS[self.nonlinearity](*([x, layer["slope"]] if "slope" in layer else [x]))


def _dropout(x: Any, key: Any, rate: Scalar) -> Any:
    if is_zero(rate) or key is None:
        return x
    return ops.dropout(x, ops.draw_mask(key, x.shape, rate), rate=rate)
