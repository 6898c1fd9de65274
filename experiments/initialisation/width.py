"""The coordinate check: which schemes keep the scale of activations, gradients and updates as the hidden layer grows.

After Yang et al. 2021 (Tensor Programs V, appendix D.1): a scale that drifts with the width, at initialisation or after
a few steps, means that a learning rate found on a narrow model does not carry over to a wide one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.studies import Estimate, estimate
from experiments.analysis.style import STYLE, save_figure, scheme_style
from experiments.cli.terminal import progress
from experiments.initialisation.snapshots import train_through
from experiments.initialisation.tables import Table
from experiments.store.atomic import replace_file
from experiments.sweeps.text import count, csv_text, markdown_table
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.diagnostics import diagnose_runs
from mlp_lm.history import LayerStatistics, MatrixStatistics
from mlp_lm.parametrizations import PARAMETRIZATIONS, STANDARD
from mlp_lm.schemes import SCHEMES

WIDTHS = {1: (32, 64, 128, 256, 512, 1024, 2048), 2: (32, 64, 128, 256, 512)}  # By number of hidden layers.
STEPS = (0, 1, 10, 100)
# The embedding, the last hidden layer's weights, whose fan-in is the width where there are two layers, and the output.
MATRICES = {"embedding": 0, "hidden": -2, "output": -1}
PARAMETRIZED = "fan_in"  # The scheme of which parametrisations are compared: it keeps its scale at step 0.
EXPONENTS = ("preactivation_std", "activation_std", "hidden_gradient_std", "output_gradient_std")
SHOWN_STEPS = (STEPS[0], STEPS[-1])  # In Markdown; the CSV has all.
LABELS = {  # Of the figure's rows, by statistic; the CSV has more.
    "activation_std": "activation std (log10)",
    "hidden_gradient_std": "gradient std, hidden (log10)",
    "hidden_log10_update_to_weight": "update / weight, hidden (log10)",
}
# Of schemes that scale alike one is plotted; the others lie on it or beside it, and are in the tables.
ALIKE = ("uniform", "scaled_hidden", "kaiming_relu", "zeros", "lsuv", "unit_variance")


def write_width(folder: Path, dataset: Dataset, n_seeds: int) -> None:
    """Write the tables and figures of the coordinate check."""
    sections, exponents = [], []
    for n_layers, widths in WIDTHS.items():
        rows = coordinate_check(dataset, n_seeds, n_layers, widths, tuple(SCHEMES))
        replace_file(folder / "tables" / f"width_{n_layers}.csv", csv_text(rows).encode())
        with plt.rc_context(STYLE):
            shown = [row for row in rows if row["scheme"] not in ALIKE]
            title = f"Scale against width, {count(n_layers, 'hidden layer')}; a flat line keeps its scale"
            save_figure(plot_width(shown, title), folder / "figures" / f"width_{n_layers}.png")
        of_layers = exponent_rows(rows)
        exponents += of_layers
        sizes = f"{count(n_layers, 'hidden layer')} of {widths[0]} to {widths[-1]}"
        title = f"Exponent k of the width, {sizes} (0: the scale is kept)"
        sections.append(f"## {title}\n\n{exponents_as_markdown(of_layers)}\n")
    n_layers, widths = max(WIDTHS.items())
    rows = [
        row | {"scheme": name}
        for name in PARAMETRIZATIONS
        for row in coordinate_check(dataset, n_seeds, n_layers, widths, (PARAMETRIZED,), name)
    ]
    replace_file(folder / "tables" / "width_parametrizations.csv", csv_text(rows).encode())
    with plt.rc_context(STYLE):
        title = f"{PARAMETRIZED} under three parametrizations, {count(n_layers, 'hidden layer')}"
        save_figure(plot_width(rows, title), folder / "figures" / "width_parametrizations.png")
    title = f"The same of {PARAMETRIZED} under each parametrization, hidden layers: {n_layers}"
    sections.append(f"## {title}\n\n{exponents_as_markdown(exponent_rows(rows))}\n")
    replace_file(folder / "tables" / "width.csv", csv_text(exponents).encode())
    replace_file(folder / "tables" / "width.md", "\n".join(sections).encode())


def coordinate_check(
    dataset: Dataset,
    n_seeds: int,
    n_layers: int,
    widths: Sequence[int],
    schemes: Sequence[str],
    parametrization: str = STANDARD,
) -> Table:
    """One row a scheme, width and step: means over seeds with intervals.

    Statistics of activations are those of the last hidden layer; those of matrices are named after MATRICES.
    """
    rows = []
    for init in progress(schemes, f"widths, {count(n_layers, 'hidden layer')}"):
        for width in widths:
            config = RunConfig(init=init, hidden_size=width, n_layers=n_layers, parametrization=parametrization)
            configs = [replace(config, seed=seed) for seed in range(n_seeds)]
            for batch in train_through(configs, STEPS, dataset):
                statistics = diagnose_runs(batch)
                row: dict[str, Any] = {"scheme": init, "hidden_layers": n_layers, "hidden_size": width}
                row |= {"step": batch.step, "n_seeds": n_seeds}
                for name in LayerStatistics._fields:
                    row |= _over_seeds(statistics[name][:, -1]).columns(name)
                for name in MatrixStatistics._fields:
                    for matrix, i in MATRICES.items():
                        row |= _over_seeds(statistics[name][:, i]).columns(f"{matrix}_{name}")
                rows.append(row)
    return rows


def _over_seeds(values: Float[np.ndarray, " seed"]) -> Estimate:
    return estimate(values[np.isfinite(values)])


def width_exponents(rows: Table, name: str, step: int) -> dict[str, float]:
    """Each scheme's exponent k where the statistic goes as width^k, by least squares over the logarithms."""
    exponents = {}
    for init in dict.fromkeys(row["scheme"] for row in rows):
        points = [(row["hidden_size"], row[name]) for row in rows if (row["scheme"], row["step"]) == (init, step)]
        logs = np.log([(width, value) for width, value in points if np.isfinite(value) and value > 0])
        exponents[init] = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]) if len(logs) > 1 else float("nan")
    return exponents


def exponent_rows(rows: Table) -> Table:
    """One row a scheme and step of a coordinate check: the exponents of the width."""
    table = []
    for step in STEPS:
        by_name = {name: width_exponents(rows, name, step) for name in EXPONENTS}
        for init in dict.fromkeys(row["scheme"] for row in rows):
            place = {"scheme": init, "hidden_layers": rows[0]["hidden_layers"], "step": step}
            table.append(place | {f"{name}_exponent": by_name[name][init] for name in EXPONENTS})
    return table


def exponents_as_markdown(exponents: Table) -> str:
    """One row a scheme, at the first and last step; `-` where no value was above zero at two widths."""
    values = {(row["scheme"], row["step"], name): row[f"{name}_exponent"] for row in exponents for name in EXPONENTS}
    columns = [(step, name) for name in EXPONENTS for step in SHOWN_STEPS]
    lines = [
        [init, *(f"{k:+.2f}" if np.isfinite(k := values[init, *column]) else "-" for column in columns)]
        for init in dict.fromkeys(row["scheme"] for row in exponents)
    ]
    return markdown_table(["scheme", *(f"{name.replace('_', ' ')}, step {step}" for step, name in columns)], lines)


def plot_width(rows: Table, title: str) -> Figure:
    """A row a statistic, a column a step (the first and the last), a line a scheme over the width."""
    size = (3.2 * len(SHOWN_STEPS) + 1.8, 2.1 * len(LABELS) + 0.7)
    figure, axes = plt.subplots(len(LABELS), len(SHOWN_STEPS), figsize=size, sharex=True, sharey="row")
    for line, (name, label) in zip(axes, LABELS.items(), strict=True):
        for ax, step in zip(line, SHOWN_STEPS, strict=True):
            for scheme in dict.fromkeys(row["scheme"] for row in rows):
                _plot_scheme(ax, [row for row in rows if (row["scheme"], row["step"]) == (scheme, step)], name)
        line[0].set_ylabel(label, fontsize=8)
    for ax, step in zip(axes[0], SHOWN_STEPS, strict=True):
        ax.set_title(f"step {step}")
    widths = sorted({row["hidden_size"] for row in rows})
    for ax in axes[-1]:
        ax.set(xlabel="hidden units", xscale="log")
        ax.set_xticks(widths, [f"{width}" for width in widths], fontsize=8)
        ax.minorticks_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _plot_scheme(ax: Axes, rows: Table, name: str) -> None:
    values = np.array([row[name] for row in rows])
    if not name.endswith("log10_update_to_weight"):
        values = np.log10(values, out=np.full(len(values), np.nan), where=values > 0)
    values[~np.isfinite(values)] = np.nan
    if np.isfinite(values).any():
        style = scheme_style(rows[0]["scheme"]) | {"markersize": 3, "linewidth": 1}
        ax.plot([row["hidden_size"] for row in rows], values, label=rows[0]["scheme"], **style)
