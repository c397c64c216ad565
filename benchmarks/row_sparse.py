"""One fine-tuning step of the window network with a large word table: row-sparse against every peer, in one run.

D=50, W=5, H=300, L=9, Adam, Zipf ids. Everything is counted from encoded ids to the updated table: for us the search
for each batch's rows on the host (in the prefetch thread, as in training) and the step; for torch its own merging of
duplicates. `--gpu`: torch on the GPU, as jax is where it finds one, and a largest table of 10 M rows in place of 4 M.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import _report
from windownet import machine
from windownet.autodiff import value_and_grad
from windownet.data.batches import Batch, Encoded, Windows
from windownet.data.prefetch import prefetch
from windownet.model.network import WindowNetwork
from windownet.optim import missed
from windownet.optim.rowwise import Mode, rowwise

D, W, H, L = 50, 5, 300, 9
RATE = 1e-3
STEPS_A_CALL = 32
CALLS = 4
ROUNDS = 25
WORDS = 10_000


def corpus(height: int, batch: int, equal: bool = False) -> Encoded:
    """Zipf ids of 10,000 distinct words, spread over all rows of the table, so that U is the same for every V."""
    count = STEPS_A_CALL * CALLS * batch
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, WORDS + 1)
    ids = rng.choice(WORDS, count + W - 1, p=share / share.sum())
    place = rng.permutation(WORDS) * (height // WORDS)
    words = np.zeros(count + W - 1, np.int32) if equal else place[ids].astype(np.int32)
    capitals, tags = rng.integers(0, 5, words.shape), rng.integers(0, L, count)
    positions = np.arange(count) + W // 2
    return Encoded(words, capitals.astype(np.int32), tags.astype(np.int32), positions, np.array([0, count]))


def network(height: int) -> WindowNetwork:
    return WindowNetwork(height, 5, L, W, D, 5, (H,), "tanh")


def stacks(windows: Windows, batch: int) -> Any:
    steps = [np.arange(n * batch, (n + 1) * batch) for n in range(STEPS_A_CALL * CALLS)]
    for first in range(0, len(steps), STEPS_A_CALL):
        yield windows.stack(steps[first : first + STEPS_A_CALL])


class Ours:
    """The row-sparse step, `mode` lazy or exact; or with the table frozen."""

    def __init__(self, height: int, batch: int, mode: Mode | Literal["frozen"], equal: bool = False) -> None:
        net, self.batch = network(height), batch
        self.windows = Windows(corpus(height, batch, equal), height, W, batch)
        inner = optax.adam(RATE)
        params = net.init(jax.random.key(0))
        closed = missed.adam(RATE) if mode == "exact" else None

        def frozen(state: Any, data: Batch) -> Any:
            words, rest, inner_state = state
            gradient = value_and_grad(lambda rest: net.loss({**rest, "words": words}, data))(rest)[1]
            updates, inner_state = inner.update(gradient, inner_state, rest)
            return (words, optax.apply_updates(rest, updates), inner_state), None

        def step(state: Any, data: Batch) -> Any:
            params, inner_state = state
            params, inner_state = optimizer.touch(params, inner_state, {"words": data.rows})
            gradient = value_and_grad(net.loss, row_sparse=True)(params, data)[1]
            updates, inner_state = optimizer.update(gradient, inner_state, params)
            return (optax.apply_updates(params, updates), inner_state), None

        if mode == "frozen":
            rest = {name: leaf for name, leaf in params.items() if name != "words"}
            self.state: Any = (params["words"], rest, inner.init(rest))
            one = frozen
        else:
            optimizer = rowwise(inner, mode, tables=["words"], missed=closed)
            self.state = (params, optimizer.init(params))
            one = step
        # As the trainer compiles it.
        program = jax.jit(
            lambda state, stack: jax.lax.scan(one, state, stack)[0],
            donate_argnums=0,
            compiler_options=machine.compiler_options(),
        )
        first = next(stacks(self.windows, batch))
        self.program = program.lower(self.state, first).compile()
        memory = self.program.memory_analysis()
        assert memory is not None
        self.temporary = memory.temp_size_in_bytes

    def __call__(self) -> Any:
        for stack in prefetch(stacks(self.windows, self.batch)):
            self.state = self.program(self.state, stack)
        return self.state


class JaxGrad:
    """jax.grad and optax.adam, one donated step a call, as most would write it."""

    def __init__(self, height: int, batch: int) -> None:
        net = network(height)
        windows = Windows(corpus(height, batch), height, W, batch)
        optimizer = optax.adam(RATE)
        params = net.init(jax.random.key(0))
        self.state = (params, optimizer.init(params))

        def loss(params: Any, words: Any, capitals: Any, tags: Any) -> Any:
            x = jnp.concatenate([params["words"][words], params["capitals"][capitals]], -1).reshape(batch, -1)
            layer, out = params["hidden"][0], params["output"]
            logits = jnp.tanh(x @ layer["w"] + layer["b"]) @ out["w"] + out["b"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, tags).mean()

        def step(state: Any, *data: Any) -> Any:
            params, inner = state
            updates, inner = optimizer.update(jax.grad(loss)(params, *data), inner, params)
            return optax.apply_updates(params, updates), inner

        self.step = jax.jit(step, donate_argnums=0)
        around = np.arange(W) - W // 2
        encoded = windows.encoded
        self.batches = []
        for n in range(8):
            places = encoded.positions[n * batch : (n + 1) * batch][:, None] + around
            tags = encoded.tags[n * batch : (n + 1) * batch]
            self.batches.append((encoded.words[places], encoded.capitals[places], tags))

    def __call__(self) -> Any:
        for data in self.batches:
            self.state = self.step(self.state, *data)
        return self.state


def products(batch: int) -> Callable[[], Any]:
    """The hidden layer's three matrix products, which no step of this network can do without."""
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = W * (D + 5)
    x, w, g = (jax.random.normal(k, s) for k, s in zip(keys, ((batch, inputs), (inputs, H), (batch, H)), strict=True))

    def one(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
        # Each depends on the one before, as the steps of training do, or XLA would do them once.
        made = (x + carry) @ w, (g + carry) @ w.T, x.T @ (g + carry)
        return sum(p[0, 0] for p in made) * jnp.float32(1e-30), None

    return jax.jit(
        lambda: jax.lax.scan(one, jnp.float32(0), None, STEPS_A_CALL)[0], compiler_options=machine.compiler_options()
    )


def torch_products(batch: int, device: str) -> Callable[[], Any]:
    """The same three by torch."""
    import torch

    inputs = W * (D + 5)
    x, w, g = (torch.randn(*shape, device=device) for shape in ((batch, inputs), (inputs, H), (batch, H)))

    def run() -> None:
        for _ in range(STEPS_A_CALL):
            x @ w, g @ w.T, x.T @ g
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def torch_step(height: int, batch: int, device: str) -> Callable[[], Any]:
    import torch

    encoded = corpus(height, batch)
    words = torch.nn.Embedding(height, D, sparse=True, device=device)
    capitals = torch.nn.Embedding(5, 5, device=device)
    hidden, output = torch.nn.Linear(W * (D + 5), H, device=device), torch.nn.Linear(H, L, device=device)
    sparse = torch.optim.SparseAdam(words.parameters(), lr=RATE)
    dense = torch.optim.Adam([*capitals.parameters(), *hidden.parameters(), *output.parameters()], lr=RATE)
    around = np.arange(W) - W // 2

    def run() -> None:
        for n in range(STEPS_A_CALL):
            places = encoded.positions[n * batch : (n + 1) * batch][:, None] + around
            ids = torch.from_numpy(encoded.words[places]).to(device)
            classes = torch.from_numpy(encoded.capitals[places]).to(device)
            tags = torch.from_numpy(encoded.tags[n * batch : (n + 1) * batch]).long().to(device)
            x = torch.cat([words(ids), capitals(classes)], -1).reshape(batch, -1)
            loss = torch.nn.functional.cross_entropy(output(torch.tanh(hidden(x))), tags)
            sparse.zero_grad()
            dense.zero_grad()
            loss.backward()
            sparse.step()
            dense.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def warm(run: Callable[[], Any]) -> float:
    """Seconds of a second run: torch's threads spin for milliseconds after their work, beside whoever comes next."""
    jax.block_until_ready(run())
    return _report.clocked(run)


def results(batch: int, largest: int, ms: dict[str, float], memory: dict[str, int]) -> list[dict[str, Any]]:
    """The rows of a batch size, of milliseconds a step and bytes of temporary memory by rival."""
    lazy, name = ms["lazy 400000"], f"V=400k, B={batch}"
    rows = []

    def add(what: str, mine: float, peer: str, peer_value: float, unit: str = "ms", **condition: float | None) -> None:
        rows.append(_report.row(what, mine, unit, peer=(peer, peer_value), **condition))

    add(f"{name}: step", lazy, "jax.grad + optax.adam", ms["jax.grad"], ratio_at_least=100 if batch == 128 else None)
    add(f"{name}: step", lazy, "torch sparse=True + SparseAdam", ms["torch"], ratio_at_least=3)
    add(f"{name}: step", lazy, "the same with the table frozen", ms["frozen"], times_at_most=1.2)
    add(f"{name}: step", lazy, "its three matrix products alone", ms["products"])
    add(f"{name}: step", lazy, "the three matrix products by torch", ms["torch products"])
    add(f"V={largest:,}, B={batch}: step", ms[f"lazy {largest}"], "V=10,000", ms["lazy 10000"], times_at_most=1.1)
    add(f"{name}: exact step", ms["exact"], "lazy step", lazy, times_at_most=1.5)
    add(f"{name}: all ids equal", ms["equal ids"], "Zipf ids", lazy, times_at_most=1.5)
    for mode, rival in (("lazy", "lazy 400000"), ("exact", "exact")):
        what, used, vector = f"{name}: temporary memory, {mode}", memory[rival] / 2**20, 400_000 * 4 / 2**20
        # With more words in a batch, its own arrays are larger than the vector.
        add(what, used, "one V-sized vector", vector, "MiB", ratio_at_least=1 if batch == 128 else None)
    return rows


def main() -> None:
    parser = _report.parser(__doc__)
    parser.add_argument("--gpu", action="store_true", help="torch on the GPU, and a largest table of 10 M rows")
    args = parser.parse_args()
    device = "cuda" if args.gpu else "cpu"
    heights = (10_000, 400_000, 10_000_000) if args.gpu else (10_000, 400_000, 4_000_000)
    rows: list[dict[str, Any]] = []
    for batch in (128, 1024):
        rivals: dict[str, Callable[[], Any]] = {"frozen": Ours(400_000, batch, "frozen")}
        rivals |= {f"lazy {height}": Ours(height, batch, "lazy") for height in heights}
        rivals |= {"exact": Ours(400_000, batch, "exact"), "equal ids": Ours(400_000, batch, "lazy", equal=True)}
        rivals |= {"jax.grad": JaxGrad(400_000, batch), "torch": torch_step(400_000, batch, device)}
        rivals |= {"products": products(batch), "torch products": torch_products(batch, device)}
        seconds = _report.in_turns({name: partial(warm, run) for name, run in rivals.items()}, ROUNDS)
        steps = {"jax.grad": 8, "torch": STEPS_A_CALL, "products": STEPS_A_CALL, "torch products": STEPS_A_CALL}
        ms = {name: 1e3 * s / steps.get(name, STEPS_A_CALL * CALLS) for name, s in seconds.items()}
        memory = {mode: rival.temporary for mode, rival in rivals.items() if isinstance(rival, Ours)}
        rows += results(batch, heights[-1], ms, memory)
    _report.write(rows, args)


if __name__ == "__main__":
    main()
