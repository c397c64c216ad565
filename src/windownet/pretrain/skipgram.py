"""Skip-gram with negative sampling, as products of small matrices.

The loss of Mikolov et al. (2013): each word predicts every word at most b places away, b drawn from 1..C for each word,
against words drawn by count^0.75:

    -log sigmoid(x · y) - sum over n drawn words of log sigmoid(-x · y')

Taken pair by pair this is all look-ups and no arithmetic, so a block of T words is cut into chunks of Q. A chunk's Q
word vectors are multiplied with its Q + 2C context vectors, and what lies outside the windows is masked. M drawn
words are shared by all words of two chunks (Ji, Satish, Li, Dubey 2016, "Parallelizing Word2Vec in Shared and
Distributed Memory", share them in a window). Each counts n/M for each of a word's pairs, so that a pair meets n in
expectation.

Axes: T words of a block, Q words of a chunk, N chunks, C words of context on each side, M drawn words, U rows, D width.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from windownet.autodiff import ops
from windownet.pretrain import sampler
from windownet.pretrain.block import Block, joined

# Chunks that share their drawn words: each word that is drawn is a row to gather and to update.
_SHARING = 2


class Drawn(NamedTuple):
    """What chance decides about a block.

    Attributes:
      widths: int32 [N, Q], b of every word.
      rows: int32 [U + NM/2], the rows of the table of contexts that are touched, each once, filled up with V.
      negatives: int32 [N, M], positions of the drawn words in them.
    """

    widths: jax.Array
    rows: jax.Array
    negatives: jax.Array


class SkipGram:
    """The loss of a block, for tables `words` (the vectors that are kept) and `contexts`, both [V, D].

    Args:
      radius: C.
      negatives: words drawn against each pair, in expectation.
      chunk: Q; a block has a multiple of 2Q words.
      shared: M.
    """

    tables = ("words", "contexts")
    rates: ClassVar = {"*": 1.0}

    def __init__(self, *, radius: int, negatives: int, chunk: int, shared: int) -> None:
        self.radius = radius
        self.negatives = negatives
        self.chunk = chunk
        self.shared = shared

    def init(self, key: jax.Array, size: int, width: int) -> dict[str, jax.Array]:
        """First values: words uniform in ±1/(2D), contexts zero, as word2vec has them."""
        bound = 0.5 / width
        return {
            "words": jax.random.uniform(key, (size, width), jnp.float32, -bound, bound),
            "contexts": jnp.zeros((size, width), jnp.float32),
        }

    def draw(self, key: jax.Array, block: Block, ends: jax.Array, scratch: jax.Array) -> tuple[Drawn, jax.Array]:
        """Draw windows and negatives; `scratch` int32 [V] holds anything, and is handed back for the next block."""
        chunks = (block.slots.shape[0] - 2 * self.radius) // self.chunk
        # All bits at once, for the generator is compiled anew for each use.
        bits = jax.random.bits(key, (chunks * self.chunk + chunks // _SHARING * self.shared,), jnp.uint32)
        of_widths, of_words = jnp.split(bits, [chunks * self.chunk])
        widths = 1 + ((of_widths >> 16) * self.radius >> 16).astype(jnp.int32).reshape(chunks, self.chunk)
        drawn = sampler.draw(of_words, ends)
        rows, slots, scratch = joined(block.rows, drawn, scratch)
        return Drawn(widths, rows, jnp.repeat(slots.reshape(-1, self.shared), _SHARING, 0)), scratch

    def loss(self, params: dict[str, Any], block: Block, drawn: Drawn) -> tuple[Any, jax.Array]:
        """Sum over the pairs of the loss in nats, and how many pairs there are."""
        chunks, size = drawn.widths.shape
        radius = self.radius
        around = jnp.arange(chunks)[:, None] * size + jnp.arange(size + 2 * radius)
        lines = block.lines[around]
        offset = jnp.arange(size + 2 * radius) - radius - jnp.arange(size)[:, None]
        centre = lines[:, radius : radius + size]
        pairs = (offset != 0) & (jnp.abs(offset) <= drawn.widths[:, :, None])
        pairs &= (lines[:, None, :] == centre[:, :, None]) & (centre[:, :, None] >= 0)
        counts = pairs.sum(2)

        slab = ops.take_rows(params["words"], block.rows, unique=True)
        x = ops.embed(slab, block.slots[radius:-radius].reshape(chunks, size))
        slab = ops.take_rows(params["contexts"], drawn.rows, unique=True)
        y = ops.embed(slab, jnp.concatenate([block.slots[around], drawn.negatives], 1))
        # Context words in rows, for the larger of two matrices is better not the one that is transposed.
        z = ops.matmul(y, ops.transpose(x, axes=(0, 2, 1)))
        pairs = pairs.mT
        shape = (chunks, self.shared, size)
        labels = jnp.concatenate([pairs, jnp.zeros(shape, bool)], 1)
        weight = counts.astype(z.dtype) * (self.negatives / self.shared)
        weights = jnp.concatenate([pairs.astype(z.dtype), jnp.broadcast_to(weight[:, None, :], shape)], 1)
        return ops.weighted_logistic(z, labels, weights), counts.sum()
