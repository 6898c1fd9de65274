"""The table of count models that a neural model is held against: every family at every context length."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mlp_lm.deleted_interpolation import deleted_interpolation
from mlp_lm.ngram import (
    CountModel,
    absolute_discount,
    add_k,
    choose_discount,
    conditional_entropy,
    held_out_loss,
    maximum_likelihood,
    modified_kneser_ney,
)
from mlp_lm.ngram_counts import NgramCounts, continuation_counts, count_ngrams

Examples = tuple[Int[np.ndarray, "_ block"], Int[np.ndarray, " _"]]  # contexts and targets


@dataclass(frozen=True)
class YardstickRow:
    """One count model. Losses and ``floor`` (the training windows' conditional entropy) in nats per token."""

    context_length: int
    family: str
    dev_loss: float
    discount: float | None  # the one number chosen on dev, where the family has one
    distinct_contexts: int
    floor: float


def yardstick(train: Examples, dev: Examples, vocab_size: int, max_context_length: int) -> list[YardstickRow]:
    """Fit every family to ``train`` at 1 to ``max_context_length`` context tokens and measure it on ``dev``.

    Discounts and the weights of deleted interpolation are chosen on ``dev`` as well, as a neural model's
    hyperparameters are.
    """
    counts = count_ngrams(*train, max_context_length, vocab_size)
    lengths = range(1, max_context_length + 1)
    return [row for length in lengths for row in _rows(counts.shortened(length), train, dev)]


def fitted_families(counts: NgramCounts, dev: Examples) -> Iterator[tuple[str, CountModel, float | None]]:
    """Each family's name, its model fitted to ``counts``, and the discount chosen on ``dev``."""
    yield "maximum likelihood", maximum_likelihood(counts), None
    yield "add one", add_k(counts, 1.0), None
    yield "deleted interpolation", deleted_interpolation(counts, *dev), None
    discount = choose_discount(counts, *dev)
    yield "absolute discount", absolute_discount(counts, discount), discount
    continued = continuation_counts(counts)
    discount = choose_discount(continued, *dev)
    yield "Kneser-Ney", absolute_discount(continued, discount), discount
    yield "modified Kneser-Ney", modified_kneser_ney(counts), None


def _rows(counts: NgramCounts, train: Examples, dev: Examples) -> Iterator[YardstickRow]:
    floor = conditional_entropy(*train, counts.context_length)
    for family, model, discount in fitted_families(counts, dev):
        yield YardstickRow(
            context_length=counts.context_length,
            family=family,
            dev_loss=held_out_loss(model, *dev),
            discount=discount,
            distinct_contexts=counts.distinct_contexts,
            floor=floor,
        )
