"""Averages of several models' probabilities, and their mixtures with count models, for names and words alike.

A model is represented by the probabilities that it gives the targets of some windows or, where a mixture must be
renormalised, by a function from contexts to the log-probabilities of the whole vocabulary. Probabilities are in
float64: averages of small numbers, logarithms of averages. Whole distributions of a log-linear mixture are in float32.
"""

import functools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Shaped
from scipy.optimize import minimize, minimize_scalar

from mlp_lm.data.dataset import Dataset, Windows
from mlp_lm.evaluation import each_loss
from mlp_lm.model import Moments, Params, forward
from mlp_lm.ngram.counts import NgramCounts
from mlp_lm.ngram.models import CountModel
from mlp_lm.sampling import LogDistributions

Probabilities = Float[np.ndarray, " n"]
AnyArray = Any  # NumPy's or JAX's.
Stacked = Float32[np.ndarray, "members n vocab"]

FOLDS = 2
STRETCH = 2_000  # Tokens of a running text that are drawn or left out together: one of Brown's 500 texts.
CHUNK = 512  # At most so many contexts' distributions are computed at once,
CHUNK_BYTES = 1 << 23  # and of a large vocabulary so few that each step finds them in the processor's cache.
FITTING_BYTES = 1 << 30  # Of the log-probabilities to which weights are fitted.
LEVEL_STARTS = (1, 4, 16, 64)  # Fewest occurrences of a context in each bucket of its length.
LEVELS = len(LEVEL_STARTS)
PULL = 10.0  # Between 3 and 100 the loss on names hardly depends on it.


def windows_of(
    dataset: Dataset, parts: Sequence[str], block_size: int
) -> tuple[Windows, dict[str, Float[np.ndarray, " n"]]]:
    """The windows of some parts, one part after another, and by part a weight of 1 for those that it has.

    Parts are `train`, `dev` and `test`, and of the last two `dev_unseen` and `test_unseen`.
    """
    names = list(dict.fromkeys(part.removesuffix("_unseen") for part in parts))
    windows = [dataset.windows(name, block_size) for name in names]
    owner = np.repeat(np.arange(len(names)), [len(one) for one in windows])
    weights = {}
    for part in parts:
        name = part.removesuffix("_unseen")
        weights[part] = (owner == names.index(name)).astype(np.float64)
        if part != name:
            weights[part][owner == names.index(name)] = dataset.unseen(name, block_size)
    contexts, targets = ([getattr(one, what) for one in windows] for what in ("contexts", "targets"))
    return Windows(np.concatenate(contexts), np.concatenate(targets)), weights


def target_probabilities(params: Params, moments: tuple[Moments, ...], windows: Windows) -> Probabilities:
    """What a network gives each target; a longer context than the network's counts with its last tokens.

    With batch norm, `moments` are those of the training split (mlp_lm.evaluation.population_moments).
    """
    return np.exp(-each_loss(params, windows, moments).astype(np.float64))


def average(members: Sequence[Probabilities]) -> Probabilities:
    """The mean of the members' probabilities."""
    return np.mean(np.stack(members), axis=0)


def mix(neural: Probabilities, counted: Probabilities, weight: float | Probabilities) -> Probabilities:
    """`(1 - weight) * neural + weight * counted` (Bengio et al. 2003, section 4.2, with a weight of 1/2)."""
    return (1 - weight) * neural + weight * counted


def mixture_weight(neural: Probabilities, counted: Probabilities, weights: Probabilities) -> float:
    """The count model's weight in the mixture of the lowest loss, which is convex in it; a half without any window."""
    if not weights.any():
        return 0.5
    best = minimize_scalar(
        lambda weight: mean_loss(mix(neural, counted, weight), weights), bounds=(0, 1), method="bounded"
    )
    return float(best.x)


def mean_loss(probabilities: Probabilities, weights: Probabilities) -> float:
    """Mean cross-entropy in nats per token; `weights[i]` is how often window i occurs."""
    occurs = weights > 0
    with np.errstate(divide="ignore"):  # A count model may rule a token out: an infinite loss.
        return float(-(weights[occurs] @ np.log(probabilities[occurs])) / weights.sum())


def stretches(dataset: Dataset, part: str) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Of each window of a part, the word or the stretch of text that it belongs to, and the fold of that.

    Windows of a word are never in two folds, nor are two words that are spelled alike: the fold is a hash of the
    spelling, and does not depend on the order of the words. Stretches of a running text, of STRETCH tokens or, of a
    short text, less, are in the folds by turns.
    """
    if dataset.is_running_text:
        n = len(dataset.ids[part])
        stretch = np.arange(n) // max(1, min(STRETCH, -(-n // FOLDS)))
        return stretch, stretch % FOLDS
    words = dataset.parts[part]
    folds = [zlib.crc32("".join(word).encode()) % FOLDS for word in words]
    lengths = [len(word) + 1 for word in words]
    return np.repeat(np.arange(len(words)), lengths), np.repeat(folds, lengths)


def chunk_size(vocab_size: int) -> int:
    """How many contexts' distributions over a vocabulary are computed at once."""
    return max(1, min(CHUNK, CHUNK_BYTES // (8 * vocab_size)))


def log_average(networks: Sequence[tuple[Params, tuple[Moments, ...]]]) -> LogDistributions:
    """The log of the average of some networks' probabilities, after contexts as long as the longest or longer."""

    size = chunk_size(len(networks[0][0].embedding))

    def distributions(contexts):
        filled = np.pad(contexts, ((0, -len(contexts) % size), (0, 0)))  # One shape, compiled once.
        return np.concatenate([chunk_of(filled[i : i + size]) for i in range(0, len(filled), size)])[: len(contexts)]

    def chunk_of(contexts):
        each = [_log_softmax(params, contexts[:, -params.block_size :], moments) for params, moments in networks]
        return np.asarray(_log_mean(each))

    return distributions


@jax.jit
def _log_softmax(
    params: Params, contexts: Int[Array, "n block"], moments: tuple[Moments, ...]
) -> Float[Array, "n vocab"]:
    return jax.nn.log_softmax(forward(params, contexts, moments).logits)


@jax.jit
def _log_mean(logs: list[Float[Array, "n vocab"]]) -> Float[Array, "n vocab"]:
    return functools.reduce(jnp.logaddexp, logs) - math.log(len(logs))


def log_count_model(model: CountModel) -> LogDistributions:
    """The log of the probabilities of a count model that rules nothing out, as Kneser-Ney does not.

    The last answer is kept, for mixtures that share the model and are asked in turn.
    """
    last: list[tuple[Int[np.ndarray, "n block"], Float32[np.ndarray, "n vocab"]]] = []

    def distributions(contexts):
        if not last or not np.array_equal(last[0][0], contexts):
            last[:] = [(contexts, np.log(model.distribution(contexts)).astype(np.float32))]
        return last[0][1]

    return distributions


@dataclass(frozen=True)
class Buckets:
    """Contexts by how well training knows them: the length of the longest suffix that it has, and how often it has it.

    `counts` are those of the training windows. Of each length there are four buckets: contexts that occur up to 3, 15
    and 63 times, and more often.
    """

    counts: NgramCounts

    @property
    def number(self) -> int:
        """How many there are."""
        return LEVELS * len(self.counts.orders)

    def of(self, contexts: Int[np.ndarray, "n block"]) -> Int[np.ndarray, " n"]:
        """The bucket of each context, from 0 on."""
        length, occurs = np.zeros(len(contexts), int), np.zeros(len(contexts), int)
        for order, ids in enumerate(self.counts.context_ids(contexts)):
            table = self.counts.orders[order]
            seen = ids >= 0
            length[seen] = order
            occurs[seen] = table.sum_by_context(table.counts)[ids[seen]]
        return LEVELS * length + np.searchsorted(LEVEL_STARTS, occurs, side="right") - 1

    def name(self, bucket: int) -> str:
        """Such as `5 tokens, seen 4 to 15 times`."""
        length, level = divmod(bucket, LEVELS)
        first, *following = LEVEL_STARTS[level:]
        times = f"{first} to {following[0] - 1}" if following else f"{first} or more"
        return f"{length} token{'s' * (length != 1)}, seen {times} times"


@dataclass(frozen=True)
class LogLinear:
    """p(w | c) proportional to the product of the members' p_k(w | c) ** weights[bucket of c, k].

    A mixture of experts by their product (Heskes 1998, "Selecting weighting factors in logarithmic opinion pools"): it
    is sharper than its members where they agree, which no linear mixture is.
    """

    members: Sequence[LogDistributions]
    buckets: Buckets

    def fit(self, windows: Windows, seed: int = 0) -> Float[np.ndarray, "buckets members"]:
        """The weights of the lowest loss on some windows; the loss is convex in them.

        First common weights of all buckets, then those of each bucket, which a penalty of PULL / 2 nats per squared
        distance keeps near the common ones: a bucket that no window is in has the common ones. Where the distributions
        of all windows are larger than FITTING_BYTES, as many as fit are drawn at random.
        """
        vocab_size = self.buckets.counts.vocab_size
        most = max(1, FITTING_BYTES // (4 * vocab_size * len(self.members)))
        if len(windows) > most:
            chosen = np.random.default_rng(seed).choice(len(windows), most, replace=False)
            windows = Windows(windows.contexts[chosen], windows.targets[chosen])
        chunks = in_chunks(windows.contexts, vocab_size)
        stacked = np.empty((len(chunks), len(self.members), chunks.shape[1], vocab_size), np.float32)
        for place, contexts in zip(stacked, chunks, strict=True):
            place[:] = self.stack(contexts)
        equal = np.full((1, len(self.members)), 1 / len(self.members))
        common = fit_weights(stacked, windows.targets, np.zeros(len(windows), int), equal)
        each = np.repeat(common, self.buckets.number, axis=0)
        return fit_weights(stacked, windows.targets, self.buckets.of(windows.contexts), each, PULL)

    def losses(self, windows: Windows, weights: Float[np.ndarray, "buckets members"]) -> Float[np.ndarray, " n"]:
        """The loss of each window's target in nats."""
        return losses_of([self], windows, [weights])[0]

    def mixed(self, weights: Float[np.ndarray, "buckets members"]) -> LogDistributions:
        """The mixture with these weights; its log-probabilities are not normalised."""
        return lambda contexts: _product(self.stack(contexts), weights[self.buckets.of(contexts)])

    def stack(self, contexts: Int[np.ndarray, "n block"]) -> Stacked:
        """All members' log-probabilities."""
        return np.stack([member(contexts) for member in self.members]).astype(np.float32)


def losses_of(
    mixtures: Sequence[LogLinear], windows: Windows, weights: Sequence[Float[np.ndarray, "buckets _"]]
) -> list[Float[np.ndarray, " n"]]:
    """The loss of each window's target in nats under several mixtures.

    They are asked in turn for the same contexts: a count model that they share answers once (`log_count_model`).
    """
    vocab_size = mixtures[0].buckets.counts.vocab_size
    of_windows = [
        in_chunks(of_buckets[mixture.buckets.of(windows.contexts)], vocab_size)
        for mixture, of_buckets in zip(mixtures, weights, strict=True)
    ]
    losses: list[list[Float[np.ndarray, " rows"]]] = [[] for _ in mixtures]
    inputs = zip(
        in_chunks(windows.contexts, vocab_size), in_chunks(windows.targets, vocab_size), *of_windows, strict=True
    )
    for contexts, targets, *each in inputs:
        for mixture, mine, one in zip(mixtures, losses, each, strict=True):
            mine.append(np.asarray(log_linear_losses(mixture.stack(contexts), targets, one), np.float64))
    return [np.concatenate([*mine, np.zeros(0)])[: len(windows)] for mine in losses]


@jax.jit
def log_linear_losses(
    stacked: Float[Array, "members n vocab"], targets: Int[Array, " n"], weights: Float[Array, "n members"]
) -> Float[Array, " n"]:
    """-log of the renormalised product of powers, in nats, for each target."""
    mixed = _product(stacked, weights)
    return jax.nn.logsumexp(mixed, axis=1) - mixed[jnp.arange(len(targets)), targets]


def fit_weights(
    stacked: Float[np.ndarray, "chunks members rows vocab"],
    targets: Int[np.ndarray, " n"],
    group: Int[np.ndarray, " n"],
    start: Float[np.ndarray, "groups members"],
    pull: float = 0.0,
) -> Float[np.ndarray, "groups members"]:
    """The weights of each group of windows of the lowest summed loss and penalty on the squared distance from `start`.

    Groups are fitted together, and none depends on another: one without windows keeps its start. What the last chunk
    has beyond the n windows counts for nothing.
    """
    if not len(targets):
        return start
    n, rows, logs = len(targets), stacked.shape[2], jnp.asarray(stacked)
    wanted = _in_rows(targets, rows)

    def sums(of_windows: Float[Array, "chunks rows *shape"]) -> Float[np.ndarray, "groups *shape"]:
        total = np.zeros((len(start), *of_windows.shape[2:]))
        np.add.at(total, group, np.asarray(of_windows, np.float64).reshape(-1, *of_windows.shape[2:])[:n])
        return total

    # In coordinates in which the loss is about as curved in every direction, however many windows a group has.
    curvature = sums(_curvatures(logs, wanted, _in_rows(start[group], rows)))
    steps = np.linalg.inv(np.linalg.cholesky(curvature + (pull + 1) * np.eye(start.shape[1])))

    def loss_and_gradient(flat: Float[np.ndarray, " size"]) -> tuple[float, Float[np.ndarray, " size"]]:
        away = np.einsum("gij,gi->gj", steps, flat.reshape(start.shape))
        losses, gradients = _losses_and_gradients(logs, wanted, _in_rows((start + away)[group], rows))
        gradient = np.einsum("gij,gj->gi", steps, sums(gradients) + pull * away)
        return sums(losses).sum() + pull / 2 * (away**2).sum(), gradient.ravel()

    best = minimize(loss_and_gradient, np.zeros(start.size), jac=True, method="L-BFGS-B").x
    return start + np.einsum("gij,gi->gj", steps, best.reshape(start.shape))


@jax.jit
def _losses_and_gradients(
    stacked: Float[Array, "chunks members rows vocab"],
    targets: Int[Array, "chunks rows"],
    weights: Float[Array, "chunks rows members"],
) -> tuple[Float[Array, "chunks rows"], Float[Array, "chunks rows members"]]:
    """The loss of each window, and its gradient by the window's weights."""

    def one_chunk(chunk):
        logs, wanted, weights = chunk
        losses, pullback = jax.vjp(lambda weights: log_linear_losses(logs, wanted, weights), weights)
        return losses, pullback(jnp.ones_like(losses))[0]

    return jax.lax.map(one_chunk, (stacked, targets, weights))


@jax.jit
def _curvatures(
    stacked: Float[Array, "chunks members rows vocab"],
    targets: Int[Array, "chunks rows"],
    weights: Float[Array, "chunks rows members"],
) -> Float[Array, "chunks rows members members"]:
    """The Hessian of each window's loss by the window's weights: the covariance of the members' log-probabilities."""

    def one_chunk(chunk):
        logs, wanted, weights = chunk
        gradient = jax.grad(lambda weights: log_linear_losses(logs, wanted, weights).sum())
        along = [jnp.zeros_like(weights).at[:, k].set(1) for k in range(weights.shape[1])]
        return jnp.stack([jax.jvp(gradient, (weights,), (direction,))[1] for direction in along], axis=-1)

    return jax.lax.map(one_chunk, (stacked, targets, weights))


def cross_validate(
    mixtures: Sequence[LogLinear], windows: Windows, folds: Int[np.ndarray, " n"]
) -> list[Float[np.ndarray, " n"]]:
    """The loss of each window's target in nats under each mixture, with weights that were fitted on the other fold."""
    losses = [np.zeros(len(windows)) for _ in mixtures]
    for fold in range(FOLDS):
        mine = folds == fold
        others = Windows(windows.contexts[~mine], windows.targets[~mine])
        weights = [mixture.fit(others) for mixture in mixtures]
        measured = losses_of(mixtures, Windows(windows.contexts[mine], windows.targets[mine]), weights)
        for every, some in zip(losses, measured, strict=True):
            every[mine] = some
    return losses


def in_chunks(values: Shaped[np.ndarray, "n *shape"], vocab_size: int) -> Shaped[np.ndarray, "chunks rows *shape"]:
    """Values of windows, as many at once as `chunk_size`; the last chunk is filled with the first of them again."""
    return _in_rows(values, min(chunk_size(vocab_size), max(1, len(values))))


def _in_rows(values: Shaped[np.ndarray, "n *shape"], rows: int) -> Shaped[np.ndarray, "chunks rows *shape"]:
    return np.resize(values, (-(-len(values) // rows), rows, *values.shape[1:]))


def _product(stacked: AnyArray, weights: AnyArray) -> AnyArray:
    """The log of the product of powers, `[n, vocab]`, not normalised; of NumPy's arrays or of JAX's."""
    return sum(of_member[:, None] * member for of_member, member in zip(weights.T, stacked, strict=True))
