"""Where in a word the loss is: by position, of the best run, the best count model and the best of all ensembles."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.analysis.comparisons import over_words
from experiments.analysis.ensembles import Ensemble
from experiments.analysis.results import SweepResults
from experiments.analysis.style import ASIDE, LINE_COLOURS, STYLE, save_figure, set_title
from experiments.store.atomic import replace_file
from experiments.sweeps.text import csv_text

LAST = 10  # From here on, positions are one group.


def position_rows(results: SweepResults, ensembles: Sequence[Ensemble]) -> list[dict[str, Any]]:
    """One row a model and position in the word, the boundary after its last character included; none of running text.

    `dev_loss` is in nats per token, with its interval over the choice of dev words; `share` is that of the whole loss.
    `ensembles` are those of `measure_ensembles`.
    """
    from mlp_lm.mixtures import stretches

    if results.is_running_text:
        return []
    words, _ = stretches(results.dataset, "dev")
    positions = np.concatenate([np.arange(len(word) + 1) for word in results.dataset.parts["dev"]]).clip(max=LAST - 1)
    rows = []
    for one in _shown(ensembles):
        for position in np.unique(positions).tolist():
            here = positions == position
            rows.append(
                {
                    "model": " with ".join(filter(None, (one.name, one.counted))),
                    "position": position + 1,
                    "tokens": int(here.sum()),
                    **over_words(one.losses[here], words[here]).columns("dev_loss"),
                    "share": float(one.losses[here].sum() / one.losses.sum()),
                }
            )
    return rows


def _shown(ensembles: Sequence[Ensemble]) -> list[Ensemble]:
    """The best run, the best count model, and the best of all, where that is another one."""
    alone = [one for one in ensembles if not one.mixing]
    run = next(one for one in alone if len(one.runs) == 1)
    counted = next(one for one in alone if not one.runs)
    return [run, counted] if ensembles[0] is run or ensembles[0] is counted else [run, counted, ensembles[0]]


def write_positions(results: SweepResults, ensembles: Sequence[Ensemble]) -> None:
    """Write `tables/positions.csv` and `figures/positions.png`, but for running text."""
    rows = position_rows(results, ensembles)
    if rows:
        replace_file(results.folder / "tables" / "positions.csv", csv_text(rows).encode())
        with plt.rc_context(STYLE):
            save_figure(plot_positions(rows), results.folder / "figures" / "positions.png")


def plot_positions(rows: Sequence[dict[str, Any]]) -> Figure:
    """Loss by position, one line a model."""
    figure, ax = plt.subplots(figsize=(8, 4))
    models = list(dict.fromkeys(row["model"] for row in rows))
    for i, (model, colour) in enumerate(zip(models, LINE_COLOURS, strict=False)):
        line = [row for row in rows if row["model"] == model]
        means = np.array([row["dev_loss"] for row in line])
        halves = np.array([row["dev_loss_high"] for row in line]) - means
        places = [row["position"] + ASIDE * (i - (len(models) - 1) / 2) for row in line]
        bars = np.where(np.isfinite(halves), halves, 0.0)
        ax.errorbar(places, means, yerr=bars, color=colour, marker="o", markersize=4, capsize=2, label=model)
    positions = sorted({row["position"] for row in rows})
    ax.set_xticks(positions, [f"{p} on" if p == LAST else str(p) for p in positions])
    ax.set(xlabel="position in the word, the boundary after it included", ylabel="dev loss (nats per token)")
    ax.legend(fontsize=8)
    set_title(figure, "Where in a word the loss is", "mean and 95 % interval over the choice of dev words")
    return figure
