"""What a run runs on: versions of the libraries, the device, the settings of jax and XLA; whether two are the same."""

import functools
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import windownet
from windownet.errors import InputError

# Those whose arithmetic or random numbers a run's bits come from.
LIBRARIES = ("jax", "jaxlib", "optax", "numpy")

# Of jax's own settings those that other bits come of: draws, precision, what the compiler may do. Strict promotion of
# dtypes is none of them: it refuses a program, and changes none.
JAX_SETTINGS = (
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
)

# What XLA does not choose by itself on CPUs, a tenth of a training step together (docs/design.md).
_CPU_OPTIONS: dict[str, str | int | bool] = {
    # Products by Eigen: YNNPACK's are slower for the few hundred rows of a batch.
    "xla_cpu_experimental_ynn_fusion_type": "",
    # Weights that are read for the last time before they are written are not copied first.
    "xla_cpu_copy_insertion_use_region_analysis": True,
    # The whole of AVX-512, where there is one; XLA takes half of it.
    "xla_cpu_prefer_vector_width": 512,
}


@functools.cache
def compiler_options() -> dict[str, str | int | bool]:
    """What the programs of training are compiled with, for `compiler_options` of `jax.jit`; empty but on CPUs.

    An option that the installed XLA does not know is left out, as is one that the environment's XLA_FLAGS name.
    """
    if jax.default_backend() != "cpu":
        return {}
    given = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in _CPU_OPTIONS.items() if name not in given and _is_known(name, value)}


def _is_known(name: str, value: str | int | bool) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


def describe() -> dict[str, dict[str, Any]]:
    """`versions` and `device`, as JSON has them."""
    device = jax.devices()[0]
    return {
        "versions": {
            "windownet": windownet.__version__,
            **{name: metadata.version(name) for name in LIBRARIES},
            "python": platform.python_version(),
        },
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "processor": _processor(),
            "cores": os.cpu_count(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            **{name: _setting(name) for name in JAX_SETTINGS},
        },
    }


def require_same(source: Path, then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Whether what is computed `now` has the bits that it had `then`; both as `describe` has them.

    Args:
      source: the file that has `then`.
      then: what a run began on.
      now: what it is to go on with.

    Returns:
      Warnings.

    Raises:
      InputError: it has not; names the first difference.
    """
    for name in ("windownet", *LIBRARIES):
        required, came = then["versions"][name], now["versions"][name]
        if required != came:
            raise _differs(source, name, required, came, "install that version")
    for name in ("platform", "kind", "xla_flags", *JAX_SETTINGS):
        required, came = then["device"].get(name), now["device"][name]
        if required != came:
            raise _differs(source, f"device.{name}", required, came, "go on with the same device and settings")
    return [
        f"the run began on another machine (device.{name}: {then['device'][name]}, now {now['device'][name]}); the "
        "last bits may differ from those of a run that stayed on one"
        for name in ("processor", "cores")
        if then["device"][name] != now["device"][name]
    ][:1]


def _differs(source: Path, name: str, required: object, came: object, what_to_do: str) -> InputError:
    return InputError(
        f"{source}: required {name} = {required!r}, as the run began with, got {came!r}; {what_to_do}, or begin a new "
        "run"
    )


def _setting(name: str) -> Any:
    # Those that have a context manager are attributes, which know of it; of the others there is the global value alone.
    return getattr(jax.config, name) if hasattr(jax.config, name) else jax.config.values[name]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
