"""What goes on inside the models of a study, across its runs: saturation, and scales by layer and by matrix.

Of sweeps with `--diagnostics True`. Numbers are means over the seeds of a configuration, at step 0 and at the end.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from experiments.analysis.studies import Cell, Estimate, Study, estimate, label_cells
from experiments.analysis.style import LINE_COLOURS, set_title
from experiments.sweeps.text import printable
from mlp_lm.activations import ACTIVATIONS, activation_named
from mlp_lm.history import DIAGNOSTICS, LayerStatistics

START, END = 0, -1  # Of a history's evaluations.
MAX_CELLS = 40
MAX_COLOURS = len(LINE_COLOURS)

HEADER = (
    "saturated, step 0", "saturated, end", "dead units, end", "preactivation std, step 0", "preactivation std, end",
    "gradient / weight, step 0", "gradient / weight, end",
)  # fmt: skip
EXPLANATION = (
    "One number a hidden layer, from the input on; gradients have one a matrix: embedding, hidden weights, output and, "
    "where there are any, direct connections. Means over seeds; intervals are in tables/diagnostics.csv. Saturated is "
    "the share of activations near their bound, over all training windows; gradient / weight is the standard deviation "
    "of a minibatch's gradient over that of the weights."
)


def diagnostic(cell: Cell, name: str, evaluation: int, place: int = 0) -> Estimate:
    """A diagnostic at one evaluation, of one layer or matrix; n is 0 where it was not recorded.

    Runs that diverge later count at step 0, which is evaluation 0.
    """
    histories = _histories(cell, name, evaluation)
    return estimate(value for history in histories if (value := history[evaluation][place]) is not None)


def has_diagnostics(study: Study) -> bool:
    """Whether any of its runs recorded what goes on inside it."""
    return any(_histories(cell, DIAGNOSTICS[0], START) for cell in study.cells)


def has_bound(cell: Cell) -> bool:
    """Whether its activation has a bound near which units are saturated.

    Of an activation whose ideas file is not loaded, what was recorded decides: without a bound nothing is saturated.
    """
    if cell.settings["activation"] in ACTIVATIONS:
        return activation_named(cell.settings["activation"]).saturation is not None
    return any(share for row in cell.rows for layers in row["history_saturated_share"] or () for share in layers)


def places(cell: Cell, name: str) -> list[str]:
    """The layers or matrices of which a cell has this diagnostic, in words; none where it was not recorded."""
    histories = _histories(cell, name, START)
    n = len(histories[0][START]) if histories else 0
    if name in LayerStatistics._fields:
        return [f"layer {i + 1}" for i in range(n)]
    n_hidden = cell.settings["n_layers"]
    hidden = ["hidden"] if n_hidden == 1 else [f"hidden {i + 1}" for i in range(n_hidden)]
    return ["embedding", *hidden, "output", "direct"][:n]


def diagnostic_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a configuration, statistic, and layer or matrix: at step 0 and at the end, with intervals over seeds."""
    for study in studies:
        for cell in study.cells:
            settings = {axis: cell.settings[axis] for axis in study.axes}
            for name in DIAGNOSTICS:
                for i, place in enumerate(places(cell, name)):
                    start, end = (diagnostic(cell, name, evaluation, i) for evaluation in (START, END))
                    columns = {"statistic": name, "place": place, "n_seeds": end.n}
                    yield {"study": study.name, **settings, **columns, **start.columns("start"), **end.columns("end")}


def diagnostic_table(study: Study) -> tuple[list[str], list[list[str]]]:
    """A header and a row for each of the best configurations that have diagnostics."""
    cells = _recorded(study)
    if not cells:
        return [], []
    labels = label_cells(cells, study.axes)
    rows = []
    for cell, label in zip(cells, labels.texts, strict=True):
        bounded = has_bound(cell)
        rows.append(
            [
                label,
                *([_each(cell, "saturated_share", at, "{:.1%}") for at in (START, END)] if bounded else ["-", "-"]),
                _each(cell, "dead_units", END, "{:.0f}") if bounded else "-",
                *(_each(cell, "preactivation_std", at, "{:.2f}") for at in (START, END)),
                *(_each(cell, "gradient_to_weight", at, "{:.2g}") for at in (START, END)),
            ]
        )
    return [labels.heading or "configuration", *HEADER], rows


def plot_diagnostics(study: Study) -> Figure:
    """A row a configuration: saturation and scales of each layer and matrix, open at step 0 and filled at the end."""
    cells = _recorded(study)
    labels = label_cells(cells, study.axes)
    panels = {
        **({"saturated_share": "share of saturated activations"} if any(map(has_bound, cells)) else {}),
        "preactivation_std": "std of preactivations",
        "gradient_to_weight": "gradient std / weight std",
    }
    size = (3.4 * len(panels) + 2, 2.0 + 0.24 * len(cells))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (name, words) in zip(axes[0], panels.items(), strict=True):
        shown = _plot_panel(ax, cells, name)
        ax.set_xlabel(words)
        handles = [Line2D([], [], color=colour, marker="o", linestyle="none", label=p) for p, colour in shown.items()]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=7, handletextpad=0)
    axes[0, 0].set_yticks(range(len(cells)), [printable(text) for text in labels.texts], fontsize=8)
    axes[0, 0].set_ylim(len(cells) - 0.4, -0.6)
    heading = f"rows: {labels.heading}" if labels.heading else ""
    notes = ["mean over seeds; open: step 0, filled: the end", heading, labels.shared]
    out_of = f", the {len(cells)} best of {len(study.cells)}" if len(cells) < len(study.cells) else ""
    set_title(figure, f"{study.name}: inside the models{out_of}", "; ".join(filter(None, notes)))
    return figure


def _plot_panel(ax: Axes, cells: list[Cell], name: str) -> dict[str, str]:
    """Plot one statistic of all cells; returns the layers or matrices that are shown, with their colours."""
    of_cells = [places(cell, name) for cell in cells]
    names = max(of_cells, key=len)
    if "direct" not in names and any("direct" in some for some in of_cells):
        names = [*names, "direct"]
    first = [place for place in names if place not in ("output", "direct")]
    room = MAX_COLOURS - (len(names) - len(first))
    kept = [first[round(i * (len(first) - 1) / (room - 1))] for i in range(room)]
    shown = [place for place in names if place in kept or place not in first]  # Of deep models not every layer.
    colours = dict(zip(shown, LINE_COLOURS, strict=False))
    if name != "saturated_share":
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.xaxis.set_major_formatter("{x:g}")  # Not matplotlib's own powers, which are mathematics.
        ax.xaxis.set_minor_formatter("")
    for row, (cell, some) in enumerate(zip(cells, of_cells, strict=True)):
        for i, place in enumerate(some):
            if place == "hidden" and place not in names:  # The one hidden layer, beside deeper models.
                place = "hidden 1"
            if place not in colours:
                continue
            start, end = (diagnostic(cell, name, evaluation, i).mean for evaluation in (START, END))
            aside = row + 0.12 * (shown.index(place) - (len(shown) - 1) / 2) * min(1.0, 5 / len(shown))
            ax.plot([start, end], [aside, aside], color=colours[place], linewidth=0.6, alpha=0.6)
            ax.plot(start, aside, "o", color=colours[place], markerfacecolor="white", markersize=3.5)
            ax.plot(end, aside, "o", color=colours[place], markersize=3.5)
    return colours


def _recorded(study: Study) -> list[Cell]:
    return [cell for cell in study.cells if _histories(cell, DIAGNOSTICS[0], START)][:MAX_CELLS]


def _histories(cell: Cell, name: str, evaluation: int) -> list[list[list[float | None]]]:
    rows = cell.rows if evaluation == START else cell.finished
    return [history for row in rows if (history := row.get(f"history_{name}"))]


def _each(cell: Cell, name: str, evaluation: int, form: str) -> str:
    estimates = [diagnostic(cell, name, evaluation, i) for i in range(len(places(cell, name)))]
    return ", ".join(form.format(one.mean) if one.n else "-" for one in estimates)
