"""A batch cut over two devices: the gradients of one, dense and by rows."""

import os
import subprocess
import sys

# jax takes its number of CPU devices before it starts, so this runs in a process of its own.
PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from windownet.autodiff import value_and_grad
from windownet.autodiff.rows import is_row_sparse
from windownet.data.batches import Batch
from windownet.model.network import WindowNetwork

network = WindowNetwork(50, 4, 3, 3, 6, 2, (8,), "tanh")
params = network.init(jax.random.key(0))
rng = np.random.default_rng(0)
rows = np.sort(rng.choice(50, 16, replace=False)).astype(np.int32)
words, capitals = (rng.integers(0, n, (32, 3)).astype(np.int32) for n in (16, 4))
batch = Batch(rows, words, capitals, rng.integers(0, 3, 32).astype(np.int32), np.arange(32) < 29)

mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
cut, whole = NamedSharding(mesh, P("batch")), NamedSharding(mesh, P())
places = Batch(*(whole if name == "rows" else cut for name in Batch._fields))
sharded = jax.device_put((params, batch), (whole, places))
assert len(sharded[1].words.addressable_shards) == 2 and sharded[1].words.addressable_shards[0].data.shape == (16, 3)

def dense(tree):
    return jax.tree.map(lambda g: g.to_dense() if is_row_sparse(g) else g, tree, is_leaf=is_row_sparse)

for row_sparse in (False, True):
    f = jax.jit(value_and_grad(network.loss, row_sparse=row_sparse))
    here, there = (dense(f(*args)) for args in ((params, jax.device_put(batch)), sharded))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-7), here, there)
    text = f.lower(*sharded).compile().as_text()
    assert "all-reduce" in text, "nothing was computed on both devices"
print("equal")
"""


def test_a_batch_cut_over_two_devices_has_the_gradient_of_one() -> None:
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr
