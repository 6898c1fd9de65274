"""What goes on inside networks at single steps of short trainings: histograms, maps of saturation, and updates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.style import ORANGE, STYLE, save_figure, scheme_colour
from experiments.cli.terminal import progress
from experiments.initialisation.tables import Table
from experiments.store.atomic import replace_file
from experiments.sweeps.catalog import LECTURE
from experiments.sweeps.text import csv_text
from mlp_lm.activations import activation_named
from mlp_lm.config import RunConfig
from mlp_lm.data.dataset import Dataset
from mlp_lm.diagnostics import activation_gradients, diagnose_runs, draw_probe
from mlp_lm.model import Params, forward
from mlp_lm.schemes import SCHEMES, TANH_GAIN
from mlp_lm.training import RunBatch

DEEP = RunConfig(init="fan_in", hidden_size=100, n_layers=5)  # The lecture's deep network, part 3.
DEEP_STEPS = (0, 1000)
DEEP_SCHEMES = ("normal", "scaled_hidden", "kaiming_tanh", "fan_in", "xavier", "orthogonal")
UPDATE_STEPS = tuple(range(0, 1001, 50))
GAINS = {"gain 1": 1.0, "gain 5/3": TANH_GAIN, "gain 3": 3.0}
SATURATION = activation_named(LECTURE.activation).saturation or np.inf

BINS = 80
COLUMNS = 4  # Panels side by side.


@dataclass(frozen=True)
class Snapshot:
    """What each hidden layer does with one minibatch a seed, `[seed, layer, window, unit]`.

    `gradients` are those of the minibatch's mean loss with respect to the activations.
    """

    preactivations: Float[np.ndarray, "seed layer batch hidden"]
    activations: Float[np.ndarray, "seed layer batch hidden"]
    gradients: Float[np.ndarray, "seed layer batch hidden"]


def train_through(configs: Sequence[RunConfig], steps: Sequence[int], dataset: Dataset) -> Iterator[RunBatch]:
    """One configuration's runs, before the update of each of `steps`, which increase.

    The learning rate is constant, as it is in the first half of the lecture's schedule.
    """
    n_steps = max(steps) + 1
    runs = [replace(config, schedule="constant", n_steps=n_steps, n_evaluations=1) for config in configs]
    batch = RunBatch.start(runs, dataset)
    for step in steps:
        batch.advance(step)
        yield batch


def take_snapshots(configs: Sequence[RunConfig], steps: Sequence[int], dataset: Dataset) -> list[Snapshot]:
    """What one configuration's runs do with their probe minibatches, before the update of each of `steps`."""
    snapshots = []
    for batch in train_through(configs, steps, dataset):
        data = batch.data
        probes = np.stack(
            [draw_probe(np.uint32(config.seed), LECTURE.batch_size, len(data.targets)) for config in configs]
        )
        layers = _inspect(batch.states.params, data.contexts[probes], data.targets[probes])
        # Short runs are trained at padded widths.
        snapshots.append(Snapshot(*(np.asarray(values)[..., : configs[0].hidden_size] for values in layers)))
    return snapshots


@jax.jit
@jax.vmap
def _inspect(params: Params, contexts: Int[Array, "batch block"], targets: Int[Array, " batch"]) -> tuple[Array, ...]:
    activations = forward(params, contexts)
    gradients = activation_gradients(params, contexts, targets)
    return tuple(jnp.stack(layers) for layers in (activations.preactivations, activations.hidden, gradients))


def saturated_share(activations: Float[np.ndarray, "..."]) -> float:
    """Share of |tanh| > 0.99."""
    return float((np.abs(activations) > SATURATION).mean())


def write_snapshots(folder: Path, dataset: Dataset, n_seeds: int) -> str:
    """Figures of first minibatches by scheme and of deep networks by layer, and a table; returns what was done."""

    def seeds(base: RunConfig, **settings: Any) -> list[RunConfig]:
        return [replace(base, seed=seed, **settings) for seed in range(n_seeds)]

    first = {
        init: take_snapshots(seeds(LECTURE, init=init), (0,), dataset)[0]
        for init in progress(tuple(SCHEMES), "first minibatches")
    }
    gains = {
        f"{name}{' + batch norm' if batch_norm else ''}": seeds(DEEP, gain=gain, batch_norm=batch_norm)
        for batch_norm in (False, True)
        for name, gain in GAINS.items()
    }
    by_gain = {
        name: take_snapshots(configs, DEEP_STEPS, dataset)
        for name, configs in progress(tuple(gains.items()), "deep networks by gain")
    }
    by_scheme = {
        init: take_snapshots(seeds(DEEP, init=init), DEEP_STEPS, dataset)
        for init in progress(DEEP_SCHEMES, "deep networks by scheme")
    }
    updates = {
        name: [
            diagnose_runs(batch)["log10_update_to_weight"] for batch in train_through(configs, UPDATE_STEPS, dataset)
        ]
        for name, configs in progress(tuple(gains.items()), "updates by gain")
    }
    networks = (*by_gain.items(), *by_scheme.items())
    layers = [row for name, snapshots in networks for row in layer_rows(name, snapshots, DEEP_STEPS)]
    replace_file(folder / "tables" / "deep_layers.csv", csv_text(layers).encode())
    with plt.rc_context(STYLE):
        figures = {
            "first_preactivations": plot_preactivations(first),
            "first_activations": plot_activations(first),
            "first_saturation_maps": plot_saturation_maps(first),
            "deep_activations_by_gain": plot_layers(by_gain, DEEP_STEPS, "activations"),
            "deep_gradients_by_gain": plot_layers(by_gain, DEEP_STEPS, "gradients"),
            "deep_activations_by_scheme": plot_layers(by_scheme, DEEP_STEPS, "activations"),
            "deep_gradients_by_scheme": plot_layers(by_scheme, DEEP_STEPS, "gradients"),
            "deep_updates": plot_updates(updates, UPDATE_STEPS),
        }
        for name, figure in figures.items():
            save_figure(figure, folder / "figures" / f"{name}.png")
    steps = " and ".join(f"{step:,}" for step in DEEP_STEPS)
    return f"Snapshots: {len(first)} schemes at step 0, and {len(networks)} deep networks at steps {steps}."


def layer_rows(network: str, snapshots: Sequence[Snapshot], steps: Sequence[int]) -> Table:
    """One row a step and hidden layer, over all seeds, windows and units."""
    return [
        {
            "network": network,
            "step": step,
            "hidden_layer": layer + 1,
            "activation_mean": float(activations.mean()),
            "activation_std": float(activations.std()),
            "share_over_0.97": float((np.abs(activations) > 0.97).mean()),  # The lecture's bound in part 3.
            "share_over_0.99": saturated_share(activations),
            "gradient_std": float(snapshot.gradients[:, layer].std()),
        }
        for step, snapshot in zip(steps, snapshots, strict=True)
        for layer, activations in enumerate(snapshot.activations.swapaxes(0, 1))
    ]


def plot_preactivations(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """Histograms of the first layer's preactivations, a panel a scheme; tanh is saturated beyond the dashed lines."""
    figure, axes = _make_panels(by_scheme, 2.0, "preactivation", "share of values per bin (%)")
    for init, ax in axes.items():
        values = by_scheme[init].preactivations[:, 0]
        _plot_histogram(ax, values, (-20, 20), scheme_colour(init))
        ax.set_title(f"{init}: std {values.std():.2f}", fontsize=8)
        for bound in np.arctanh([-SATURATION, SATURATION]):
            ax.axvline(bound, color=ORANGE, linestyle="--", linewidth=0.8)
    figure.suptitle(f"Preactivations of a first minibatch; dashed: |tanh| = {SATURATION}", fontsize=10)
    return figure


def plot_activations(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """Histograms of the first layer's activations, a panel a scheme."""
    figure, axes = _make_panels(by_scheme, 2.0, "activation", "share of values per bin (%)")
    for init, ax in axes.items():
        values = by_scheme[init].activations[:, 0]
        _plot_histogram(ax, values, (-1, 1), scheme_colour(init))
        ax.set_title(f"{init}: {100 * saturated_share(values):.1f} % saturated", fontsize=8)
    figure.suptitle(f"Activations of a first minibatch; saturated means |tanh| > {SATURATION}", fontsize=10)
    return figure


def plot_saturation_maps(by_scheme: Mapping[str, Snapshot]) -> Figure:
    """White where an activation is saturated: windows of one minibatch against hidden units, for the first seed."""
    figure, axes = _make_panels(by_scheme, 1.5, "hidden unit", "window")
    for init, ax in axes.items():
        values = by_scheme[init].activations[0, 0]
        ax.imshow(np.abs(values) > SATURATION, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_title(f"{init}: {100 * saturated_share(values):.1f} %", fontsize=8)
        ax.grid(False)
    figure.suptitle(
        f"White: |tanh| > {SATURATION}, by window of a first minibatch and hidden unit, one seed", fontsize=10
    )
    return figure


def _make_panels(names: Mapping[str, Any], height: float, xlabel: str, ylabel: str) -> tuple[Figure, dict[str, Axes]]:
    n_rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(n_rows, COLUMNS, figsize=(2.7 * COLUMNS, height * n_rows + 0.6), squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes.flat:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel, fontsize=8)
    return figure, dict(zip(names, axes.flat, strict=False))


def _plot_histogram(ax: Axes, values: np.ndarray, limits: tuple[float, float], colour: str) -> None:
    counts, edges = np.histogram(np.clip(values, *limits), BINS, limits)
    ax.stairs(100 * counts / values.size, edges, fill=True, color=colour, alpha=0.75)
    ax.set_xlim(*limits)
    ax.set_ylim(bottom=0)


def plot_layers(networks: Mapping[str, Sequence[Snapshot]], steps: Sequence[int], what: str) -> Figure:
    """Histograms of deep networks by layer: a column a network, a row a step.

    `what` is `activations`, or `gradients`, whose histograms are in units of the first layer's standard deviation.
    """
    figure, axes = plt.subplots(
        len(steps), len(networks), figsize=(2.1 * len(networks) + 1, 2.3 * len(steps) + 0.7), squeeze=False
    )
    limit = 1.0 if what == "activations" else 4.0
    for column, (name, snapshots) in zip(axes.T, networks.items(), strict=True):
        for ax, step, snapshot in zip(column, steps, snapshots, strict=True):
            values = getattr(snapshot, what)
            unit = 1.0 if what == "activations" else max(float(values[:, 0].std()), 1e-30)
            for layer, colour in enumerate(_depth_colours(values.shape[1])):
                histogram = np.histogram(values[:, layer] / unit, BINS // 2, (-limit, limit), density=True)
                ax.stairs(*histogram, color=colour, linewidth=1, label=f"{layer + 1}")
            ax.set_title(f"{name}\nstep {step:,}", fontsize=8)
            ax.set_xlim(-limit, limit)
            ax.set_ylim(bottom=0)
    for ax in axes[:, 0]:
        ax.set_ylabel("density")
    for ax in axes[-1]:
        ax.set_xlabel("activation" if what == "activations" else "gradient / its std in layer 1")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8, title="hidden layer")
    kind = "Activations" if what == "activations" else "Gradients with respect to the activations"
    figure.suptitle(f"{kind} of a deep network by layer", fontsize=10)
    return figure


def plot_updates(updates: Mapping[str, Sequence[Float[np.ndarray, "seed matrix"]]], steps: Sequence[int]) -> Figure:
    """The update-to-weight ratio of each matrix of deep networks over their first steps, a panel a network.

    Ratios are given as log10, for each network and step.
    """
    n_columns = -(-len(updates) // 2)
    figure, axes = plt.subplots(
        2, n_columns, figsize=(2.6 * n_columns + 1.4, 5.4), sharex=True, sharey=True, squeeze=False
    )
    for ax, (name, ratios) in zip(axes.flat, updates.items(), strict=False):
        by_matrix = np.mean(ratios, axis=1).T
        matrices = ["embedding", *(f"hidden {i}" for i in range(1, len(by_matrix) - 1)), "output"]
        for matrix, ratio, colour in zip(matrices, by_matrix, _depth_colours(len(matrices)), strict=True):
            ax.plot(steps, ratio, color=colour, linewidth=1, label=matrix)
        ax.axhline(-3, color=ORANGE, linestyle=":", linewidth=1.4)
        ax.set_title(name, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("training step")
    for ax in axes[:, 0]:
        ax.set_ylabel("log10 of update std / weight std")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle("How far one update moves each matrix of a deep network; dotted: 1/1000", fontsize=10)
    return figure


def _depth_colours(n: int) -> list[Any]:
    """Colours that run from dark to light with depth."""
    return [plt.get_cmap("viridis")(0.9 * i / max(n - 1, 1)) for i in range(n)]
