"""Views inside training: the parameters of runs after every epoch, and a recorded graph with what came back through it.

Axes: R runs of one program, V, H, L, B as everywhere.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from windownet.autodiff import ops
from windownet.autodiff.graph import Cotangent, Node, Op, backward
from windownet.data.batches import Batch, Encoded, Windows, encode
from windownet.data.sentences import Sentence
from windownet.data.tags import convert
from windownet.errors import InputError
from windownet.model.network import Params
from windownet.tagger.tagger import by_sentence, score
from windownet.train import scheduled
from windownet.train.prepare import Prepared

_WINDOWS = 1024


@dataclass
class Visit:
    """A node as `backward` met it.

    Attributes:
      node: the node.
      upstream: the cotangent of its value, all that its users sent summed.
      downstream: what its rule sent to each of its inputs.
    """

    node: Node
    upstream: Cotangent
    downstream: tuple[Cotangent, ...]


def nodes(output: Node) -> list[Node]:
    """Every recorded value that the output depends on, and itself, each once."""
    found: dict[Node, None] = {}
    pending = [output]
    while pending:
        node = pending.pop()
        if node not in found:
            found[node] = None
            pending.extend(x for x in node.inputs if isinstance(x, Node))
    return list(found)


def walk_back(output: Node) -> tuple[list[Visit], dict[Node, Cotangent]]:
    """The engine's own walk from a scalar: its visits in order, and the cotangents of the leaves.

    For the walk, each node's rule is exchanged for one that also notes what it was given and what it returned.
    """
    visits: list[Visit] = []
    own = {node: node.op for node in nodes(output)}
    for node, op in own.items():
        if op is not None:
            node.op = dataclasses.replace(op, vjp=_noted(op, node, visits))
    leaves = backward({output: jnp.ones_like(output.value)})
    for node, op in own.items():
        node.op = op
    return visits, leaves


def _noted(op: Op, node: Node, visits: list[Visit]) -> Callable[..., Any]:
    def vjp(g: Cotangent, y: Any, *inputs: Any, **static: Any) -> Any:
        downstream = op.vjp(g, y, *inputs, **static)
        visits.append(Visit(node, g, downstream))
        return downstream

    return vjp


def epochs(
    prepared: Prepared, seeds: Sequence[int], start: Params | None = None
) -> Iterator[tuple[int, Params, np.ndarray]]:
    """Train R runs that differ in their seed as one program; yields before the first epoch and after each.

    Args:
      prepared: what they share.
      seeds: one a run.
      start: first values, with a leading axis R, in place of those of the config and the seeds.

    Raises:
      InputError: the config asks for what these views leave out.

    Returns:
      The epoch from 0, the parameters with a leading axis R, and the losses of the epoch's steps [R, steps].
    """
    config, words = prepared.config, prepared.words
    asked = {
        "train.average": config.train.average,
        "train.patience": config.train.patience,
        "schedule.name": config.schedule.name == "plateau",
    }
    if left_out := [key for key, value in asked.items() if value]:
        raise InputError(
            f"{left_out[0]}: required as it is by default, since this script looks at the parameters of every epoch "
            "themselves; leave it out"
        )
    training = scheduled.of(config, prepared.network, config.train.epochs * prepared.epochs.steps)

    def init(seed: jax.Array) -> Any:
        return training.init(jax.random.key(seed), words.pretrained, words.found)

    def steps(state: Any, batches: Batch, frozen: bool) -> Any:
        return jax.vmap(lambda s, b: training.steps(s, b, frozen))(state, batches)

    run = jax.jit(steps, static_argnames="frozen", donate_argnums=0)
    settle = jax.jit(jax.vmap(training.settle, in_axes=(0, None)), static_argnums=1)
    state = jax.jit(jax.vmap(init))(jnp.asarray(seeds, jnp.uint32))
    if start is not None:
        state = state._replace(params=jax.tree.map(jnp.copy, start))
    orders = [prepared.epochs.seeded(seed) for seed in seeds]
    yield 0, state.params, np.zeros((len(seeds), 0))
    for epoch in range(1, config.train.epochs + 1):
        frozen, losses = epoch <= words.frozen_epochs, []
        for batches in zip(*(order.epoch(epoch) for order in orders), strict=True):
            stack = Batch(*(np.stack(arrays) for arrays in zip(*batches, strict=True)))
            state, call = run(state, stack, frozen=frozen)
            losses.append(np.asarray(call))
        state = settle(state, frozen)
        yield epoch, state.params, np.concatenate(losses, axis=1)


class Part:
    """A labelled part of the data as the network takes it, to measure R models on.

    Args:
      prepared: the run.
      sentences: the part; words of tags that training does not know have no loss.
    """

    def __init__(self, prepared: Prepared, sentences: Sequence[Sentence]) -> None:
        self._prepared, self._sentences = prepared, sentences
        config, network = prepared.config, prepared.network
        number = {tag: n for n, tag in enumerate(prepared.tags)}
        tags = [[number.get(tag, -1) for tag in convert(s.tags, config.model.scheme)] for s in sentences]
        self.encoded: Encoded = encode(
            [s.words for s in sentences], prepared.vocabulary, config.model.window // 2, tags
        )
        windows = Windows(self.encoded, len(prepared.vocabulary), config.model.window, _WINDOWS)
        self.batches = [batch._replace(mask=batch.mask & (batch.tags >= 0)) for _, batch in windows.in_order()]

        def measure(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
            scores = network.scores(params, batch)
            return ops.softmax_cross_entropy(scores, batch.tags, batch.mask), jnp.argmax(scores, axis=-1)

        self._measure = jax.jit(jax.vmap(measure, in_axes=(0, None)))

    def __call__(self, params: Params) -> tuple[np.ndarray, list[float]]:
        """Mean cross-entropy without dropout or penalty, nats, and F1, percent, of each of R models."""
        total, count, best = np.zeros(()), 0, []
        for batch in self.batches:
            loss, tags = self._measure(params, batch)
            counted = int(batch.mask.sum())
            total, count = total + counted * np.asarray(loss, np.float64), count + counted
            best.append(np.asarray(tags))
        numbers = np.concatenate(best, axis=1)[:, : len(self.encoded.positions)]
        predicted = (by_sentence(row, self.encoded, self._prepared.tags) for row in numbers)
        return np.asarray(total / count), [score(self._sentences, tags).f1 for tags in predicted]
