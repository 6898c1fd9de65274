"""Count-based language models, the baselines beside a neural one (Bengio et al. 2003, section 4).

Every model here climbs from the uniform distribution to the longest order (Chen and Goodman 1999, section 2):

    p_j(w | c) = direct_j(c, w) + backoff_j(c) * p_{j-1}(w | c without its oldest token)
    p_{-1}(w) = 1 / vocab_size

An unseen context has direct 0 and backoff 1: it falls to the shorter one. The families differ in ``direct`` and
``backoff`` alone, and Kneser-Ney is absolute discounting of other counts. Deleted interpolation mixes all orders
instead.
"""

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar

from mlp_lm.ngram.counts import UNSEEN, Located, NgramCounts, OrderCounts, continuation_counts

# KenLM's --discount_fallback, for counts of counts that give no estimate.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

# Distributions of some distinct contexts, and of every context asked for which of them is its own.
Grouped = tuple[Float[np.ndarray, "distinct vocab"], Int[np.ndarray, " m"]]
Step = TypeVar("Step")

EM_TOLERANCE = 1e-6  # nats per token gained by one more iteration
EM_ITERATIONS = 200


@runtime_checkable
class CountModel(Protocol):
    """What a fitted count model answers."""

    def token_probabilities(
        self, contexts: Int[np.ndarray, "n block"], targets: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Probability of each target after its context."""
        ...

    def located_probabilities(self, located: Located) -> Float[np.ndarray, " n"]:
        """As `token_probabilities`, of windows that are located in the model's counts already."""
        ...

    def distribution(self, contexts: Int[np.ndarray, "m block"]) -> Float[np.ndarray, "m vocab"]:
        """Probabilities of the whole vocabulary after each context."""
        ...


@dataclass(frozen=True)
class InterpolatedModel:
    """The recursion above: per order ``direct`` by gram id and ``backoff`` by context id, unseen last."""

    counts: NgramCounts
    direct: tuple[Float[np.ndarray, " _"], ...]
    backoff: tuple[Float[np.ndarray, " _"], ...]

    def token_probabilities(
        self, contexts: Int[np.ndarray, "n block"], targets: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Probability of each target after its context."""
        return self.located_probabilities(self.counts.locate(contexts, targets))

    def located_probabilities(self, located: Located) -> Float[np.ndarray, " n"]:
        """As `token_probabilities`, of windows that are located in the counts already."""
        return _last(self.climb(located))

    def distribution(self, contexts: Int[np.ndarray, "m block"]) -> Float[np.ndarray, "m vocab"]:
        """Probabilities of the whole vocabulary after each context."""
        distributions, group = _last(self.climb_distributions(contexts))
        return distributions[group]

    def climb(self, located: Located) -> Iterator[Float[np.ndarray, " n"]]:
        """Probabilities of located targets: uniform, order 0, order 1, ..."""
        probabilities = np.full(len(located[0][0]), 1 / self.counts.vocab_size)
        yield probabilities
        for direct, backoff, (context_ids, gram_ids) in zip(self.direct, self.backoff, located, strict=True):
            probabilities = direct[gram_ids] + backoff[context_ids] * probabilities
            yield probabilities

    def climb_distributions(self, contexts: Int[np.ndarray, "m block"]) -> Iterator[Grouped]:
        """Distributions after each context: uniform, order 0, order 1, ...

        Contexts that end alike share a distribution of the shorter orders: each is computed once.
        """
        vocab_size = self.counts.vocab_size
        distributions, group = np.full((1, vocab_size), 1 / vocab_size), np.zeros(len(contexts), np.int64)
        yield distributions, group
        tables = zip(self.counts.orders, self.direct, self.backoff, strict=True)
        for (order, direct, backoff), ids in zip(tables, self.counts.context_ids(contexts), strict=True):
            # An unseen context is told from another by what is known of it, the shorter one.
            keys = np.where(ids == UNSEEN, UNSEEN - group, ids)
            _, one_of_each, longer = np.unique(keys, return_index=True, return_inverse=True)
            known = ids[one_of_each]
            distributions = backoff[known][:, None] * distributions[group[one_of_each]]
            rows, grams = _grams_of(order, known)
            distributions[rows, order.gram_keys[grams] % vocab_size] += direct[grams]
            group = longer
            yield distributions, group


def maximum_likelihood(counts: NgramCounts) -> InterpolatedModel:
    """Relative frequencies after the longest context: ``add_k`` with k = 0."""
    return add_k(counts, 0.0)


def add_k(counts: NgramCounts, k: float = 1.0) -> InterpolatedModel:
    """(N(c, w) + k) / (N(c) + k * vocab_size) after the longest context; k = 1 is Laplace's rule.

    Shorter contexts play no part: an unseen context has the uniform distribution, for k = 0 as the limit.
    """
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    longest = counts.orders[-1]
    mass = k * counts.vocab_size
    totals = longest.sum_by_context(longest.counts) + mass
    silent = [(np.zeros(len(order.counts)), np.ones(len(order.context_keys))) for order in counts.orders[:-1]]
    return _with_unseen(counts, [*silent, (longest.counts / totals[longest.context_of_gram], mass / totals)])


def absolute_discount(counts: NgramCounts, discount: float | Sequence[float]) -> InterpolatedModel:
    """Interpolated absolute discounting (Ney, Essen and Kneser 1994), one D in [0, 1] or one an order.

    direct = max(N(c, w) - D, 0) / N(c) and backoff = D * N1+(c .) / N(c), where N1+(c .) counts the distinct
    successors of c. With D = 0 it is the relative frequency after the longest seen suffix of the context.
    """
    per_order = np.broadcast_to(np.asarray(discount, dtype=float), len(counts.orders))
    if not np.all((per_order >= 0) & (per_order <= 1)):
        raise ValueError(f"discounts must be from 0 to 1, got {discount}")
    return _discounted(counts, np.tile(per_order[:, None], 3))


def kneser_ney(counts: NgramCounts, discount: float | Sequence[float]) -> InterpolatedModel:
    """Interpolated Kneser-Ney: absolute discounting of continuation counts (Kneser and Ney 1995)."""
    return absolute_discount(continuation_counts(counts), discount)


def modified_kneser_ney(counts: NgramCounts) -> InterpolatedModel:
    """Interpolated modified Kneser-Ney, discounts estimated order by order (Chen and Goodman 1999)."""
    counts = continuation_counts(counts)
    return _discounted(counts, np.array([modified_discounts(order.counts) for order in counts.orders]))


def modified_discounts(counts: Int[np.ndarray, " grams"]) -> tuple[float, float, float]:
    """Discounts D1, D2, D3+ from the counts of counts n1 to n4 (Chen and Goodman 1999, section 3).

    Y = n1 / (n1 + 2 n2), D_i = i - (i + 1) * Y * n_{i+1} / n_i. Small vocabularies may lack an n_i, or give a
    D_i outside (0, i): then ``FALLBACK_DISCOUNTS``.
    """
    n1, n2, n3, n4 = (int(np.sum(counts == i)) for i in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return discounts if all(0 < d < i for i, d in enumerate(discounts, start=1)) else FALLBACK_DISCOUNTS


@dataclass(frozen=True)
class DeletedInterpolation:
    """Deleted interpolation, the trigram baseline of Bengio et al. 2003, section 4.

        p(w | c) = sum over j = -1, 0, ..., k of weight_j(bucket(c)) * f_j(w | c)

    where f_{-1} is uniform and f_j the relative frequency after the last j tokens of c (after the longest seen suffix
    of them, where those were never seen). ``weights`` are mixture weights fitted to held-out data by
    expectation-maximisation (Jelinek and Mercer 1980), one set a bucket of the frequency of the whole context.
    """

    frequencies: InterpolatedModel
    bucket_of_context: Int[np.ndarray, " contexts_plus_1"]
    weights: Float[np.ndarray, "buckets orders_plus_1"]

    def token_probabilities(
        self, contexts: Int[np.ndarray, "n block"], targets: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Probability of each target after its context."""
        return self.located_probabilities(self.frequencies.counts.locate(contexts, targets))

    def located_probabilities(self, located: Located) -> Float[np.ndarray, " n"]:
        """As `token_probabilities`, of windows that are located in the counts already."""
        weights = self.weights[self.bucket_of_context[located[-1][0]]]
        return _mix(weights, self.frequencies.climb(located))

    def distribution(self, contexts: Int[np.ndarray, "m block"]) -> Float[np.ndarray, "m vocab"]:
        """Probabilities of the whole vocabulary after each context."""
        *_, context_ids = self.frequencies.counts.context_ids(contexts)
        weights = self.weights[self.bucket_of_context[context_ids]]
        climb = self.frequencies.climb_distributions(contexts)
        return _mix(weights, (distributions[group] for distributions, group in climb))


def deleted_interpolation(counts: NgramCounts, held_out: Located) -> DeletedInterpolation:
    """Fit the mixture weights to held-out windows, looked up in ``counts``, which are of the training windows."""
    frequencies = absolute_discount(counts, 0.0)
    bucket_of_context = _frequency_buckets(counts)
    components = np.stack(list(frequencies.climb(held_out)), axis=1)
    buckets = bucket_of_context[held_out[-1][0]]
    uniform = np.full(components.shape[1], 1 / components.shape[1])
    common = mixture_weights(components, uniform)
    weights = [mixture_weights(components[buckets == b], common) for b in range(bucket_of_context.max() + 1)]
    return DeletedInterpolation(frequencies, bucket_of_context, np.stack(weights))


def mixture_weights(
    components: Float[np.ndarray, "n components"], prior: Float[np.ndarray, " components"]
) -> Float[np.ndarray, " components"]:
    """Weights that maximise the likelihood of tokens with these component probabilities, by EM.

    EM starts from ``prior``, which counts as one more token: no weight is ever zero.
    """
    weights, loss = prior, np.inf
    for _ in range(EM_ITERATIONS):
        mixed = components @ weights
        previous, loss = loss, -float(np.log(mixed).sum()) / max(len(mixed), 1)
        if previous - loss < EM_TOLERANCE:
            break
        responsibilities = weights * (components.T @ (1 / mixed))
        weights = (responsibilities + prior) / (len(mixed) + 1)
    return weights


def held_out_loss(
    model: CountModel,
    contexts: Int[np.ndarray, "n block"],
    targets: Int[np.ndarray, " n"],
) -> float:
    """Mean loss in nats per token; infinite where the model gives a target probability zero."""
    return cross_entropy(model.token_probabilities(contexts, targets))


def cross_entropy(probabilities: Float[np.ndarray, " n"]) -> float:
    """In nats per token; infinite where a probability is zero."""
    with np.errstate(divide="ignore"):  # log 0 is meant: an impossible target costs infinitely much
        return float(-np.mean(np.log(probabilities)))


def choose_discount(counts: NgramCounts, held_out: Located) -> float:
    """The one discount, to within 1e-6, with which ``absolute_discount`` has the lowest loss on held-out windows.

    They are looked up in ``counts``. For Kneser-Ney hand over ``continuation_counts(counts)``, which has the same ids.
    """
    loss = minimize_scalar(
        lambda discount: cross_entropy(absolute_discount(counts, discount).located_probabilities(held_out)),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(loss.x)


def conditional_entropy(counts: NgramCounts) -> float:
    """Entropy in nats of the counted targets given the longest context: no training loss is lower."""
    order = counts.orders[-1]
    totals = order.sum_by_context(order.counts)[order.context_of_gram]
    return float(order.counts @ np.log(totals / order.counts) / order.counts.sum())


def _discounted(counts: NgramCounts, discounts: Float[np.ndarray, "orders 3"]) -> InterpolatedModel:
    """Interpolation with discounts for counts 1, 2 and more (Chen and Goodman 1999, section 3)."""
    return _with_unseen(
        counts, [_discounted_order(order, row) for order, row in zip(counts.orders, discounts, strict=True)]
    )


def _discounted_order(
    order: OrderCounts, discounts: Float[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, " grams"], Float[np.ndarray, " contexts"]]:
    """direct = (N - D(N)) / N(c), backoff = the sum of D(N) over the grams of c / N(c)."""
    discount = np.concatenate([[0.0], discounts])[np.minimum(order.counts, 3)]
    totals = order.sum_by_context(order.counts)
    backoff = np.add.reduceat(discount, order.starts[:-1]) / totals
    return (order.counts - discount) / totals[order.context_of_gram], backoff


def _with_unseen(
    counts: NgramCounts, tables: list[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]]
) -> InterpolatedModel:
    direct = tuple(np.append(direct, 0.0) for direct, _ in tables)
    backoff = tuple(np.append(backoff, 1.0) for _, backoff in tables)
    return InterpolatedModel(counts, direct, backoff)


def _grams_of(
    order: OrderCounts, context_ids: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Every pair (row, gram id) where the gram belongs to the row's context; an unseen context has none."""
    seen = context_ids >= 0
    starts = np.where(seen, order.starts[context_ids], 0)
    lengths = np.where(seen, order.starts[context_ids + 1] - starts, 0)
    rows = np.repeat(np.arange(len(context_ids)), lengths)
    first_pairs = np.cumsum(lengths) - lengths
    return rows, np.arange(len(rows)) + np.repeat(starts - first_pairs, lengths)


def _last(steps: Iterator[Step]) -> Step:
    for step in steps:
        last = step
    return last


def _frequency_buckets(counts: NgramCounts) -> Int[np.ndarray, " contexts_plus_1"]:
    """ceil(-log((1 + frequency) / windows)) per longest context, the unseen one last (Bengio et al. 2003)."""
    longest = counts.orders[-1]
    frequencies = np.append(longest.sum_by_context(longest.counts), 0)
    windows = frequencies.sum()
    buckets: Int[np.ndarray, " _"] = np.ceil(np.log(windows / (1 + frequencies))).clip(min=0).astype(np.int64)
    return buckets


def _mix(
    weights: Float[np.ndarray, "n components"], components: Iterable[Float[np.ndarray, "n *vocab"]]
) -> Float[np.ndarray, "n *vocab"]:
    weighted = ((weight * component.T).T for weight, component in zip(weights.T, components, strict=True))
    return functools.reduce(operator.add, weighted)
