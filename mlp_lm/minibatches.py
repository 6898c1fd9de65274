"""Which windows make each step's minibatch: drawn with replacement, or every window once an epoch in a random order."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from mlp_lm.random_keys import MINIBATCH, Seed, Words, bits, fold_in, integers, key_words, purpose_key

DRAWN_STEPS = 250  # Minibatches drawn at once; no number depends on it.
FEISTEL_ROUNDS = 6


def draw_minibatches(
    seed: Seed,
    steps: Int[Array, " steps"],
    batch_size: int,
    n_windows: int,
    shuffle: bool = False,
) -> Int[Array, "steps batch"]:
    """The windows of each step's minibatch.

    They are drawn with replacement; then the first 32 of a batch of 128 are the batch of 32. Or, with `shuffle`, an
    epoch passes through all windows in an order of its own, but for less than a batch at its end; then `batch_size` is
    at most `n_windows`.
    """
    key = key_words(purpose_key(seed, MINIBATCH))
    each = jnp.arange(batch_size)[None, :]
    if not shuffle:
        return integers(fold_in(key, steps[:, None]), each, n_windows)
    n_batches = n_windows // batch_size
    epochs, batches = jnp.divmod(steps, n_batches)
    return permute(fold_in(key, epochs), batches[:, None] * batch_size + each, n_windows)


def permute(keys: Words, places: Int[Array, "order place"], n: int | Int[Array, ""]) -> Int[Array, "order place"]:
    """What stands at these places, each below n, of random orders of 0 to n - 1, one a key, without the rest of them.

    A Feistel network (Luby and Rackoff 1988) permutes the numbers of an even count of bits, whatever its rounds mix in;
    a result beyond n goes through it again until it is below (Black and Rogaway 2002, cycle walking). Those few are
    gathered for it, an eighth of all at a time.
    """
    half = (33 - jax.lax.clz(jnp.asarray(n, jnp.uint32) - 1)) // 2
    mask = (jnp.uint32(1) << half) - 1

    def network(keys, numbers):
        def swap(i, halves):
            left, right = halves
            return right, left ^ (bits(fold_in(fold_in(keys, i), right)) & mask)

        # A loop: unrolled, every round would be computed anew for each of its uses.
        left, right = jax.lax.fori_loop(0, FEISTEL_ROUNDS, swap, (numbers >> half, numbers & mask))
        return left << half | right

    def again(numbers):
        (beyond,) = jnp.nonzero(numbers >= n, size=max(1, len(numbers) // 8), fill_value=len(numbers))
        orders = beyond // places.shape[1]
        return numbers.at[beyond].set(network((keys[0][orders], keys[1][orders]), numbers[beyond]), mode="drop")

    numbers = network((keys[0][:, None], keys[1][:, None]), places.astype(jnp.uint32)).ravel()
    numbers = jax.lax.while_loop(lambda numbers: (numbers >= n).any(), again, numbers)
    return numbers.reshape(places.shape).astype(jnp.int32)


@partial(jax.jit, static_argnames=("batch_size", "n_windows", "shuffle"))
def draw_batch(
    seeds: UInt32[Array, " run"],
    start: Int[Array, ""] | int,
    batch_size: int,
    n_windows: int,
    shuffle: bool = False,
) -> Int[Array, "run steps batch"]:
    """The minibatches of a run batch's next DRAWN_STEPS steps."""
    steps = start + jnp.arange(DRAWN_STEPS)
    return jax.vmap(lambda seed: draw_minibatches(seed, steps, batch_size, n_windows, shuffle))(seeds)
