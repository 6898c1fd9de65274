"""Averages of several models' probabilities, and their mixtures with count models, for names and words alike.

A model is represented by the probabilities that it gives the targets of some windows or, where a mixture must be
renormalised, by a function from contexts to the log-probabilities of the whole vocabulary. Probabilities are in
float64: averages of small numbers, logarithms of averages.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from mlp_lm.data.dataset import Dataset, Windows
from mlp_lm.evaluation import each_loss
from mlp_lm.model import Moments, Params, forward
from mlp_lm.ngram.counts import NgramCounts
from mlp_lm.ngram.models import CountModel
from mlp_lm.sampling import LogDistributions

Probabilities = Float[np.ndarray, " n"]
Stacked = Float[np.ndarray, "n vocab members"]

FOLDS = 2
STRETCH = 2_000  # Tokens of a running text that are drawn or left out together: one of Brown's 500 texts.
CHUNK = 512  # Contexts whose distributions are computed at once.
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


def log_average(networks: Sequence[tuple[Params, tuple[Moments, ...]]]) -> LogDistributions:
    """The log of the average of some networks' probabilities, after contexts as long as the longest or longer."""

    def distributions(contexts):
        filled = np.pad(contexts, ((0, -len(contexts) % CHUNK), (0, 0)))  # One shape, compiled once.
        return np.concatenate([chunk_of(filled[i : i + CHUNK]) for i in range(0, len(filled), CHUNK)])[: len(contexts)]

    def chunk_of(contexts):
        each = [_log_softmax(params, contexts[:, -params.block_size :], moments) for params, moments in networks]
        return np.logaddexp.reduce([np.asarray(one) for one in each]) - np.log(len(networks))

    return distributions


@jax.jit
def _log_softmax(
    params: Params, contexts: Int[Array, "n block"], moments: tuple[Moments, ...]
) -> Float[Array, "n vocab"]:
    return jax.nn.log_softmax(forward(params, contexts, moments).logits)


def log_count_model(model: CountModel) -> LogDistributions:
    """The log of the probabilities of a count model that rules nothing out, as Kneser-Ney does not."""
    return lambda contexts: np.log(model.distribution(contexts))


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
        most = max(1, FITTING_BYTES // (4 * self.buckets.counts.vocab_size * len(self.members)))
        if len(windows) > most:
            chosen = np.random.default_rng(seed).choice(len(windows), most, replace=False)
            windows = Windows(windows.contexts[chosen], windows.targets[chosen])
        stacked = np.empty((len(windows), self.buckets.counts.vocab_size, len(self.members)), np.float32)
        for i, chunk in enumerate(_chunks(windows)):
            stacked[i * CHUNK : (i + 1) * CHUNK] = self.stack(chunk.contexts)
        buckets, equal = self.buckets.of(windows.contexts), np.full(len(self.members), 1 / len(self.members))
        common = fit_weights(stacked, windows.targets, equal)
        each = [buckets == bucket for bucket in range(self.buckets.number)]
        return np.stack([fit_weights(stacked[mine], windows.targets[mine], common, PULL) for mine in each])

    def losses(self, windows: Windows, weights: Float[np.ndarray, "buckets members"]) -> Float[np.ndarray, " n"]:
        """The loss of each window's target in nats."""
        each = [
            log_linear_losses(self.stack(chunk.contexts), chunk.targets, weights[self.buckets.of(chunk.contexts)])
            for chunk in _chunks(windows)
        ]
        return np.concatenate(each) if each else np.zeros(0)

    def mixed(self, weights: Float[np.ndarray, "buckets members"]) -> LogDistributions:
        """The mixture with these weights; its log-probabilities are not normalised."""

        def distributions(contexts):
            chosen = weights[self.buckets.of(contexts)]
            return np.matmul(self.stack(contexts), chosen[:, :, None])[:, :, 0]

        return distributions

    def stack(self, contexts: Int[np.ndarray, "n block"]) -> Stacked:
        """All members' log-probabilities."""
        return np.stack([member(contexts) for member in self.members], axis=-1)


def log_linear_losses(
    stacked: Stacked, targets: Int[np.ndarray, " n"], weights: Float[np.ndarray, "n members"]
) -> Float[np.ndarray, " n"]:
    """-log of the renormalised product of powers, in nats, for each target."""
    mixed = np.matmul(stacked, weights[:, :, None])[:, :, 0]
    return logsumexp(mixed, axis=1) - mixed[np.arange(len(targets)), targets]


def fit_weights(
    stacked: Stacked, targets: Int[np.ndarray, " n"], common: Float[np.ndarray, " members"], pull: float = 0.0
) -> Float[np.ndarray, " members"]:
    """The weights, shared by all these windows, of the lowest summed loss and penalty; from `common` on.

    The gradient of the loss is the expectation of the members' log-probabilities under the mixture, minus those of the
    targets: it vanishes where the two agree.
    """
    if not len(targets):
        return common
    of_targets = stacked[np.arange(len(targets)), targets].sum(axis=0, dtype=np.float64)

    def loss_and_gradient(weights):
        mixed = (stacked @ weights.astype(stacked.dtype)).astype(np.float64)
        normalisers = logsumexp(mixed, axis=1)
        mixture = np.exp(mixed - normalisers[:, None]).astype(stacked.dtype)
        expected = np.matmul(mixture[:, None, :], stacked)[:, 0].sum(axis=0, dtype=np.float64)
        away = weights - common
        loss = normalisers.sum() - of_targets @ weights + pull / 2 * away @ away
        return loss, expected - of_targets + pull * away

    return minimize(loss_and_gradient, common, jac=True, method="L-BFGS-B").x


def cross_validate(mixture: LogLinear, windows: Windows, folds: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The loss of each window's target in nats, with weights that were fitted on the other fold."""
    losses = np.zeros(len(windows))
    for fold in range(FOLDS):
        mine = folds == fold
        weights = mixture.fit(Windows(windows.contexts[~mine], windows.targets[~mine]))
        losses[mine] = mixture.losses(Windows(windows.contexts[mine], windows.targets[mine]), weights)
    return losses


def _chunks(windows: Windows) -> Iterator[Windows]:
    for start in range(0, len(windows), CHUNK):
        chunk = slice(start, start + CHUNK)
        yield Windows(windows.contexts[chunk], windows.targets[chunk])
