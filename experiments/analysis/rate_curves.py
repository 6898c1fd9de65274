"""Loss curves of a rising learning rate: the rate that the rule chooses, the tables, and the figure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from experiments.analysis.studies import describe, estimate
from experiments.analysis.style import ORANGE, STYLE, save_figure, scheme_colour, set_title
from experiments.store.atomic import replace_file
from experiments.sweeps.text import csv_text
from mlp_lm.config import DEFAULTS

SMOOTHING = 0.02  # Standard deviation of the Gaussian that smooths a curve, as a share of the steps.
RULE = "the rate at the minimum of the loss averaged over seeds and smoothed by a Gaussian (2 % of the steps wide)"
MAX_PANELS, MAX_COLUMNS = 24, 4


@dataclass(frozen=True)
class LossCurve:
    """One configuration's losses `[seed, step]` in nats per token while the rate rises, and what the rule chooses."""

    settings: dict[str, Any]
    rates: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, "seed steps"]

    @property
    def label(self) -> str:
        """The configuration in words: its scheme, and what is not at its default."""
        changed = [axis for axis, value in self.settings.items() if axis != "init" and value != DEFAULTS[axis]]
        return describe(self.settings, ["init", *changed])

    @cached_property
    def smoothed(self) -> Float[np.ndarray, " steps"]:
        """The smoothed mean loss; infinite from the first step on at which a seed's loss is no number."""
        return smooth(self.losses.mean(axis=0))

    @property
    def chosen(self) -> float:
        """The rate that the rule chooses."""
        return float(self.rates[np.argmin(self.smoothed)])

    @property
    def chosen_by_seed(self) -> list[float]:
        """What the rule would choose for each seed alone."""
        return [float(self.rates[np.argmin(smooth(losses))]) for losses in self.losses]

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the lowest or the highest one, so that a better one may lie beyond."""
        return self.chosen in (self.rates[0], self.rates[-1])

    def __str__(self) -> str:
        by_seed, edge = self.chosen_by_seed, ""
        if self.at_edge:
            flag = "--low-exponent" if self.chosen == self.rates[0] else "--high-exponent"
            edge = f" (at the edge of the range: widen it with {flag})"
        spread = f", single seeds {min(by_seed):.3g} to {max(by_seed):.3g}" if len(by_seed) > 1 else ", one seed"
        return (
            f"{self.label}: learning rate {self.chosen:.3g} (10^{math.log10(self.chosen):.2f}){spread}; "
            f"loss there {self.smoothed.min():.4f}{edge}"
        )


def rising_rates(n_steps: int, low_exponent: float, high_exponent: float) -> Float[np.ndarray, " steps"]:
    """Rates whose exponents of ten are evenly spaced, both ends included."""
    return 10.0 ** np.linspace(low_exponent, high_exponent, n_steps)


def smooth(losses: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Losses under a Gaussian, up to the first one that is no number; from there on infinite."""
    broken = np.flatnonzero(~np.isfinite(losses))
    end = broken[0] if len(broken) else len(losses)
    curve = np.full(len(losses), np.inf)
    curve[:end] = gaussian_filter1d(np.asarray(losses[:end], float), SMOOTHING * len(losses), mode="nearest")
    return curve


def write_curves(folder: Path, curves: Sequence[LossCurve]) -> None:
    """Write every curve (`learning_rate.csv`), every choice (`chosen.csv`), and a figure of both."""
    steps = [row for curve in curves for row in _step_rows(curve)]
    replace_file(folder / "learning_rate.csv", csv_text(steps).encode())
    replace_file(folder / "chosen.csv", csv_text([_chosen_row(curve) for curve in curves]).encode())
    with plt.rc_context(STYLE):
        save_figure(plot_curves(curves), folder / "learning_rate.png")


def plot_curves(curves: Sequence[LossCurve]) -> Figure:
    """A panel a configuration: loss against the rate, its band over seeds, and the chosen rate."""
    shown = curves[:MAX_PANELS]
    n_rows = math.ceil(len(shown) / MAX_COLUMNS)
    n_columns = math.ceil(len(shown) / n_rows)
    size = max(5.0, 2.9 * n_columns), 2.5 * n_rows + 0.6
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, sharex=True)
    for ax, curve in zip(axes.flat, shown, strict=False):
        _plot_curve(ax, curve)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("loss (nats per token)")
    more = f", the first {MAX_PANELS} of {len(curves)}" if len(curves) > MAX_PANELS else ""
    n_seeds = len(curves[0].losses)
    set_title(
        figure, f"Loss while the learning rate rises{more}", f"{n_seeds} seeds (thin), mean and 95 % band over seeds"
    )
    return figure


def _plot_curve(ax: Axes, curve: LossCurve) -> None:
    colour = scheme_colour(curve.settings["init"])
    by_seed = np.array([smooth(losses) for losses in curve.losses])
    sound = np.isfinite(by_seed).all(axis=0)
    exponents, mean = np.log10(curve.rates[sound]), curve.smoothed[sound]
    ax.plot(exponents, by_seed[:, sound].T, color=colour, alpha=0.25, linewidth=0.5)
    if len(by_seed) > 1:
        band = [estimate(values) for values in by_seed[:, sound].T]
        ax.fill_between(exponents, [e.low for e in band], [e.high for e in band], color=colour, alpha=0.2, linewidth=0)
    ax.plot(exponents, mean, color=colour, linewidth=1.4)
    ax.axvline(math.log10(curve.chosen), color=ORANGE, linestyle="--", linewidth=1)
    top = mean[0] + 0.15 * (mean[0] - mean.min())
    if top > mean.min():  # Where the first rate is the best one, matplotlib's own limits do.
        ax.set_ylim(mean.min() - 0.1 * (top - mean.min()), top)
    ax.set_xlabel("log10 of the learning rate")
    ax.xaxis.set_tick_params(labelbottom=True)
    ax.set_title(f"{curve.label}\nchosen {curve.chosen:.3g}{', at the edge' * curve.at_edge}", fontsize=8)


def _step_rows(curve: LossCurve) -> Iterator[dict[str, Any]]:
    for step, (rate, losses) in enumerate(zip(curve.rates, curve.losses.T, strict=True)):
        yield {
            "configuration": curve.label,
            "step": step,
            "exponent": math.log10(rate),
            "learning_rate": rate,
            **estimate(losses).columns("loss"),
            "loss_smoothed": curve.smoothed[step],
        }


def _chosen_row(curve: LossCurve) -> dict[str, Any]:
    return {
        **curve.settings,
        "n_seeds": len(curve.losses),
        "learning_rate": curve.chosen,
        "lowest_of_a_seed": min(curve.chosen_by_seed),
        "highest_of_a_seed": max(curve.chosen_by_seed),
        "loss_smoothed": curve.smoothed.min(),
        "at_edge": curve.at_edge,
    }
