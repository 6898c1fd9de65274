"""What is recorded of a run while it trains: names and containers, without JAX."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsFloat, SupportsInt


class SplitLosses(NamedTuple):
    """Exact losses of the splits that a run is evaluated on, in nats per token."""

    train: Any
    dev: Any
    dev_unseen: Any


class LayerStatistics(NamedTuple):
    """One number a hidden layer `[layer]`, over all training windows and units.

    Saturation is zero for an activation without a bound.
    """

    saturated_share: Any  # Of |activation| above the activation's bound.
    dead_units: Any  # Units saturated on every training context.
    preactivation_mean: Any
    preactivation_std: Any
    activation_mean: Any
    activation_std: Any


class MatrixStatistics(NamedTuple):
    """One number a matrix `[matrix]`: embedding, hidden weights from the input on, output, direct if any."""

    weight_std: Any
    gradient_std: Any
    gradient_to_weight: Any
    log10_update_to_weight: Any  # For plain SGD: of learning rate * gradient std / weight std.


DIAGNOSTICS = LayerStatistics._fields + MatrixStatistics._fields


@dataclass
class History:
    """A run's exact losses at its evaluation steps, in nats per token, and what else was recorded there."""

    step: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    dev_loss: list[float] = field(default_factory=list)
    minibatch_loss: list[float] = field(default_factory=list)  # Mean over the steps since the last evaluation.
    dev_unseen_loss: list[float] = field(default_factory=list)
    diverged_step: int = -1
    wall_seconds: float = 0.0
    diagnostics: dict[str, list[list[float]]] = field(default_factory=dict)
    embedding: list[list[float]] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The evaluation of the lowest dev loss."""
        return min(range(len(self.dev_loss)), key=lambda i: math.inf if math.isnan(x := self.dev_loss[i]) else x)

    @property
    def diverged(self) -> bool:
        """Whether a loss became infinite or absurd."""
        return self.diverged_step >= 0 or not math.isfinite(self.train_loss[-1])

    def losses(self, early_stopping: bool = False) -> SplitLosses:
        """The losses of the weights that a run ends with: the last ones, or those of the best evaluation."""
        i = self.best if early_stopping else -1
        return SplitLosses(self.train_loss[i], self.dev_loss[i], self.dev_unseen_loss[i])

    def add(
        self, step: int, losses: Iterable[SupportsFloat], minibatch_loss: SupportsFloat, diverged_step: SupportsInt
    ) -> None:
        """Add an evaluation; `losses` are in the order of SplitLosses."""
        exact = SplitLosses(*map(float, losses))
        self.step.append(step)
        self.train_loss.append(exact.train)
        self.dev_loss.append(exact.dev)
        self.dev_unseen_loss.append(exact.dev_unseen)
        self.minibatch_loss.append(float(minibatch_loss))
        self.diverged_step = int(diverged_step)

    def add_diagnostics(self, statistics: Mapping[str, Iterable[SupportsFloat]]) -> None:
        """Add the evaluation's diagnostics, each one number a layer or a matrix."""
        for name in DIAGNOSTICS:
            self.diagnostics.setdefault(name, []).append([float(value) for value in statistics[name]])
