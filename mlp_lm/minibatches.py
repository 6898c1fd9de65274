"""Which windows make each step's minibatch: drawn with replacement, or every window once an epoch in a random order."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from mlp_lm.random_keys import MINIBATCH, Seed, purpose_key

DRAWN_STEPS = 250  # Minibatches drawn at once; no number depends on it.
FEISTEL_ROUNDS = 6


def draw_minibatches(
    seed: Seed,
    steps: Int[Array, " steps"],
    batch_size: int,
    n_windows: int | Int[Array, ""],
    shuffle: bool = False,
) -> Int[Array, "steps batch"]:
    """The windows of each step's minibatch.

    They are drawn with replacement; then the first 32 of a batch of 128 are the batch of 32. Or, with `shuffle`, an
    epoch passes through all windows in an order of its own, but for less than a batch at its end; then `batch_size` is
    at most `n_windows`.
    """
    key = purpose_key(seed, MINIBATCH)

    def drawn(step):
        return jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, n_windows)

    def shuffled(step):
        n_batches = n_windows // batch_size
        places = step % n_batches * batch_size + jnp.arange(batch_size)
        return permute(jax.random.fold_in(key, step // n_batches), places, n_windows)

    return jax.vmap(shuffled if shuffle else drawn)(steps)


def permute(key: Key[Array, ""], places: Int[Array, " k"], n: int | Int[Array, ""]) -> Int[Array, " k"]:
    """What stands at these places, each below n, of a random order of 0 to n - 1, without the rest of the order.

    A Feistel network (Luby and Rackoff 1988) permutes the numbers of an even count of bits, whatever its rounds mix in;
    a result beyond n goes through it again until it is below (Black and Rogaway 2002, cycle walking). Those few are
    gathered for it, an eighth of all at a time.
    """
    limit = jnp.asarray(n, jnp.uint32)
    half = (33 - jax.lax.clz(limit - 1)) // 2
    mask = (jnp.uint32(1) << half) - 1
    mix = jax.vmap(lambda round_key, x: jax.random.bits(jax.random.fold_in(round_key, x)), in_axes=(None, 0))

    def network(numbers):
        left, right = numbers >> half, numbers & mask
        for i in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (mix(jax.random.fold_in(key, i), right) & mask)
        return left << half | right

    def again(numbers):
        (beyond,) = jnp.nonzero(numbers >= limit, size=max(1, len(numbers) // 8), fill_value=len(numbers))
        return numbers.at[beyond].set(network(numbers[beyond]), mode="drop")

    numbers = jax.lax.while_loop(lambda numbers: (numbers >= limit).any(), again, network(places.astype(jnp.uint32)))
    return numbers.astype(jnp.int32)


@partial(jax.jit, static_argnames=("batch_size", "shuffle"))
def draw_batch(
    seeds: UInt32[Array, " run"],
    start: Int[Array, ""] | int,
    batch_size: int,
    n_windows: Int[Array, ""] | int,
    shuffle: bool = False,
) -> Int[Array, "run steps batch"]:
    """The minibatches of a run batch's next DRAWN_STEPS steps."""
    steps = start + jnp.arange(DRAWN_STEPS)
    return jax.vmap(lambda seed: draw_minibatches(seed, steps, batch_size, n_windows, shuffle))(seeds)
