"""The baselines of a dataset: count models at several context lengths, floors, and the uniform guess."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from mlp_lm.config import check_name
from mlp_lm.data.dataset import Dataset
from mlp_lm.ngram.counts import Located, NgramCounts, continuation_counts, count_ngrams
from mlp_lm.ngram.models import (
    CountModel,
    absolute_discount,
    add_k,
    choose_discount,
    conditional_entropy,
    cross_entropy,
    deleted_interpolation,
    maximum_likelihood,
    modified_kneser_ney,
)

# Tokens of context: in names no longer one helps; in running text the paper's n of 3 to 5.
LIST_LENGTHS, TEXT_LENGTHS = (1, 2, 3, 4, 5, 6, 7), (2, 3, 4)


@dataclass(frozen=True)
class Baseline:
    """One count model. Losses and ``floor`` (the training windows' conditional entropy) in nats per token."""

    context_length: int
    family: str
    dev_loss: float
    discount: float | None  # the one number chosen on dev, where the family has one
    distinct_contexts: int
    floor: float

    @property
    def name(self) -> str:
        """Such as `modified Kneser-Ney, 5 context tokens`."""
        return count_model_name(self.family, self.context_length)


@dataclass(frozen=True)
class Baselines:
    """The tokens of a dataset, and its count models."""

    data_hash: str
    tokens: tuple[str, ...]
    rows: tuple[Baseline, ...]

    @property
    def best(self) -> Baseline:
        """The count model of the lowest dev loss."""
        return min(self.rows, key=lambda row: row.dev_loss)

    @property
    def lengths(self) -> list[int]:
        """The numbers of context tokens."""
        return sorted({row.context_length for row in self.rows})

    @property
    def families(self) -> dict[str, list[Baseline]]:
        """Each family's models, by their number of context tokens."""
        rows = sorted(self.rows, key=lambda row: row.context_length)
        return {
            name: [row for row in rows if row.family == name] for name in dict.fromkeys(r.family for r in self.rows)
        }

    @property
    def floors(self) -> dict[int, float]:
        """By number of context tokens, the train loss below which no model comes."""
        return {row.context_length: row.floor for row in sorted(self.rows, key=lambda row: row.context_length)}

    @property
    def uniform(self) -> float:
        """The loss of a uniform guess."""
        return math.log(len(self.tokens))


def count_model_name(family: str, context_length: int) -> str:
    """Such as `modified Kneser-Ney, 5 context tokens`, which is a 6-gram model."""
    return f"{family}, {context_length} context token{'' if context_length == 1 else 's'}"


@functools.lru_cache(maxsize=4)
def measure_baselines(dataset: Dataset) -> Baselines:
    """Fit every family of count models to the training part and measure it on dev.

    Discounts and the weights of deleted interpolation are chosen on dev as well, as a neural model's hyper-parameters
    are.
    """
    lengths = TEXT_LENGTHS if dataset.is_running_text else LIST_LENGTHS
    train, dev = (dataset.windows(part, max(lengths)) for part in ("train", "dev"))
    counts = count_ngrams(train.contexts, train.targets, max(lengths), len(dataset.vocabulary))
    held_out = counts.locate(dev.contexts, dev.targets)
    rows = [row for length in lengths for row in _rows(counts.shortened(length), held_out[: length + 1])]
    return Baselines(dataset.sha256, dataset.vocabulary.tokens, tuple(rows))


def fitted_families(counts: NgramCounts, dev: Located) -> Iterator[tuple[str, CountModel, float | None]]:
    """Each family's name, its model fitted to ``counts``, and the discount chosen on dev, looked up in them."""
    yield "maximum likelihood", maximum_likelihood(counts), None
    yield "add one", add_k(counts, 1.0), None
    for name, fit in FAMILIES.items():
        yield name, *fit(counts, dev)


def _deleted_interpolation(counts: NgramCounts, dev: Located) -> tuple[CountModel, None]:
    return deleted_interpolation(counts, dev), None


def _absolute_discount(counts: NgramCounts, dev: Located) -> tuple[CountModel, float]:
    discount = choose_discount(counts, dev)
    return absolute_discount(counts, discount), discount


def _kneser_ney(counts: NgramCounts, dev: Located) -> tuple[CountModel, float]:
    return _absolute_discount(continuation_counts(counts), dev)


def _modified_kneser_ney(counts: NgramCounts, dev: Located) -> tuple[CountModel, None]:
    return modified_kneser_ney(counts), None


# Fitted to counts of the training part; what they choose, they choose on dev.
FAMILIES = {
    "deleted interpolation": _deleted_interpolation,
    "absolute discount": _absolute_discount,
    "Kneser-Ney": _kneser_ney,
    "modified Kneser-Ney": _modified_kneser_ney,
}


def fit_count_model(dataset: Dataset, family: str, context_length: int) -> CountModel:
    """One of FAMILIES, fitted to the training part.

    Raises:
        ValueError: no such family.
    """
    check_name("family", family, FAMILIES)
    train, dev = (dataset.windows(part, context_length) for part in ("train", "dev"))
    counts = count_ngrams(train.contexts, train.targets, context_length, len(dataset.vocabulary))
    return FAMILIES[family](counts, counts.locate(dev.contexts, dev.targets))[0]


def _rows(counts: NgramCounts, dev: Located) -> Iterator[Baseline]:
    floor = conditional_entropy(counts)
    for family, model, discount in fitted_families(counts, dev):
        loss = cross_entropy(model.located_probabilities(dev))
        yield Baseline(counts.context_length, family, loss, discount, counts.distinct_contexts, floor)
