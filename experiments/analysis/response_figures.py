"""Figures of studies whose axes have ranges: a curve an axis, and a contour of the two that matter most."""

import math
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.analysis.effects import value_name
from experiments.analysis.response import Response
from experiments.analysis.studies import describe
from experiments.analysis.style import COLOURS, set_title

PANELS_A_ROW = 4
CONTOUR_POINTS = 41
N_CONTOURS = 12


def draw_marginals(response: Response) -> Figure:
    """The dev loss along each axis, averaged over all others: a curve with its band, over the points themselves."""
    n_columns = min(len(response.axes), PANELS_A_ROW)
    n_rows = math.ceil(len(response.axes) / n_columns)
    size = (max(6.0, 2.8 * n_columns + 0.6), 3 * n_rows + 0.5)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    losses = response.surface.losses
    for ax, axis in zip(axes.flat, response.axes, strict=False):
        values, bands = response.marginal(axis)
        is_range = axis in response.study.ranges
        places = values if is_range else list(range(len(values)))
        own = [cell.settings[axis] for cell in response.cells]
        own = own if is_range else [values.index(value) for value in own]
        ax.scatter(own, losses, s=9, color=COLOURS[5], alpha=0.7, linewidth=0, label="configurations")
        mean, low, high = zip(*((band.mean, band.low, band.high) for band in bands), strict=True)
        if is_range:
            ax.plot(places, mean, color=COLOURS[0], linewidth=1.4, label="mean over all other axes")
            ax.fill_between(places, low, high, color=COLOURS[0], alpha=0.25, linewidth=0, label="95 % band")
            if response.study.ranges[axis].log:
                _log_scale(ax, "x")
        else:
            half = [(h - lower) / 2 for h, lower in zip(high, low, strict=True)]
            ax.errorbar(places, mean, yerr=half, fmt="o", color=COLOURS[0], capsize=3, markersize=4)
            ax.set_xticks(places, [value_name(value) for value in values])
            ax.margins(x=0.2)
        ax.set_xlabel(axis.replace("_", " "))
    for ax in list(axes.flat)[len(response.axes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("dev loss (nats per token)")
    first = response.axes.index(next(iter(response.study.ranges)))
    figure.legend(*axes.flat[first].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    n_points = len(response.cells)
    set_title(
        figure,
        f"{response.study.name}: dev loss along each axis, from {n_points} points",
        "mean over all other axes and 95 % band of a Gaussian process",
    )
    return figure


def draw_contour(response: Response) -> Figure | None:
    """The dev loss over the two ranges that matter most, averaged over all other axes; None of a single range."""
    pair = response.most_important()
    if len(pair) < 2:
        return None
    best, listed = response.study.best.settings, [axis for axis in response.axes if axis not in response.study.ranges]
    places = response.grid(pair, CONTOUR_POINTS)
    for axis in listed:  # A mean over schemes, say, tells of none of them.
        values = [response.value(axis, place) for place in response.coordinates(axis, 0)]
        places[:, response.axes.index(axis)] = values.index(best[axis])
    is_shown = [all(cell.settings[axis] == best[axis] for axis in listed) for cell in response.cells]
    mean, _ = response.posterior(places)
    along, up = ([response.value(axis, share) for share in response.coordinates(axis, CONTOUR_POINTS)] for axis in pair)
    heights = mean.reshape(CONTOUR_POINTS, CONTOUR_POINTS).T
    figure, ax = plt.subplots(figsize=(6.4, 5))
    drawn = ax.contourf(along, up, heights, levels=N_CONTOURS, cmap="cividis_r")
    ax.contour(along, up, heights, levels=drawn.levels, colors="white", linewidths=0.4, alpha=0.6)
    x, y = (
        [cell.settings[axis] for cell, shown in zip(response.cells, is_shown, strict=True) if shown] for axis in pair
    )
    shades: dict[str, Any] = {"vmin": min(drawn.levels), "vmax": max(drawn.levels), "cmap": "cividis_r"}
    ax.scatter(x, y, s=14, c=response.surface.losses[is_shown], edgecolors="black", linewidth=0.6, **shades)
    star = best[pair[0]], best[pair[1]]
    ax.scatter([star[0]], [star[1]], s=160, marker="*", color=COLOURS[1], edgecolors="black", linewidth=0.6, zorder=3)
    ax.annotate("best", star, xytext=(8, 6), textcoords="offset points", fontweight="bold", zorder=3)
    for axis, name in zip(pair, ("x", "y"), strict=True):
        range_ = response.study.ranges[axis]
        ax.set(**{f"{name}label": axis.replace("_", " "), f"{name}lim": (range_.low, range_.high)})
        if range_.log:
            _log_scale(ax, name)
    ax.grid(False)
    figure.colorbar(drawn, ax=ax, label="dev loss (nats per token)")
    others = [axis for axis in response.study.ranges if axis not in pair]
    held = [f"with {describe(best, listed)}"] if listed else []
    averaged = [f"averaged over {', '.join(others)}"] if others else []
    which = ", ".join([*held, *averaged, "dots are the configurations that were run"])
    set_title(figure, f"{response.study.name}: dev loss by the two ranges that matter most", which)
    return figure


def _log_scale(ax: Axes, name: str) -> None:
    """With plain numbers: the style's labels hold no mathematics."""
    ax.set(**{f"{name}scale": "log"})
    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
