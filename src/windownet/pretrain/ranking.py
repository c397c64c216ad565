"""Collobert's pairwise ranking: a true window scores above one whose middle word was exchanged.

The loss of Collobert et al. (2011, section 4.2), for each window and one drawn word: max(0, 1 - s(x) + s(x')), where
x' has the drawn word in the middle. The score is a network of one hidden layer with a linear output,

    s(x) = u · hard_tanh(W x + b)

The two windows differ in their middle words alone, so the product with all the others is computed once. Beyond the ends
of a line stand zeros.

Axes: T words of a block, C words on each side, D width, H hidden units, U rows.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from windownet.autodiff import ops
from windownet.model.initializers import Initializers
from windownet.pretrain import sampler
from windownet.pretrain.block import Block, joined


class Drawn(NamedTuple):
    """What chance decides about a block.

    Attributes:
      rows: int32 [U + T], the rows of the table that are touched, each once, filled up with V.
      corrupted: int32 [T], positions of the drawn words in them.
    """

    rows: jax.Array
    corrupted: jax.Array


class Ranking:
    """The loss of a block, for the table `words` [V, D] and the network's parameters."""

    tables = ("words",)
    # Every window of a block adds to the network's gradient, and few to that of a word: at the words' rate the first
    # steps would drive all hidden units flat.
    rates: ClassVar = {"words": 1.0, "*": 0.02}

    def __init__(self, *, radius: int, hidden: int) -> None:
        self.radius = radius
        self.hidden = hidden

    def init(self, key: jax.Array, size: int, width: int) -> dict[str, jax.Array]:
        """First values: words uniform in ±0.1, weights by Glorot and Bengio (2010), biases zero."""
        key_words, key_hidden, key_output = jax.random.split(key, 3)
        inputs = (2 * self.radius + 1) * width
        initializers = Initializers()
        hidden = initializers.weight(key_hidden, (inputs, self.hidden), jnp.float32)
        return {
            "words": initializers.table(key_words, (size, width), jnp.float32),
            "context": hidden[: 2 * self.radius * width],
            "middle": hidden[2 * self.radius * width :],
            "bias": jnp.zeros(self.hidden, jnp.float32),
            "output": initializers.weight(key_output, (self.hidden, 1), jnp.float32),
        }

    def draw(self, key: jax.Array, block: Block, ends: jax.Array, scratch: jax.Array) -> tuple[Drawn, jax.Array]:
        """Draw a word for every window; `scratch` int32 [V] holds anything, and is handed back for the next block."""
        drawn = sampler.draw(jax.random.bits(key, (block.slots.shape[0] - 2 * self.radius,), jnp.uint32), ends)
        rows, slots, scratch = joined(block.rows, drawn, scratch)
        return Drawn(rows, slots), scratch

    def loss(self, params: dict[str, Any], block: Block, drawn: Drawn) -> tuple[Any, jax.Array]:
        """Sum over the windows of the hinge, and how many windows there are."""
        radius, count = self.radius, drawn.corrupted.shape[0]
        # The row that does not exist reads zeros, and hands nothing back.
        rows = jnp.append(drawn.rows, jnp.int32(params["words"].shape[0]))
        slab = ops.take_rows(params["words"], rows, unique=True)
        around = jnp.arange(count)[:, None] + jnp.asarray([n for n in range(2 * radius + 1) if n != radius])
        line = block.lines[radius : radius + count]
        slots = jnp.where(block.lines[around] == line[:, None], block.slots[around], drawn.rows.shape[0])
        context = ops.reshape(ops.embed(slab, slots), shape=(count, slots.shape[1] * slab.shape[1]))
        shared = ops.affine(context, params["context"], params["bias"])

        def score(middle: Any) -> Any:
            hidden = ops.hard_tanh(ops.add(shared, ops.matmul(middle, params["middle"])))
            return ops.reshape(ops.matmul(hidden, params["output"]), shape=(count,))

        true = score(ops.embed(slab, block.slots[radius : radius + count]))
        margin = ops.subtract(score(ops.embed(slab, drawn.corrupted)), true)
        hinge = ops.relu(ops.add(margin, jnp.ones(count, margin.dtype)))
        counts = line >= 0
        return ops.sum(ops.multiply(hinge, counts.astype(hinge.dtype))), counts.sum()
