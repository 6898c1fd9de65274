"""Which windows make each step's minibatch: drawn with replacement, or every window once an epoch in a random order."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from mlp_lm.random_keys import MINIBATCH, Seed, purpose_key

DRAWN_STEPS = 250  # Minibatches drawn at once; no number depends on it.
FEISTEL_ROUNDS = 6
GATHERINGS = 3  # Each takes some 0.4 s to compile; with fewer, the last few numbers cost work on many more.


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
    keys = jax.vmap(partial(jax.random.fold_in, purpose_key(seed, MINIBATCH)))
    if not shuffle:
        return jax.vmap(lambda key: jax.random.randint(key, (batch_size,), 0, n_windows))(keys(steps))
    epochs, batches = jnp.divmod(steps, n_windows // batch_size)
    return permute(keys(epochs), batches[:, None] * batch_size + jnp.arange(batch_size)[None, :], n_windows)


def permute(
    keys: Key[Array, " order"], places: Int[Array, "order place"], n: int | Int[Array, ""]
) -> Int[Array, "order place"]:
    """What stands at these places, each below n, of random orders of 0 to n - 1, one a key, without the rest of them.

    A Feistel network (Luby and Rackoff 1988) permutes the numbers of an even count of bits, whatever its rounds mix in;
    a result of n or more goes through it again until it is below (Black and Rogaway 2002, cycle walking).
    """
    half = (33 - jax.lax.clz(jnp.asarray(n, jnp.uint32) - 1)) // 2
    mask = (jnp.uint32(1) << half) - 1

    def network(key, number):
        def swap(i, halves):
            left, right = halves
            mixed = jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, i), right))
            return right, left ^ (mixed & mask)

        # A loop: unrolled, every round would be computed anew for each of its uses.
        left, right = jax.lax.fori_loop(0, FEISTEL_ROUNDS, swap, (number >> half, number & mask))
        return left << half | right

    def walk(orders, numbers, gatherings):
        """Walk the numbers of n or more until all are below: up to a third of all at a time, gathered, and so on."""

        def again(orders, numbers):
            return jnp.where(numbers >= n, jax.vmap(network)(keys[orders], numbers), numbers)

        def some(numbers):
            which = jnp.sort(jnp.where(numbers >= n, jnp.arange(len(numbers)), len(numbers)))[: len(numbers) // 3 + 1]
            theirs = orders.at[which].get(mode="clip")
            gathered = again(theirs, numbers.at[which].get(mode="fill", fill_value=0))
            return numbers.at[which].set(walk(theirs, gathered, gatherings - 1), mode="drop")

        step = some if gatherings else partial(again, orders)
        return jax.lax.while_loop(lambda numbers: (numbers >= n).any(), step, numbers)

    numbers = jax.vmap(jax.vmap(network, in_axes=(None, 0)))(keys, places.astype(jnp.uint32)).ravel()
    numbers = walk(jnp.arange(places.size) // places.shape[1], numbers, GATHERINGS)
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
