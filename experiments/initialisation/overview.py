"""One figure of the whole study: where every scheme ends, with and without batch norm, beside models that count."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.baselines import Yardsticks
from experiments.analysis.limits import far_off
from experiments.analysis.studies import Estimate, Study
from experiments.analysis.style import scheme_style
from experiments.initialisation.tables import by_scheme
from mlp_lm.ngram.baselines import YardstickRow

APART = {False: 0.16, True: -0.16}  # Of the two markers in a row, which stand on either side of its middle.
FAMILY = "modified Kneser-Ney"
LINES: Any = ("-", ":")


def draw_overview(study: Study, yardsticks: Yardsticks) -> Figure:
    """A row a scheme, best on top: dev loss with and without batch norm, means and 95 % intervals over seeds."""
    told = {scheme: cells[0].estimate("dev_loss") for scheme, cells in by_scheme(study).items()}
    told = {scheme: loss for scheme, loss in told.items() if loss.n}
    beyond = far_off([loss.mean for loss in told.values()])
    inits = _best_last(told)
    figure, ax = plt.subplots(figsize=(8, 1.5 + 0.29 * len(inits)))
    for (init, norm), loss in told.items():
        if loss.mean <= beyond:
            _draw_scheme(ax, inits.index(init) + APART[norm], init, norm, loss)
    for row, init in enumerate(inits):
        _note_far_off(ax, row, [(norm, told[init, norm].mean) for norm in APART if (init, norm) in told], beyond)
    ax.set_yticks(range(len(inits)), inits)
    ax.set(xlabel="dev loss (nats per token)", ylim=(-0.6, len(inits) - 0.4))
    lines = _counting(yardsticks, study.cells[0].settings["block_size"])
    for model, style in zip(lines, LINES, strict=False):
        ax.axvline(model.dev_loss, color="#D55E00", linewidth=1.3, linestyle=style)
    seeds, steps = len(study.cells[0].finished), study.cells[0].settings["n_steps"]
    figure.suptitle(
        f"Dev loss by initialisation: mean and 95 % interval, {seeds} seeds of {steps:,} steps", fontsize=10
    )
    figure.legend(handles=_legend(lines), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_scheme(ax: Axes, place: float, init: str, norm: bool, loss: Estimate) -> None:
    style = scheme_style(init, norm) | {"linestyle": "none"}
    ax.errorbar(loss.mean, place, xerr=loss.half or None, capsize=2, markersize=5, linewidth=1, **style)


def _note_far_off(ax: Axes, row: int, losses: Sequence[tuple[bool, float]], beyond: float) -> None:
    text = ", ".join(f"{loss:.2f}{' with batch norm' if norm else ''}" for norm, loss in losses if loss > beyond)
    if text:
        ax.text(0.995, row, f"{text} →", transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=8)


def _best_last(told: dict[tuple[str, bool], Estimate]) -> list[str]:
    """Schemes by the better of their two losses; the best one last, which is on top."""
    best: dict[str, float] = {}
    for (init, _), loss in told.items():
        best[init] = min(loss.mean, best.get(init, loss.mean))
    return sorted(best, key=lambda init: -best[init])


def _counting(yardsticks: Yardsticks, context_length: int) -> list[YardstickRow]:
    """The best count model that sees what the networks see, and the best one with any context."""
    same = [row for row in yardsticks.rows if (row.family, row.context_length) == (FAMILY, context_length)]
    return [*same, *([] if yardsticks.best in same else [yardsticks.best])]


def _legend(lines: Sequence[YardstickRow]) -> list[Line2D]:
    marker: dict[str, Any] = {"color": "#444444", "marker": "o", "linestyle": "none", "markersize": 5}
    handles = [
        Line2D([], [], label="without batch norm", **marker),
        Line2D([], [], label="with batch norm", **marker | {"markerfacecolor": "white"}),
    ]
    for row, style in zip(lines, LINES, strict=False):
        label = f"{row.family}, {row.context_length} context tokens: {row.dev_loss:.3f}"
        handles.append(Line2D([], [], color="#D55E00", linestyle=style, label=label))
    return handles
