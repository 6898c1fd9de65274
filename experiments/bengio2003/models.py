"""The models of Table 1 of Bengio et al. 2003, what the paper reports of them, and two ways to train them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.sweeps.grids import Grid
from mlp_lm.config import BFLOAT16, FLOAT32, RunConfig

MODERN, PAPER = "modern", "paper"
RECIPES = (MODERN, PAPER)
MIXED_WEIGHT = 0.5  # Of the trigram in the paper's mixtures.
LARGE_TEXT = 200_000  # Training tokens from which on minibatches are as large as given below.
MODERN_BATCH, SMALL_BATCH = 512, 64
MODERN_RATE = 1.6e-2  # At MODERN_BATCH; it goes with the square root of the batch.
PAPER_BATCH = 128
PAPER_RATE = 1e-3  # An example.
EPOCHS = {MODERN: 3, PAPER: 10}
SMALL_EPOCHS = 6  # Of the modern recipe on a small text.


@dataclass(frozen=True)
class TableModel:
    """A row of Table 1: sizes by the paper's letters, and its published perplexities.

    `order` is n (n - 1 words of context), `hidden` h, `dim` m; h = 0 leaves direct connections only. The even rows of
    the table are the odd ones mixed with the interpolated trigram at weight one half: `mixed` names them. `dropout` is
    of the modern recipe, and not in the paper.
    """

    name: str
    order: int
    hidden: int
    dim: int
    direct: bool
    mixed: str
    train: float | None = None
    valid: float | None = None
    test: float | None = None
    mixed_valid: float | None = None
    mixed_test: float | None = None
    dropout: float = 0.1  # Of hidden units.


TABLE = (
    TableModel("MLP1", 5, 50, 60, True, "MLP2", 182, 284, 268, None, 257),
    TableModel("MLP3", 5, 0, 60, True, "MLP4", 201, 327, 310, None, 272),
    TableModel("MLP5", 5, 50, 30, True, "MLP6", 209, 296, 279, None, 259),
    TableModel("MLP7", 3, 50, 30, True, "MLP8", 210, 309, 293, None, 270),
    TableModel("MLP9", 5, 100, 30, False, "MLP10", 175, 280, 276, 265, 252),
)
LARGER = (TableModel("larger", 5, 300, 100, False, "larger, mixed", dropout=0.3),)
MODELS = {model.name: model for model in (*TABLE, *LARGER)}

# What the paper reports of count models, by family and order: training, validation and test perplexity.
PUBLISHED_COUNTS: dict[tuple[str, int], tuple[float | None, float, float]] = {
    ("deleted interpolation", 3): (31, 352, 336),
    ("Kneser-Ney", 3): (None, 334, 323),
    ("Kneser-Ney", 4): (None, 332, 321),
    ("Kneser-Ney", 5): (None, 332, 321),
}


def make_grid(model: TableModel, recipe: str, n_windows: int, n_seeds: int, epochs: float | None = None) -> Grid:
    """The runs of one model under one recipe on a text of this many training windows."""
    n_epochs = epochs or (SMALL_EPOCHS if recipe == MODERN and n_windows < LARGE_TEXT else EPOCHS[recipe])
    settings: dict[str, Any] = {
        "block_size": model.order - 1,
        "hidden_size": model.hidden,
        "embedding_dim": model.dim,
        "direct": model.direct,
    }
    if recipe == MODERN:
        settings["dropout"] = model.dropout
    return Grid(recipe, (_modern if recipe == MODERN else _paper)(n_windows, n_epochs), n_seeds, **settings)


def model_of(settings: Mapping[str, Any]) -> TableModel | None:
    """The model that a run's row or settings are of; None for a run of another study."""
    sizes = (settings["block_size"] + 1, settings["hidden_size"], settings["embedding_dim"], settings["direct"])
    return next((m for m in MODELS.values() if (m.order, m.hidden, m.dim, m.direct) == sizes), None)


def _modern(n_windows: int, epochs: float) -> RunConfig:
    """Minibatches, AdamW with a cosine, dropout, and products in bfloat16.

    Hidden weights begin at a standard deviation of about 5/3 / sqrt(fan_in), as makemore lecture 3 has them. Adam's
    epsilon is large beside the gradients of words that training hardly has: with 1e-8 each step would take as much
    from their probability as from that of any other word.
    """
    batch = MODERN_BATCH if n_windows >= LARGE_TEXT else SMALL_BATCH
    return RunConfig(
        init="bengio2003",
        gain=3.0,
        batch_size=batch,
        shuffle=True,
        direct=True,  # Set by the model; without hidden units there must be something.
        optimizer="adam",
        adam_epsilon=5e-5,
        learning_rate=MODERN_RATE * math.sqrt(batch / MODERN_BATCH),
        schedule="cosine",
        weight_decay=0.1,
        input_dropout=0.05,
        precision=BFLOAT16,
        n_steps=_steps(n_windows, batch, epochs),
        n_evaluations=2,
    )


def _paper(n_windows: int, epochs: float) -> RunConfig:
    """Stochastic gradient descent at rate 1e-3 / (1 + 1e-8 t), decay 1e-4, early stopping (section 4.2).

    Every epoch passes through the text in another order. One example a step where the text is small. On a large one the
    sum of 128 examples' gradients makes a step, which to first order is 128 steps of one example: the rate is 128 times
    as large, as the gradient is a mean.
    """
    batch = PAPER_BATCH if n_windows >= LARGE_TEXT else 1
    return RunConfig(
        init="bengio2003",
        batch_size=batch,
        shuffle=True,
        direct=True,
        learning_rate=PAPER_RATE * batch,
        schedule="inverse_time",
        weight_decay=1e-4,
        early_stopping=True,
        precision=BFLOAT16 if batch > 1 else FLOAT32,
        n_steps=_steps(n_windows, batch, epochs),
        n_evaluations=10,
    )


def _steps(n_windows: int, batch: int, epochs: float) -> int:
    return max(100, round(epochs * n_windows / batch))
