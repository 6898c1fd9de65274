"""Figures of what single axes and pairs of them do, for studies that are balanced."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.findings.analysis import Estimate, Study
from experiments.findings.effects import axis_values, effects, is_ordered, main_effects, value_name
from experiments.findings.importance import Importance, Share, importance
from experiments.findings.limits import far_off, far_off_side_by_side
from experiments.findings.palette import COLOURS, LINE_COLOURS, SCHEME_COLOURS
from experiments.findings.picture import set_title

PANELS_A_ROW = 4
MAX_PAIRS = 3
LETTERS_A_PANEL = 24  # Of all names below it, side by side.
ASIDE = 0.07  # How far points of neighbouring lines stand apart, so that intervals do not hide one another.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Line = dict[Any, Estimate]


def draw_axes(study: Study) -> Figure:
    """Dev loss by each axis that varies, averaged over all others within a seed, with intervals over seeds."""
    n_columns = min(len(study.axes), PANELS_A_ROW)
    n_rows = math.ceil(len(study.axes) / n_columns)
    size = (max(6.0, 2.6 * n_columns + 1), 3 * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharey=True, squeeze=False)
    told = {axis: main_effects(study, axis) for axis in study.axes}
    beyond = far_off_side_by_side([[effect.mean for effect in line.values()] for line in told.values()])
    for ax, (axis, line) in zip(axes.flat, told.items(), strict=False):
        colours = [SCHEME_COLOURS[str(name)] for name in line] if axis == "init" else [COLOURS[0]] * len(line)
        _draw_line(ax, line, beyond, colours)
        _name_places(ax, axis, line)
    for ax in list(axes.flat)[len(study.axes) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("dev loss (nats per token)")
    set_title(figure, f"{study.name}: dev loss by axis", "mean over all other axes, 95 % interval over seeds")
    return figure


def draw_pairs(study: Study) -> Figure:
    """Dev loss by the pairs of axes that interact most: one line a value of the axis that has fewer."""
    shares = strongest_pairs(study)
    figure, axes = plt.subplots(1, len(shares), figsize=(max(6.0, 4 * len(shares)), 4.4), sharey=True, squeeze=False)
    pairs = [pair_lines(study, share.axes) for share in shares]
    means = [effect.mean for _, _, lines in pairs for line in lines.values() for effect in line.values()]
    for ax, share, (along, between, lines) in zip(axes.flat, shares, pairs, strict=True):
        title = f"{between.replace('_', ' ')} (the interaction: {max(100 * share.value, 0.0):.1f} % of the variance)"
        _draw_pair(ax, title, lines, far_off(means))
        _name_places(ax, along, next(iter(lines.values())))
    axes[0, 0].set_ylabel("dev loss (nats per token)")
    subtitle = "mean over all other axes, 95 % interval over seeds; lines that are not parallel interact"
    n_pairs = math.comb(len(study.axes), 2)
    which = f", the {len(shares)} of {n_pairs} pairs that interact most" if len(shares) < n_pairs else ""
    set_title(figure, f"{study.name}: dev loss by two axes at a time{which}", subtitle)
    return figure


def strongest_pairs(study: Study) -> list[Share]:
    """The pairs of axes that explain most of the variance beyond what each explains alone; some pair in any case."""
    found = importance(study)
    if isinstance(found, Importance):
        return [share for share in found.shares if len(share.axes) == 2][:MAX_PAIRS]
    return [Share(study.axes[:2], 0.0, 0.0, 0.0)]  # All runs have one loss.


def pair_lines(study: Study, pair: Sequence[str]) -> tuple[str, str, dict[Any, Line]]:
    """Which axis goes along, which one tells the lines apart (it has fewer values), and a line for each value of it."""
    between, along = sorted(pair, key=lambda axis: len(axis_values(study, axis)))
    means = effects(study, (between, along))
    values = axis_values(study, along)
    return along, between, {name: {v: means[name, v] for v in values} for name in axis_values(study, between)}


def _draw_pair(ax: Axes, title: str, lines: dict[Any, Line], beyond: float) -> None:
    for i, (name, line) in enumerate(lines.items()):
        colour = SCHEME_COLOURS.get(name, LINE_COLOURS[i % len(LINE_COLOURS)])
        aside = ASIDE * (i - (len(lines) - 1) / 2)
        marker = MARKERS[i % len(MARKERS)]
        _draw_line(ax, line, beyond, [colour] * len(line), aside, marker, top=0.98 - 0.16 * i)
        width = 1 if is_ordered(line) else 0
        ax.plot([], [], color=colour, marker=marker, markersize=4, linewidth=width, label=value_name(name))
    ax.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=min(len(lines), 4), borderaxespad=0)


def _draw_line(
    ax: Axes,
    line: Line,
    beyond: float,
    colours: Sequence[str],
    aside: float = 0.0,
    marker: str = "o",
    top: float = 0.98,
) -> None:
    """Means with intervals; those that are far off, as numbers at the edge, `top` of the way up."""
    places = [i + aside for i in range(len(line))]
    near = [effect.mean if effect.mean <= beyond else math.nan for effect in line.values()]
    if is_ordered(line):  # A line between two schemes would tell of values between them.
        ax.plot(places, near, color=colours[0], linewidth=1)
    for place, effect, colour in zip(places, line.values(), colours, strict=True):
        if effect.mean > beyond:
            text, high = f"{effect.mean:.2f} →", ax.get_xaxis_transform()
            ax.text(round(place), top, text, transform=high, ha="center", va="top", rotation=90, fontsize=7)
            continue
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 4, "linewidth": 1}
        ax.errorbar(place, effect.mean, yerr=effect.half, **style)


def _name_places(ax: Axes, axis: str, line: Line) -> None:
    names = [value_name(value) for value in line]
    long = max(map(len, names)) > 6 or sum(map(len, names)) > LETTERS_A_PANEL
    ax.set_xticks(range(len(names)), names, rotation=35 if long else 0, ha="right" if long else "center")
    ax.margins(x=0.15)
    ax.set_xlabel(axis.replace("_", " "))
