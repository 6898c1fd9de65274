"""Which devices train: the processor's cores, or the local accelerators with the run axis shared out among them."""

import contextlib
import errno
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

from mlp_lm.config import CPU_RUNS, check_name

ACCELERATORS = ("gpu", "tpu")
DEVICES = ("cpu", *ACCELERATORS)
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}  # JAX's names.
WIDEST = 4096
GPU_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
DEFAULT_MEMORY = 8 << 30  # Bytes, where a device does not tell.
# A run's share of a device: weights, gradients, momenta and copies, and the activations of an evaluation chunk.
BYTES_PER_RUN = 8 << 20


def best_device() -> str:
    """The kind of device that this machine's JAX can use, determined without importing it."""
    if shutil.which("nvidia-smi") and any(importlib.util.find_spec(name) for name in GPU_PLUGINS):
        return "gpu"
    return "tpu" if importlib.util.find_spec("libtpu") else "cpu"


def choose_device(wanted: str) -> str:
    """The device that was asked for, or the best one for `auto`.

    Raises:
        ValueError: an accelerator that is not here.
    """
    check_name("device", wanted, ("auto", *DEVICES))
    best = best_device()
    if wanted in ACCELERATORS and wanted != best:
        raise ValueError(f"--device {wanted}: JAX has none here; install JAX for it, or give --device {best}")
    return best if wanted == "auto" else wanted


def available_cores() -> tuple[int, ...]:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextlib.contextmanager
def claimed_cores(slots: Sequence[int | None]) -> Iterator[Sequence[int | None]]:
    """As many cores as these, and these if they are free: two sweeps side by side train on different cores.

    Others are taken where another sweep here has claimed one, while there are others. A claim is a name among
    Linux's abstract sockets, which ends with its process; elsewhere processes are bound to no core, and nothing is
    claimed.
    """
    if sys.platform != "linux" or None in slots:
        yield slots
        return
    with contextlib.ExitStack() as claims:
        claimed: list[int | None] = []
        for core in dict.fromkeys([*slots, *available_cores()]):
            if len(claimed) == len(slots):
                break
            claim = claims.enter_context(socket.socket(socket.AF_UNIX))
            try:
                claim.bind(f"\0mlp-lm-core-{core}")
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
            claimed.append(core)
        yield [*claimed, *(core for core in slots if core not in claimed), *slots][: len(slots)]


def worker_slots(device: str) -> tuple[int | None, ...]:
    """What each worker is given: a core of its own, or, to a single one, all local accelerators (None)."""
    return available_cores() if device == "cpu" else (None,)


def widest_batch(device: str) -> int:
    """Most runs side by side on this machine: fixed on a processor, where it enters the bits; by memory elsewhere."""
    if device == "cpu":
        return CPU_RUNS
    width = 1
    while 2 * width * BYTES_PER_RUN <= device_memory() // 2 and 2 * width <= WIDEST:
        width *= 2
    return width


def device_memory() -> int:
    """Bytes of the smallest local GPU, or a guess."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()
        return min(int(mebibytes) for mebibytes in answer) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return DEFAULT_MEMORY


def use_device(device: str) -> None:
    """Have JAX use a device; on accelerators, with products as exact as the processor's."""
    import jax

    jax.config.update("jax_platforms", PLATFORMS[device])
    if device != "cpu":
        # The default would be TF32 or bfloat16 products, which no longer agree with a processor's results.
        jax.config.update("jax_default_matmul_precision", "highest")
