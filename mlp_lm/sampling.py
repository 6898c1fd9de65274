"""Words and sentences drawn from a model, one token after another, until the boundary."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mlp_lm.data.dataset import Dataset
from mlp_lm.data.vocabulary import BOUNDARY, BOUNDARY_ID, Vocabulary
from mlp_lm.model import Moments, Params, forward
from mlp_lm.random_keys import SAMPLING, purpose_key

MAX_WORDS = 100_000  # Drawn at once, all in memory,
MAX_LOGITS = 1 << 28  # as are their logits.
LEAST_TEMPERATURE = 1e-6  # Below, logits may overflow in float32.
MAX_LENGTH = 100  # Tokens after which a word that never ends is cut.


def sample_from(
    params: Params,
    moments: tuple[Moments, ...],
    dataset: Dataset,
    n: int = 20,
    seed: int = 0,
    temperature: float | int = 1.0,
) -> list[str]:
    """Draw `n` words from a model of a word list, or `n` sentences from a model of a running text.

    The first few of many are the few of the same seed. Each sentence begins after the end of some sentence of the
    training part, and ends with its full stop.

    Args:
        params: the model.
        moments: with batch norm, those of the training split (`mlp_lm.evaluation.population_moments`).
        dataset: what the model was trained on.
        n: how many to draw.
        seed: of the draws.
        temperature: divides the logits: below 1 likely tokens become likelier.

    Raises:
        ValueError: an `n`, a `seed` or a temperature out of bounds.
    """
    check_draw(n, seed, temperature, len(dataset.vocabulary))
    key = purpose_key(np.uint32(seed), SAMPLING)
    if not dataset.is_running_text:
        ids = sample_ids(params, moments, key, jnp.float32(temperature), n, params.block_size)
        return [dataset.vocabulary.decode(word) for word in np.asarray(ids)]
    contexts = dataset.windows("train", params.block_size).contexts
    ends = np.flatnonzero(contexts[:, -1] == BOUNDARY_ID)  # At least one: a text begins after a boundary.
    starts = jnp.asarray(contexts[np.random.default_rng(seed).choice(ends, n)])
    ids = sample_ids(params, moments, key, jnp.float32(temperature), n, params.block_size, starts)
    return [_sentence(line, dataset.vocabulary) for line in np.asarray(ids)]


def check_draw(n: int, seed: int, temperature: float | int, vocab_size: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: an `n`, a `seed` or a temperature out of bounds.
    """
    most = min(MAX_WORDS, MAX_LOGITS // vocab_size)
    if not 1 <= n <= most:
        raise ValueError(f"n must be at least 1 and at most {most:,}, got {n:,}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {seed}")
    if not LEAST_TEMPERATURE <= temperature <= 1 / LEAST_TEMPERATURE:
        raise ValueError(
            f"temperature must be between {LEAST_TEMPERATURE:g} and {1 / LEAST_TEMPERATURE:g}, got {temperature}"
        )


@partial(jax.jit, static_argnames=("n", "block_size"))
def sample_ids(
    params: Params,
    moments: tuple[Moments, ...],
    key: Key[Array, ""],
    temperature: Float[Array, ""],
    n: int,
    block_size: int,
    start: Int[Array, "n block"] | None = None,
) -> Int[Array, "n length"]:
    """Token ids of `n` words drawn side by side, each filled up with boundaries from its end on.

    `start` are the contexts of their first tokens; None is boundaries, as in a word list. Token t of word i has the
    key (i, t), so a word depends neither on how many are drawn nor on the others.
    """
    word_keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(n))

    def unfinished(state):
        t, _, _, ended = state
        return (t < MAX_LENGTH) & ~ended.all()

    def draw(state):
        t, line, contexts, ended = state
        logits = forward(params, contexts, moments).logits / temperature
        keys = jax.vmap(partial(jax.random.fold_in, data=t))(word_keys)
        drawn = jnp.where(ended, BOUNDARY_ID, jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32))
        contexts = jnp.concatenate([contexts[:, 1:], drawn[:, None]], axis=1)
        return t + 1, line.at[:, t].set(drawn), contexts, ended | (drawn == BOUNDARY_ID)

    contexts = jnp.full((n, block_size), BOUNDARY_ID, jnp.int32) if start is None else start
    line = jnp.full((n, MAX_LENGTH), BOUNDARY_ID, jnp.int32)
    return jax.lax.while_loop(unfinished, draw, (0, line, contexts, jnp.zeros(n, bool)))[1]


def _sentence(ids: Int[np.ndarray, " length"], vocabulary: Vocabulary) -> str:
    ended = np.flatnonzero(ids == BOUNDARY_ID)
    words = [vocabulary.tokens[i] for i in ids[: ended[0] if len(ended) else None]]
    return " ".join(words) + (BOUNDARY if len(ended) else "")
