"""Settings of JAX and of the environment that would change a run's numbers, held at one value while it is trained."""

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping

# XLA flags that change the bits of a run on a processor; any other flag is left alone.
BIT_CHANGING_FLAGS = re.compile(r"--xla_cpu_\S*fast_math\S*|--xla_force_host_platform_device_count\S*|--xla_backend\S*")

HOST_XLA_FLAGS = os.environ.get("XLA_FLAGS", "")
SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # Of a worker on one core.
# May change a number, of an accelerator or of a linear-algebra library, and is left as the user has it.
UNPINNED = ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "OPENBLAS_CORETYPE", "MKL_CBWR")


@contextlib.contextmanager
def pinned_settings() -> Iterator[None]:
    """JAX's settings as every run has them, whatever a host program or the environment has set.

    Within, numbers have 32 bits, keys are those of Threefry, functions are compiled, and types are promoted as usual.
    Afterwards everything is as before.
    """
    import jax

    flags = BIT_CHANGING_FLAGS.findall(os.environ.get("XLA_FLAGS", ""))
    if flags:
        warnings.warn(f"XLA_FLAGS has {' '.join(flags)}: runs trained here have bits of their own", stacklevel=3)
    with contextlib.ExitStack() as held:
        held.enter_context(jax.enable_x64(False))
        held.enter_context(jax.default_prng_impl("threefry2x32"))
        held.enter_context(jax.threefry_partitionable(True))
        held.enter_context(jax.numpy_dtype_promotion("standard"))
        held.enter_context(jax.disable_jit(False))
        yield


def clean_own_environment() -> None:
    """Apply `clean_environment` to this process, unless JAX has been imported already."""
    if "jax" not in sys.modules:
        for name in os.environ.keys() - clean_environment(os.environ).keys():
            del os.environ[name]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what would change the numbers of a JAX process that is started in it.

    JAX's own variables go (`JAX_ENABLE_X64`, `JAX_DEFAULT_PRNG_IMPL`, `JAX_PLATFORMS` and their like: devices are
    chosen by `--device`), and so do XLA's flags; the memory settings of accelerators stay.
    """
    return {name: value for name, value in environment.items() if not name.startswith("JAX_") and name != "XLA_FLAGS"}


def unpinned_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What is set in an environment, may change numbers, and is not held at one value here: a run's row names it."""
    return {name: environment[name] for name in UNPINNED if environment.get(name, "") not in ("", SINGLE_THREADED)}
