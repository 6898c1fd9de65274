"""Words and sentences drawn from a model, one token after another, until the boundary."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mlp_lm.data.dataset import Dataset
from mlp_lm.data.vocabulary import BOUNDARY, BOUNDARY_ID
from mlp_lm.model import Moments, Params, forward
from mlp_lm.random_keys import SAMPLING, purpose_key

MAX_WORDS = 100_000  # Drawn at once, all in memory,
MAX_LOGITS = 1 << 28  # as are their logits.
LEAST_TEMPERATURE = 1e-6  # Below, logits may overflow in float32.
MAX_LENGTH = 100  # Tokens after which a word that never ends is cut.
MOST_MIXED = 10_000_000  # Words drawn from a mixture, of which WORDS_AT_ONCE side by side,
WORDS_AT_ONCE = 10_000
MAX_NOISE = 1 << 24  # or fewer of a large vocabulary: numbers drawn at once.

LogDistributions = Callable[[Int[np.ndarray, "n block"]], Float[np.ndarray, "n vocab"]]


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
    check_draw(n, seed, temperature, min(MAX_WORDS, MAX_LOGITS // len(dataset.vocabulary)))
    key = purpose_key(np.uint32(seed), SAMPLING)
    if not dataset.is_running_text:
        ids = sample_ids(params, moments, key, jnp.float32(temperature), n, params.block_size)
        return [_spelled(word, dataset) for word in np.asarray(ids)]
    starts = jnp.asarray(_beginnings(dataset, params.block_size, n, np.random.default_rng(seed)))
    ids = sample_ids(params, moments, key, jnp.float32(temperature), n, params.block_size, starts)
    return [_spelled(line, dataset) for line in np.asarray(ids)]


def sample_from_mixture(
    log_distributions: LogDistributions,
    dataset: Dataset,
    block_size: int,
    n: int = 20,
    seed: int = 0,
    temperature: float | int = 1.0,
) -> list[str]:
    """Draw words, or sentences, from whatever gives the log-probabilities of the next token after contexts.

    Such as an average of networks or their mixture with count models (`mlp_lm.mixtures`). The first few of many are the
    few of the same seed.

    Args:
        log_distributions: of the vocabulary, after contexts of `block_size` tokens.
        dataset: what the models were trained on.
        block_size: tokens of context.
        n: how many to draw.
        seed: of the draws.
        temperature: divides the log-probabilities.

    Raises:
        ValueError: an `n`, a `seed` or a temperature out of bounds.
    """
    check_draw(n, seed, temperature, MOST_MIXED)
    vocab_size = len(dataset.vocabulary)
    at_once = min(WORDS_AT_ONCE, MAX_NOISE // vocab_size)
    words: list[str] = []
    for first in range(0, n, at_once):
        side_by_side = min(at_once, n - first)
        if dataset.is_running_text:
            contexts = _beginnings(dataset, block_size, side_by_side, np.random.default_rng((seed, first)))
        else:
            contexts = np.full((side_by_side, block_size), BOUNDARY_ID, np.int32)
        lines = np.full((side_by_side, MAX_LENGTH), BOUNDARY_ID, np.int32)
        unfinished = np.arange(side_by_side)
        for t in range(MAX_LENGTH):
            # The largest sum of a log-probability and Gumbel noise is a draw. Each position has a generator of its own,
            # and those that ended keep their noise, so that a word does not depend on how many are drawn.
            random = np.random.default_rng((seed, first, t + 1))
            noise = random.gumbel(size=(side_by_side, vocab_size))[unfinished]
            distinct, which = np.unique(contexts[unfinished], axis=0, return_inverse=True)
            drawn = np.argmax(log_distributions(distinct)[which] / temperature + noise, axis=1)
            lines[unfinished, t] = drawn
            contexts[unfinished] = np.column_stack([contexts[unfinished, 1:], drawn])
            unfinished = unfinished[drawn != BOUNDARY_ID]
            if not len(unfinished):
                break
        words += [_spelled(line, dataset) for line in lines]
    return words


def _beginnings(dataset: Dataset, block_size: int, n: int, random: np.random.Generator) -> Int[np.ndarray, "n block"]:
    """Contexts at which a sentence of the training part of a running text begins, drawn at random."""
    contexts = dataset.windows("train", block_size).contexts
    ends = np.flatnonzero(contexts[:, -1] == BOUNDARY_ID)  # At least one: a text begins after a boundary.
    return contexts[random.choice(ends, n)]


def check_draw(n: int, seed: int, temperature: float | int, most: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: an `n`, a `seed` or a temperature out of bounds.
    """
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


def _spelled(ids: Int[np.ndarray, " length"], dataset: Dataset) -> str:
    """A word, or a sentence of a running text."""
    if not dataset.is_running_text:
        return dataset.vocabulary.decode(ids)
    ended = np.flatnonzero(ids == BOUNDARY_ID)
    words = [dataset.vocabulary.tokens[i] for i in ids[: ended[0] if len(ended) else None]]
    return " ".join(words) + (BOUNDARY if len(ended) else "")
