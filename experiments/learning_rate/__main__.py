"""`python -m experiments.learning_rate.__main__`: raise the learning rate at every step, and see where the loss is lowest.

The learning-rate finder of makemore lecture 2 (Smith 2017, section 3.3), for several seeds and configurations at once.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from experiments.analysis.picture import save_figure
from experiments.runner.feasible import check_feasible
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mlp_lm.data.material import load_material
from scipy.ndimage import gaussian_filter1d

from experiments.analysis.studies import describe, estimate
from experiments.analysis.style import STYLE, scheme_style
from experiments.analysis.tables import csv_text
from experiments.cli.command import command_parser, one_line_errors
from experiments.store.atomic import make_folder, replace_file
from experiments.sweeps.grids import AXES, Grid, RunSpec, parse_value

NOT_AXES = ("learning_rate", "schedule", "n_steps", "n_evaluations", "diagnostics")
SMOOTHING = 0.02  # Standard deviation of the Gaussian that smooths a curve, as a share of the steps.
MAX_PANELS = 24
RULE = "the rate at the minimum of the loss averaged over seeds and smoothed by a Gaussian (2 % of the steps wide)"


@dataclass(frozen=True)
class Finding:
    """One configuration's losses `[seed, step]` in nats per token, and what they say. `seed_rates`: each seed's own."""

    label: str
    settings: dict[str, Any]
    rates: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, "seed steps"]

    @property
    def curve(self) -> Float[np.ndarray, " steps"]:
        """The smoothed mean loss; infinite from the first step on at which a seed's loss is no number."""
        return smooth(self.losses.mean(axis=0))

    @property
    def chosen(self) -> float:
        """The rate that the rule chooses."""
        return float(self.rates[np.argmin(self.curve)])

    @property
    def seed_rates(self) -> list[float]:
        """What each seed alone would choose."""
        return [float(self.rates[np.argmin(smooth(losses))]) for losses in self.losses]

    def __str__(self) -> str:
        low, high = min(self.seed_rates), max(self.seed_rates)
        at_end = " (the end of the range: widen it)" if self.chosen in (self.rates[0], self.rates[-1]) else ""
        return (
            f"{self.label}: learning rate {self.chosen:.3g} (10^{math.log10(self.chosen):.2f}), "
            f"single seeds {low:.3g} to {high:.3g}; loss there {self.curve.min():.4f}{at_end}"
        )


def rising_rates(n_steps: int, low_exponent: float, high_exponent: float) -> Float[np.ndarray, " steps"]:
    """Rates whose exponents of ten are evenly spaced, both ends included."""
    return 10.0 ** np.linspace(low_exponent, high_exponent, n_steps)


def smooth(losses: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Losses under a Gaussian, up to the first one that is no number; from there on infinite."""
    broken = np.flatnonzero(~np.isfinite(losses))
    end = broken[0] if len(broken) else len(losses)
    curve = np.full(len(losses), np.inf)
    curve[:end] = gaussian_filter1d(np.asarray(losses[:end], float), SMOOTHING * len(losses), mode="nearest")
    return curve


@one_line_errors("learning_rate")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    configurations = requested(options)
    every_run = [run for runs in configurations.values() for run in runs]
    check_feasible(every_run, load_material(options.data), 1, lambda _: options.seeds)
    make_folder(options.out)
    findings = []
    for runs in configurations.values():
        findings.append(find(runs, options))
        print(findings[-1], flush=True)
    print(f"Chosen: {RULE}. Written to {options.out}.")
    replace_file(options.out / "learning_rate.csv", csv_text(list(_curve_rows(findings))).encode())
    replace_file(options.out / "chosen.csv", csv_text([_chosen_row(finding) for finding in findings]).encode())
    with plt.rc_context(STYLE):
        save_figure(draw_findings(findings), options.out / "learning_rate.png")
    return 0


def find(runs: Sequence[RunSpec], options: argparse.Namespace) -> Finding:
    """Train the seeds of one configuration with a rising rate."""
    # JAX only once the command line is known to be right.
    from mlp_lm.rate_finder import rate_range_losses

    rates = rising_rates(options.steps, options.low_exponent, options.high_exponent)
    settings = {axis: getattr(runs[0], axis) for axis in AXES if axis not in NOT_AXES}
    shown = ["init", *(axis for axis in settings if settings[axis] != getattr(RunSpec(), axis) and axis != "init")]
    return Finding(describe(settings, shown), settings, rates, rate_range_losses(runs, rates, options.data))


def requested(options: argparse.Namespace) -> dict[tuple, list[RunSpec]]:
    """The runs that the command line asks for, by configuration."""
    given = {name: getattr(options, name) for name in AXES if getattr(options, name, None) is not None}
    axes = {name: tuple(parse_value(name, text) for text in texts) for name, texts in given.items()}
    configurations: dict[tuple, list[RunSpec]] = {}
    for run in Grid("learning rate", n_seeds=options.seeds).with_axes(axes):
        configurations.setdefault(tuple(getattr(run, axis) for axis in AXES), []).append(run)
    return configurations


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        ValueError: an unknown flag or a wrong value.
    """
    parser = command_parser("learning_rate", f"Find a learning rate: {RULE}.")
    parser.add_argument("--data", default="ssa2018", metavar="DATA", help="ssa2018, makemore or a file (ssa2018)")
    parser.add_argument("--out", type=Path, default=Path("results/learning-rate"), metavar="DIR", help="where to write")
    parser.add_argument("--seeds", type=int, default=8, metavar="N", help="seeds 0 to N-1 (8)")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="rates, one a step (1000)")
    parser.add_argument("--low-exponent", type=float, default=-3.0, metavar="X", help="of ten, at the first step (-3)")
    parser.add_argument("--high-exponent", type=float, default=0.0, metavar="X", help="of ten, at the last step (0)")
    for field in fields(RunSpec):
        if field.name in AXES and field.name not in NOT_AXES:
            text = f"{field.metadata['help']} ({field.default})"
            parser.add_argument(f"--{field.name.replace('_', '-')}", nargs="+", metavar="X", help=text)
    options = parser.parse_args(arguments)
    if options.steps < 50:
        parser.error(f"--steps must be at least 50, got {options.steps}")
    if not -30 <= options.low_exponent < options.high_exponent <= 30:
        parser.error(f"exponents must rise within -30 to 30, got {options.low_exponent} and {options.high_exponent}")
    return options


def draw_findings(findings: Sequence[Finding]) -> Figure:
    """A panel a configuration: loss against the rate, its band over seeds, and the chosen rate."""
    shown = findings[:MAX_PANELS]
    rows = math.ceil(len(shown) / 4)
    columns = math.ceil(len(shown) / rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(max(5.0, 2.9 * columns), 2.5 * rows + 0.6), squeeze=False, sharex=True
    )
    for ax, finding in zip(axes.flat, shown, strict=False):
        _draw_finding(ax, finding)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("loss (nats per token)")
    more = f", the first {MAX_PANELS} of {len(findings)}" if len(findings) > MAX_PANELS else ""
    figure.suptitle(
        f"Loss while the learning rate rises: {len(findings[0].losses)} seeds (thin), mean and 95 % band{more}",
        fontsize=10,
    )
    return figure


def _draw_finding(ax: Axes, finding: Finding) -> None:
    colour = scheme_style(finding.settings["init"])["color"]
    smoothed = np.array([smooth(losses) for losses in finding.losses])
    sound = np.isfinite(smoothed).all(axis=0)
    exponents, curve = np.log10(finding.rates[sound]), finding.curve[sound]
    ax.plot(exponents, smoothed[:, sound].T, color=colour, alpha=0.25, linewidth=0.5)
    band = [estimate(values) for values in smoothed[:, sound].T]
    if len(smoothed) > 1:
        ax.fill_between(exponents, [e.low for e in band], [e.high for e in band], color=colour, alpha=0.2, linewidth=0)
    ax.plot(exponents, curve, color=colour, linewidth=1.4)
    ax.axvline(math.log10(finding.chosen), color="#D55E00", linestyle="--", linewidth=1)
    top = curve[0] + 0.15 * (curve[0] - curve.min())
    ax.set(xlabel="log10 of the learning rate", ylim=(curve.min() - 0.1 * (top - curve.min()), top))
    ax.xaxis.set_tick_params(labelbottom=True)
    ax.set_title(f"{finding.label}\nchosen {finding.chosen:.3g}", fontsize=8)


def _curve_rows(findings: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    for finding in findings:
        curve = finding.curve
        for step, rate in enumerate(finding.rates):
            loss = estimate(finding.losses[:, step])
            yield {
                "configuration": finding.label,
                "step": step,
                "exponent": math.log10(rate),
                "learning_rate": rate,
                "loss": loss.mean,
                "loss_low": loss.low,
                "loss_high": loss.high,
                "loss_smoothed": curve[step],
            }


def _chosen_row(finding: Finding) -> dict[str, Any]:
    return {
        **finding.settings,
        "n_seeds": len(finding.losses),
        "learning_rate": finding.chosen,
        "lowest_of_a_seed": min(finding.seed_rates),
        "highest_of_a_seed": max(finding.seed_rates),
        "loss_smoothed": finding.curve.min(),
    }


if __name__ == "__main__":
    sys.exit(main())
