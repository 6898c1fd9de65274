"""Deleted interpolation of relative frequencies, the trigram baseline of Bengio et al. 2003, section 4.

    p(w | c) = sum over j = -1, 0, ..., k of weight_j(bucket(c)) * f_j(w | c)

where f_{-1} is uniform and f_j the relative frequency after the last j tokens of c (after the longest seen
suffix of them, where those were never seen). Weights are mixture weights fitted to held-out data by
expectation-maximisation (Jelinek and Mercer 1980), one set a bucket of the frequency of the whole context.
"""

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mlp_lm.ngram import InterpolatedModel, absolute_discount
from mlp_lm.ngram_counts import NgramCounts

EM_TOLERANCE = 1e-6  # nats per token gained by one more iteration
EM_ITERATIONS = 200


@dataclass(frozen=True)
class DeletedInterpolation:
    """``weights`` over the uniform distribution and orders 0 to k, per bucket of the context's frequency."""

    frequencies: InterpolatedModel
    bucket_of_context: Int[np.ndarray, " contexts_plus_1"]
    weights: Float[np.ndarray, "buckets orders_plus_1"]

    def token_probabilities(
        self, contexts: Int[np.ndarray, "n block"], targets: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Probability of each target after its context."""
        located = self.frequencies.counts.locate(contexts, targets)
        weights = self.weights[self.bucket_of_context[located[-1][0]]]
        return _mix(weights, self.frequencies.climb(located))

    def distribution(self, contexts: Int[np.ndarray, "m block"]) -> Float[np.ndarray, "m vocab"]:
        """Probabilities of the whole vocabulary after each context."""
        *_, context_ids = self.frequencies.counts.context_ids(contexts)
        weights = self.weights[self.bucket_of_context[context_ids]]
        return _mix(weights, self.frequencies.climb_distribution(contexts))


def deleted_interpolation(
    counts: NgramCounts, contexts: Int[np.ndarray, "n block"], targets: Int[np.ndarray, " n"]
) -> DeletedInterpolation:
    """Fit the mixture weights to held-out windows; ``counts`` are of the training windows."""
    frequencies = absolute_discount(counts, 0.0)
    bucket_of_context = _frequency_buckets(counts)
    located = counts.locate(contexts, targets)
    components = np.stack(list(frequencies.climb(located)), axis=1)
    buckets = bucket_of_context[located[-1][0]]
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
