"""The keys of a run's random draws: one for each purpose, from its seed alone."""

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

WEIGHTS, MINIBATCH, SAMPLING, DROPOUT, NOISE = range(5)
# The probe minibatch of mlp_lm.diagnostics is drawn from what are also the keys of dropout's first two steps: a window
# of the probe has nothing to do with a unit dropped, and a number of its own would change every recorded diagnostic.
PROBE = DROPOUT

Seed = UInt32[Array, ""] | np.uint32


def purpose_key(seed: Seed, purpose: int) -> Key[Array, ""]:
    """The key of one purpose of a run."""
    return jax.random.fold_in(jax.random.key(seed), purpose)
