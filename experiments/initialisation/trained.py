"""The parts of the study that train for a few steps themselves: snapshots of minibatches, and the coordinate check."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from experiments.analysis.picture import save_figure
from experiments.analysis.style import STYLE
from experiments.analysis.tables import csv_text, markdown_table
from experiments.initialisation import snapshot_figures as figures
from experiments.initialisation.measure import Snapshot, snapshots, trace
from experiments.initialisation.tables import Table
from experiments.initialisation.width import STEPS, WIDTHS, coordinate_check, slopes
from experiments.store.atomic import replace_file
from experiments.sweeps.catalog import LECTURE, TANH_GAIN
from experiments.sweeps.grids import INIT_NAMES, RunSpec

DEEP = RunSpec(init="fan_in", hidden_size=100, n_layers=5)  # The lecture's deep network, part 3.
DEEP_STEPS = (0, 1000)
DEEP_SCHEMES = ("normal", "scaled_hidden", "kaiming_tanh", "fan_in", "xavier", "orthogonal")
UPDATE_STEPS = tuple(range(0, 1001, 50))
GAINS = {"gain 1": 1.0, "gain 5/3": TANH_GAIN, "gain 3": 3.0}
WIDTH_FIGURE = {
    "activation_std": "activation std (log10)",
    "hidden_gradient_std": "gradient std, hidden (log10)",
    "output_gradient_std": "gradient std, output (log10)",
    "hidden_log10_update_to_weight": "update / weight, hidden (log10)",
    "output_log10_update_to_weight": "update / weight, output (log10)",
}
SLOPES = ("preactivation_std", "activation_std", "hidden_gradient_std", "output_gradient_std")


def write_snapshots(folder: Path, data: str, n_seeds: int) -> str:
    """Histograms and maps of first minibatches by scheme, and of deep networks by layer; returns a table of them."""
    first = {name: snapshots(_seeds(LECTURE, n_seeds, init=name), (0,), data)[0] for name in INIT_NAMES}
    columns = [
        (f"{name}{' + batch norm' if norm else ''}", _seeds(DEEP, n_seeds, gain=gain, batch_norm=norm))
        for norm in (False, True)
        for name, gain in GAINS.items()
    ]
    by_gain = [(name, snapshots(runs, DEEP_STEPS, data)) for name, runs in columns]
    by_scheme = [(name, snapshots(_seeds(DEEP, n_seeds, init=name), DEEP_STEPS, data)) for name in DEEP_SCHEMES]
    traces = {name: trace(runs, UPDATE_STEPS, data) for name, runs in columns}
    _save(
        folder,
        {
            "first_preactivations": lambda: figures.draw_preactivations(first),
            "first_activations": lambda: figures.draw_activations(first),
            "first_saturation_maps": lambda: figures.draw_saturation_maps(first),
            "deep_activations_by_gain": lambda: figures.draw_layers(by_gain, DEEP_STEPS, "activations"),
            "deep_gradients_by_gain": lambda: figures.draw_layers(by_gain, DEEP_STEPS, "gradients"),
            "deep_activations_by_scheme": lambda: figures.draw_layers(by_scheme, DEEP_STEPS, "activations"),
            "deep_gradients_by_scheme": lambda: figures.draw_layers(by_scheme, DEEP_STEPS, "gradients"),
            "deep_updates": lambda: figures.draw_deep_updates(traces, UPDATE_STEPS),
        },
    )
    table = [row for name, seen in (*by_gain, *by_scheme) for row in _layer_rows(name, seen)]
    replace_file(folder / "tables" / "deep_layers.csv", csv_text(table).encode())
    return f"{len(first)} schemes on a first minibatch; {len(by_gain) + len(by_scheme)} deep networks at {DEEP_STEPS}."


def write_width(folder: Path, data: str, n_seeds: int) -> str:
    """The coordinate check with one and two hidden layers; returns the exponents of the width as Markdown."""
    text, exponents = [], []
    for n_layers, widths in WIDTHS.items():
        rows = coordinate_check(data, n_seeds, n_layers, widths)
        replace_file(folder / "tables" / f"width_{n_layers}.csv", csv_text(rows).encode())
        _save(folder, {f"width_{n_layers}": lambda rows=rows: figures.draw_width(rows, WIDTH_FIGURE, STEPS)})
        text.append(_slope_table(rows, n_layers, widths))
        exponents += _slope_rows(rows, n_layers)
    replace_file(folder / "tables" / "width.csv", csv_text(exponents).encode())
    replace_file(folder / "tables" / "width.md", "\n".join(text).encode())
    return "\n".join(text)


def _slope_rows(rows: Table, n_layers: int) -> Table:
    """One row a scheme and step: the exponents of the width."""
    return [
        {"scheme": init, "hidden_layers": n_layers, "step": step}
        | {f"{name}_exponent": slopes(rows, name, step)[init] for name in SLOPES}
        for step in STEPS
        for init in dict.fromkeys(row["scheme"] for row in rows)
    ]


def _slope_table(rows: Table, n_layers: int, widths: tuple[int, ...]) -> str:
    header = ["scheme", *(f"{name.replace('_', ' ')}, step {step}" for name in SLOPES for step in (0, 100))]
    found = [slopes(rows, name, step) for name in SLOPES for step in (0, 100)]
    lines = [
        [name, *(f"{told[name]:+.2f}" if told[name] == told[name] else "-" for told in found)] for name in found[0]
    ]
    layers = "1 hidden layer" if n_layers == 1 else f"{n_layers} hidden layers"
    title = f"## Exponent k of the width, {layers} of {widths[0]} to {widths[-1]} (0: the scale is kept)"
    return f"{title}\n\n{markdown_table(header, lines)}\n"


def _layer_rows(name: str, seen: list[Snapshot]) -> Table:
    rows = []
    for step, snapshot in zip(DEEP_STEPS, seen, strict=True):
        for layer in range(snapshot.activations.shape[1]):
            h, gradient = snapshot.activations[:, layer], snapshot.gradients[:, layer]
            rows.append(
                {
                    "network": name,
                    "step": step,
                    "hidden_layer": layer + 1,
                    "activation_mean": float(h.mean()),
                    "activation_std": float(h.std()),
                    "share_over_0.97": float((abs(h) > 0.97).mean()),
                    "share_over_0.99": figures.saturated_share(h),
                    "gradient_std": float(gradient.std()),
                }
            )
    return rows


def _seeds(base: RunSpec, n_seeds: int, **settings) -> list[RunSpec]:
    return [RunSpec(**(asdict(base) | settings | {"seed": seed})) for seed in range(n_seeds)]


def _save(folder: Path, drawn: Mapping) -> None:
    with plt.rc_context(STYLE):
        for name, draw in drawn.items():
            save_figure(draw(), folder / "figures" / f"{name}.png")
