"""Which devices train: the processor's cores, or the local accelerators with the run axis shared out among them."""

import importlib.util
import shutil
import subprocess
from typing import Any, TypeVar

Tree = TypeVar("Tree")

ACCELERATORS = ("gpu", "tpu")
DEVICES = ("cpu", *ACCELERATORS)
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}  # JAX's names.
CPU_WIDTH = 4  # Runs to a block on a core: their weights and activations fit its cache.
WIDEST = 4096
GPU_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
DEFAULT_MEMORY = 8 << 30  # Bytes, where a device does not tell.
# A run's share of a device: weights, gradients, momenta and copies, and the activations of an evaluation chunk.
BYTES_PER_RUN = 8 << 20


def best_device() -> str:
    """The kind of device that this machine's JAX can use, found without importing it."""
    if shutil.which("nvidia-smi") and any(importlib.util.find_spec(name) for name in GPU_PLUGINS):
        return "gpu"
    return "tpu" if importlib.util.find_spec("libtpu") else "cpu"


def choose_device(wanted: str) -> str:
    """The device that was asked for, or the best one for `auto`.

    Raises:
        ValueError: an accelerator that is not here.
    """
    best = best_device()
    if wanted in ACCELERATORS and wanted != best:
        raise ValueError(f"--device {wanted}: JAX has none here; install JAX for it, or give --device {best}")
    return best if wanted == "auto" else wanted


def widest_block(device: str) -> int:
    """Runs to a block on this machine: fixed on a processor, where it enters the bits; by memory on an accelerator."""
    if device == "cpu":
        return CPU_WIDTH
    width = 1
    while 2 * width * BYTES_PER_RUN <= device_memory() // 2 and 2 * width <= WIDEST:
        width *= 2
    return width


def device_memory() -> int:
    """Bytes of the smallest local GPU, or a guess."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        return min(int(mebibytes) for mebibytes in told) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return DEFAULT_MEMORY


def use_device(device: str) -> None:
    """Have JAX use a device; on accelerators, with products as exact as the processor's."""
    import jax

    jax.config.update("jax_platforms", PLATFORMS[device])
    if device != "cpu":
        # The default would be TF32 or bfloat16 products, which no longer agree with a processor's results.
        jax.config.update("jax_default_matmul_precision", "highest")


def share_out(tree: Tree) -> Tree:
    """Cut the leading run axis of every array evenly over the local devices; on one device, as it is."""
    import jax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    devices: Any = jax.local_devices()
    if len(devices) == 1:
        return tree
    mesh = jax.make_mesh((len(devices),), ("run",), (AxisType.Auto,), devices=devices)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("run")))


def fit_block(width: int, n_runs: int) -> int:
    """Runs to a block of a cohort: a processor's fixed width, or no more than there are, in equal shares."""
    import jax

    n = len(jax.local_devices())
    if jax.default_backend() == "cpu" and n == 1:
        return width
    return -(-min(width, n_runs) // n) * n
