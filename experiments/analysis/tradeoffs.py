"""Loss against what it costs: parameters, and seconds of training; and which configurations nothing beats at both."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from experiments.analysis.studies import Cell, Study, label_cells
from experiments.analysis.style import COLOURS, far_off, label_points, set_title
from experiments.sweeps.text import printable

COSTS = {"n_params": "parameters", "wall_seconds": "seconds of training"}
MAX_LABELS = 6
FEWEST = 3  # Configurations, of which a front says something.


def cost_of(cell: Cell, cost: str) -> float:
    """What a configuration costs: its parameters, or the mean seconds of its runs as they were trained."""
    return float(np.mean([row[cost] for row in cell.finished]))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points (cost, loss) that no other point beats or equals in both and beats in one, by cost."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: points[i]):
        if not front or points[place][1] < points[front[-1]][1]:
            front.append(place)
    return front


def fronts(study: Study) -> dict[str, list[Cell]]:
    """By cost that differs between configurations, those on the front, the cheapest first."""
    cells = [cell for cell in study.cells if cell.finished]
    if len(cells) < FEWEST:
        return {}
    by_cost = {}
    for cost in COSTS:
        points = [(cost_of(cell, cost), cell.estimate("dev_loss").mean) for cell in cells]
        if len({point[0] for point in points}) > 1:
            by_cost[cost] = [cells[place] for place in pareto_front(points)]
    return by_cost


def tradeoff_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a configuration on a front of a study."""
    for study in studies:
        for cost, cells in fronts(study).items():
            for cell in cells:
                settings = {axis: cell.settings[axis] for axis in study.axes}
                columns = {
                    "against": cost,
                    "cost": cost_of(cell, cost),
                    **cell.estimate("dev_loss").columns("dev_loss"),
                }
                yield {"study": study.name, **columns, **settings}


def plot_tradeoffs(study: Study) -> Figure | None:
    """Dev loss against each cost, with the front as a line; None where no cost differs."""
    by_cost = fronts(study)
    if not by_cost:
        return None
    cells = [cell for cell in study.cells if cell.finished]
    losses = [cell.estimate("dev_loss") for cell in cells]
    beyond = far_off([loss.mean for loss in losses])
    near = [i for i, loss in enumerate(losses) if loss.mean <= beyond]
    size = (max(6.0, 4.6 * len(by_cost)), 4.2)
    figure, axes = plt.subplots(1, len(by_cost), figsize=size, sharey=True, squeeze=False)
    labelled: list[tuple[Axes, list[Cell], np.ndarray]] = []
    for ax, (cost, front) in zip(axes.flat, by_cost.items(), strict=True):
        costs = [cost_of(cells[i], cost) for i in near]
        means, halves = [losses[i].mean for i in near], [losses[i].half for i in near]
        ax.errorbar(costs, means, yerr=halves, fmt="o", color=COLOURS[5], markersize=4, linewidth=0.8, label="others")
        shown = [cell for cell in front if cell.estimate("dev_loss").mean <= beyond]
        along = [(cost_of(cell, cost), cell.estimate("dev_loss").mean) for cell in shown]
        x, y = zip(*along, strict=True)
        ax.plot(x, y, "o-", color=COLOURS[1], drawstyle="steps-post", markersize=5, linewidth=1.2, label="Pareto front")
        labelled.append((ax, shown[-MAX_LABELS:], np.array(along[-MAX_LABELS:])))
        if max(costs) > 5 * min(costs) > 0:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_minor_formatter(NullFormatter())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 100 else f"{value:g}")
        ax.margins(x=0.15, y=0.12)
        ax.set_xlabel(COSTS[cost])
    axes[0, 0].set_ylabel("dev loss (nats per token)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    n_far = len(cells) - len(near)
    beside = f"; {n_far} with a loss above {beyond:.2f} left out" if n_far else ""
    labels = label_cells([cell for _, shown, _ in labelled for cell in shown], study.axes)
    named = f"; labels: {labels.heading}" if labels.heading else ""
    set_title(figure, f"{study.name}: dev loss against its cost", f"{study.shown_as}{beside}{named}")
    figure.canvas.draw()
    texts = iter(labels.texts)
    for ax, shown, points in labelled:
        # Lowest loss first, which shall have its label whatever the others cover.
        words = [printable(next(texts)) for _ in shown]
        label_points(ax, points[::-1], words[::-1], inside=True, fontsize=6, in_layout=False)
    return figure
