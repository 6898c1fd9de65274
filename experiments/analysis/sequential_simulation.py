"""Simulations of seeds one look at a time: how often it errs, and how many runs it asks for.

`write_simulation(folder)` writes both as tables and a figure, in minutes on one core.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import special, stats

from experiments.analysis.sequential import BEHIND, Outcome, compare_pairs, decide, step_down
from experiments.analysis.style import LINE_COLOURS, STYLE, save_figure
from experiments.store.atomic import replace_file
from experiments.sweeps.text import csv_text

MAX_SEEDS = 32
N_CONFIGURATIONS = (2, 6, 22)
WIDTHS = (0.002, 0.003, 0.005, 0.01, 0.015, 0.05)  # Nats per token.
FIXED_SEEDS = 8  # For every configuration: what runs are counted against.
AIM = 0.5  # Of their runs.
ALLOWED = 0.05
NARROW = 1e-6  # A width that is never reached: every look is taken, which gives most occasions to err.

# Dev losses of five of the lecture's and other schemes, and one with batch norm, at 20,000 steps: means and standard
# deviations over the seeds of results/initialisation-rates, rate 0.1.
MEANS = np.array([2.1717, 2.1755, 2.201, 2.2118, 2.2364, 2.2851])
SPREADS = np.array([0.0017, 0.0021, 0.004, 0.0066, 0.0027, 0.0054])

Table = Float[np.ndarray, "cell seed"]
Scenario = tuple[Float[np.ndarray, " cell"], Callable[[np.random.Generator], Table]]  # True means; draws of losses.


def scenarios(m: int) -> dict[str, Scenario]:
    """Ways in which m configurations may differ: most of them with no differences at all, where errors are easiest."""
    equal, half = np.zeros(m), np.where(np.arange(m) < m // 2, 0.0, 2.0)
    uneven = np.exp(0.7 * np.random.default_rng(1).standard_normal(m))
    noisy = np.where(np.arange(m) == 0, 8.0, 1.0)
    # Some equal and noisy, among others that are distinguished from one another at every look, and never from those.
    is_loud = np.arange(m) < max(2, m // 4)
    ladder, volume = np.where(is_loud, 0.0, 0.015 * np.arange(m)), np.where(is_loud, 1.0, 0.001)

    def normal(rng: np.random.Generator) -> Table:
        return rng.standard_normal((m, MAX_SEEDS))

    return {
        "all equal": (equal, normal),
        "uneven noise": (equal, lambda rng: uneven[:, None] * normal(rng)),
        "one noisy": (equal, lambda rng: noisy[:, None] * normal(rng)),
        "common to a seed": (equal, lambda rng: normal(rng) + 5 * rng.standard_normal(MAX_SEEDS)),
        "heavy tails": (equal, lambda rng: rng.standard_t(5, (m, MAX_SEEDS))),
        "half of them worse": (half, lambda rng: half[:, None] + normal(rng)),
        "quiet among noisy": (ladder, lambda rng: ladder[:, None] + volume[:, None] * normal(rng)),
    }


def simulate(losses: Table, width: float) -> Outcome:
    """What a sweep with these losses would have decided."""
    return decide([dict(enumerate(row)) for row in losses.tolist()], width, losses.shape[1])


def count_errors(scenario: Scenario, n_repeats: int, rng: np.random.Generator) -> int:
    """How many of some sweeps say of any configuration that it is behind one that is no better."""
    means, draw = scenario
    n_wrong = 0
    for _ in range(n_repeats):
        verdicts = simulate(draw(rng), NARROW).verdicts.items()
        n_wrong += any(v.reason == BEHIND and means[place] <= means[v.best] for place, v in verdicts)
    return n_wrong


def mean_runs(
    means: Float[np.ndarray, " cell"],
    spreads: Float[np.ndarray, " cell"],
    width: float,
    n_repeats: int,
    rng: np.random.Generator,
) -> float:
    """The mean number of runs that a sweep asks for until its differences are known within ± the width."""
    shape = (len(means), MAX_SEEDS)
    draws = (means[:, None] + spreads[:, None] * rng.standard_normal(shape) for _ in range(n_repeats))
    return float(np.mean([sum(simulate(losses, width).n_wanted.values()) for losses in draws]))


def width_of_all(
    means: Float[np.ndarray, " cell"],
    spreads: Float[np.ndarray, " cell"],
    n_seeds: int,
    n_repeats: int,
    rng: np.random.Generator,
) -> float | None:
    """Within what so many seeds for all, with one look at their end, know the differences of those that they leave.

    By the same tests and intervals as in looks; the mean over sweeps that leave several, None where none does.
    """
    widths, n_pairs = [], math.comb(len(means), 2)
    for _ in range(n_repeats):
        table = means[:, None] + spreads[:, None] * rng.standard_normal((len(means), n_seeds))
        differences, errors, freedom = compare_pairs(table)
        stay = ~step_down(differences, errors, freedom, ALLOWED, n_pairs)[table.mean(axis=1).argmin()]
        if stay.sum() > 1:
            widths.append(errors[np.ix_(stay, stay)].max() * -special.stdtrit(freedom, ALLOWED / n_pairs / 2))
    return float(np.mean(widths)) if widths else None


def error_rows(n_repeats: int) -> Iterator[dict[str, Any]]:
    """One row a number of configurations and scenario: the share of sweeps that err, with its exact 95 % interval."""
    for m in N_CONFIGURATIONS:
        for name, scenario in scenarios(m).items():
            n_wrong = count_errors(scenario, n_repeats, np.random.default_rng(0))
            interval = stats.binomtest(n_wrong, n_repeats).proportion_ci()  # Clopper and Pearson 1934.
            yield {
                "configurations": m,
                "scenario": name,
                "sweeps": n_repeats,
                "error_rate": n_wrong / n_repeats,
                "error_rate_low": interval.low,
                "error_rate_high": interval.high,
            }


def run_rows(measured: Mapping[str, tuple[Any, Any]], n_repeats: int) -> Iterator[dict[str, Any]]:
    """One row for each of some sets of means and standard deviations, and each width: how many runs are asked for."""
    for (name, (means, spreads)), width in itertools.product(measured.items(), WIDTHS):
        n_runs = mean_runs(np.asarray(means), np.asarray(spreads), width, n_repeats, np.random.default_rng(0))
        for_all = {f"of_{n}_seeds_for_all": n_runs / (n * len(means)) for n in (FIXED_SEEDS, MAX_SEEDS)}
        known = width_of_all(np.asarray(means), np.asarray(spreads), FIXED_SEEDS, n_repeats, np.random.default_rng(0))
        yield {
            "schemes": name,
            "configurations": len(means),
            "width": width,
            "runs": n_runs,
            **for_all,
            f"width_of_{FIXED_SEEDS}_seeds_for_all": known,
        }


def plot_simulation(errors: list[dict[str, Any]], runs: list[dict[str, Any]]) -> Figure:
    """Left: the error rate of each scenario, by number of configurations. Right: runs asked for, by width."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    names = list(dict.fromkeys(row["scenario"] for row in errors))
    for shift, m, colour in zip((-0.2, 0.0, 0.2), N_CONFIGURATIONS, LINE_COLOURS, strict=False):
        rows = [row for row in errors if row["configurations"] == m]
        rates = np.array([[row["error_rate"], row["error_rate_low"], row["error_rate_high"]] for row in rows]).T
        bars = np.abs(rates[1:] - rates[0])
        places = [names.index(row["scenario"]) + shift for row in rows]
        left.errorbar(100 * rates[0], places, xerr=100 * bars, fmt="o", color=colour, capsize=2, label=f"{m}", ms=4)
    left.axvline(100 * ALLOWED, color="black", linewidth=0.8, linestyle=":")
    left.set_yticks(range(len(names)), names)
    left.set(xlabel="sweeps with any false statement (%), 95 % intervals", xlim=(0, None))
    left.legend(title="configurations", fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for name, colour in zip(dict.fromkeys(row["schemes"] for row in runs), LINE_COLOURS, strict=False):
        rows = [row for row in runs if row["schemes"] == name]
        shares = [100 * row[f"of_{FIXED_SEEDS}_seeds_for_all"] for row in rows]
        right.plot([row["width"] for row in rows], shares, marker="o", color=colour, label=name)
    for share in (AIM, 1):
        right.axhline(100 * share, color="black", linewidth=0.8, linestyle=":")
    right.set(
        xscale="log",
        xlabel="width asked for (nats per token)",
        ylabel=f"runs, in % of {FIXED_SEEDS} seeds for all",
        ylim=(0, None),
    )
    right.set_xticks(WIDTHS, [f"±{width:g}" for width in WIDTHS], fontsize=7)
    right.minorticks_off()
    right.legend(fontsize=8)
    figure.suptitle(f"Simulated sweeps of at most {MAX_SEEDS} seeds: errors, and runs asked for", fontsize=10)
    return figure


def write_simulation(folder: Path, measured: Mapping[str, tuple[Any, Any]], n_repeats: int = 1000) -> None:
    """Write `tables/error_rate.csv`, `tables/runs.csv` and `figures/simulation.png`.

    `measured` has means and standard deviations of dev losses, by a name for the schemes that they are of.
    """
    errors, runs = list(error_rows(n_repeats)), list(run_rows(measured, max(n_repeats // 10, 1)))
    replace_file(folder / "tables" / "error_rate.csv", csv_text(errors).encode())
    replace_file(folder / "tables" / "runs.csv", csv_text(runs).encode())
    with plt.rc_context(STYLE):
        save_figure(plot_simulation(errors, runs), folder / "figures" / "simulation.png")
