"""Perplexities of trained networks and of count models, alone and mixed, on the validation and the test part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from mlp_lm.data.material import TextMaterial
from mlp_lm.ngram.deleted_interpolation import deleted_interpolation
from scipy.optimize import minimize_scalar

from experiments.analysis.studies import Row
from experiments.bengio2003.models import MIXED_WEIGHT
from experiments.store import Store
from mlp_lm.data.dataset import Windows
from mlp_lm.evaluation import each_loss
from mlp_lm.ngram.counts import continuation_counts, count_ngrams
from mlp_lm.ngram.models import CountModel, choose_discount, kneser_ney, modified_kneser_ney
from mlp_lm.weights import from_tensors

PARTS = ("dev", "test")
ORDERS = (3, 4, 5)
LONGEST = max(ORDERS) - 1  # Words of context.

Probabilities = dict[str, Float[np.ndarray, " n"]]  # Of each target of a part, in running order.


@dataclass(frozen=True)
class Counted:
    """A count model's perplexities, and its probabilities of the targets of the parts."""

    family: str
    order: int
    train: float | None
    probabilities: Probabilities


@dataclass(frozen=True)
class Network:
    """One network, or several whose probabilities are averaged, held against the trigram."""

    valid: float
    test: float
    mixed_valid: float
    mixed_test: float
    best_weight: float  # Of the trigram, chosen on the validation part.
    best_valid: float
    best_test: float


def perplexity(probabilities: Float[np.ndarray, " n"]) -> float:
    """exp of the mean loss: the geometric mean of 1 / probability."""
    return float(np.exp(-np.mean(np.log(probabilities))))


def count_models(material: TextMaterial) -> list[Counted]:
    """Deleted interpolation of order 3, and Kneser-Ney and modified Kneser-Ney of order 3 to 5.

    Weights and the discount of Kneser-Ney are chosen on the validation part.
    """
    train, dev = (material.windows(part, LONGEST) for part in ("train", "dev"))
    counts = count_ngrams(train.contexts, train.targets, LONGEST, len(material.vocabulary))
    trigram = counts.shortened(2)
    interpolated = deleted_interpolation(trigram, dev.contexts[:, -2:], dev.targets)
    found = [_counted("deleted interpolation", 3, interpolated, material, train)]
    for order in ORDERS:
        shorter = counts.shortened(order - 1)
        discount = choose_discount(continuation_counts(shorter), dev.contexts[:, 1 - order :], dev.targets)
        found.append(_counted("Kneser-Ney", order, kneser_ney(shorter, discount), material))
        found.append(_counted("modified Kneser-Ney", order, modified_kneser_ney(shorter), material))
    return found


def network_probabilities(store: Store, row: Row, material: TextMaterial) -> Probabilities:
    """What a network gives the targets of the parts."""
    params = from_tensors(store.weights(row))
    windows = {part: material.windows(part, row["block_size"]) for part in PARTS}
    return {part: np.exp(-each_loss(params, found).astype(np.float64)) for part, found in windows.items()}


def averaged(networks: Sequence[Probabilities]) -> Probabilities:
    """The mean of several networks' probabilities."""
    return {part: np.mean([network[part] for network in networks], axis=0) for part in PARTS}


def measure_network(network: Probabilities, trigram: Probabilities) -> Network:
    """A network's perplexities alone, mixed half and half with the trigram, and at the best weight on validation."""

    def mixed(part: str, weight: float) -> float:
        return perplexity((1 - weight) * network[part] + weight * trigram[part])

    best = float(minimize_scalar(lambda weight: mixed("dev", weight), bounds=(0, 1), method="bounded").x)
    return Network(
        valid=perplexity(network["dev"]),
        test=perplexity(network["test"]),
        mixed_valid=mixed("dev", MIXED_WEIGHT),
        mixed_test=mixed("test", MIXED_WEIGHT),
        best_weight=best,
        best_valid=mixed("dev", best),
        best_test=mixed("test", best),
    )


def longest_seen(material: TextMaterial, part: str) -> Int[np.ndarray, " n"]:
    """For each target of a part, the order of the longest n-gram ending in it that occurs in training.

    0: the word itself never occurs; 1: the word, but not after the word before it; at most 5.
    """
    train, held_out = (material.windows(name, LONGEST) for name in ("train", part))
    counts = count_ngrams(train.contexts, train.targets, LONGEST, len(material.vocabulary))
    located = counts.locate(held_out.contexts, held_out.targets)
    seen = [gram_ids >= 0 for _, gram_ids in located]
    return np.sum(np.logical_and.accumulate(np.stack(seen)), axis=0)


def compare_by_novelty(
    material: TextMaterial, network: Probabilities, counted: Probabilities, part: str = "test"
) -> list[dict[str, Any]]:
    """Perplexity of a network and of a count model on targets grouped by the longest n-gram seen in training."""
    longest = longest_seen(material, part)
    groups = [(f"{order}-gram seen" if order else "word never seen", longest == order) for order in range(LONGEST + 2)]
    groups.append(("its bigram never seen", longest <= 1))
    return [_compare(name, member, network[part], counted[part]) for name, member in groups if member.any()]


def _compare(name: str, member: Bool[np.ndarray, " n"], network, counted) -> dict[str, Any]:
    return {
        "targets": name,
        "share": float(member.mean()),
        "network": perplexity(network[member]),
        "count_model": perplexity(counted[member]),
    }


def _counted(family: str, order: int, model: CountModel, material: TextMaterial, train: Windows | None = None):
    probabilities = {}
    for part in PARTS:
        windows = material.windows(part, order - 1)
        probabilities[part] = model.token_probabilities(windows.contexts, windows.targets)
    fitted = None
    if train is not None:
        fitted = perplexity(model.token_probabilities(train.contexts[:, 1 - order :], train.targets))
    return Counted(family, order, fitted, probabilities)
