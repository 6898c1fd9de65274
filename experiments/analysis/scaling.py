"""How the dev loss falls with parameters and with training compute: power laws, and what they predict."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.analysis.comparisons import FEWEST_VALUES, tune
from experiments.analysis.results import SweepResults
from experiments.analysis.studies import Cell, Estimate, make_study, t_quantile
from experiments.analysis.style import LINE_COLOURS, MARKERS, set_title
from experiments.analysis.tradeoffs import pareto_front
from experiments.sweeps.text import count
from mlp_lm.config import AXES, DEFAULTS

FEWEST_POINTS = 4  # A law has three numbers, and one more point shows whether it holds.
FLOPS_A_WEIGHT = 6  # An example: two in the forward pass, four in the backward pass (Kaplan et al. 2020, section 2.1).
CURVE_POINTS = 200
STEEPEST = 4.0  # Exponent of a law.
LEAST_FLOOR = 1e-6
NUMERIC = tuple(axis for axis in AXES if type(DEFAULTS[axis]) in (int, float))


@dataclass(frozen=True)
class Point:
    """The networks of one size that were trained for as long, at their best settings.

    Attributes:
        n_params: their parameters.
        n_steps: how long they were trained.
        flops: floating-point operations of that training, but for those that do not multiply weights.
        cell: the best configuration, judged as `tune` does.
        at_edge: the settings that were tried at three values or more and are best at the lowest or highest.
    """

    n_params: int
    n_steps: int
    flops: float
    cell: Cell
    at_edge: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Parameters and steps, of which there is one point each."""
        return self.n_params, self.n_steps

    @property
    def loss(self) -> Estimate:
        """Dev loss, in nats per token."""
        return self.cell.estimate("dev_loss")


@dataclass(frozen=True)
class PowerLaw:
    """loss = floor + factor (x / scale)^-exponent, by least squares.

    Attributes:
        numbers: floor, factor and exponent.
        covariance: theirs, from how far the points lie from the law.
        scale: the geometric mean of the x that it was fitted to.
        noise: standard deviation of a point around the law.
        n: how many points it was fitted to.
    """

    numbers: Float[np.ndarray, " 3"]
    covariance: Float[np.ndarray, "3 3"]
    scale: float
    noise: float
    n: int

    def number(self, place: int) -> Estimate:
        """One of `numbers` with its 95 % interval."""
        mean = float(self.numbers[place])
        half = t_quantile(self.n - 3) * float(np.sqrt(self.covariance[place, place]))
        return Estimate(mean, mean - half, mean + half, self.n)

    def __call__(self, x: float) -> Estimate:
        """The loss predicted at x, with the 95 % interval of one more point (Seber and Wild 1989, section 5.1)."""
        floor, factor, exponent = self.numbers
        power = (x / self.scale) ** -exponent
        slope = np.array([1.0, power, -factor * power * np.log(x / self.scale)])
        mean = float(floor + factor * power)
        half = t_quantile(self.n - 3) * float(np.sqrt(slope @ self.covariance @ slope + self.noise**2))
        return Estimate(mean, mean - half, mean + half, self.n)


def points_of(results: SweepResults) -> list[Point]:
    """One point a number of parameters and of steps, the smallest first; full-batch runs are left out."""
    vocab_size = len(results.baselines.tokens)
    cells = [cell for cell in make_study("", results.rows).cells if cell.finished and cell.settings["batch_size"]]
    groups: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.rows[0]["n_params"], cell.settings["n_steps"]].append(cell)
    points = []
    for (n_params, n_steps), group in sorted(groups.items()):
        best = tune(group)
        tried = {axis: {cell.settings[axis] for cell in group} for axis in NUMERIC}
        ends = {axis: (min(values), max(values)) for axis, values in tried.items() if len(values) >= FEWEST_VALUES}
        n_weights = n_params - vocab_size * best.settings["embedding_dim"]  # Embeddings are looked up.
        flops = float(FLOPS_A_WEIGHT) * n_weights * best.settings["batch_size"] * n_steps
        at_edge = tuple(axis for axis, edges in ends.items() if best.settings[axis] in edges)
        points.append(Point(n_params, n_steps, flops, best, at_edge))
    return points


def fit(x: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """The power law through some points.

    Raises:
        ValueError: there are too few of them, or they follow none.
    """
    from scipy.optimize import curve_fit  # Half a second.

    if len(x) < FEWEST_POINTS:
        raise ValueError(
            f"a power law needs {FEWEST_POINTS} sizes or more of which each has a lower loss, got {len(x)}"
        )
    scale = float(np.exp(np.mean(np.log(x))))

    def law(ratio, floor, factor, exponent):
        return floor + factor * ratio**-exponent

    ratios, low, reach = np.asarray(x) / scale, min(losses), max(losses) - min(losses)
    bounds = ([0, 0, 0], [low, np.inf, STEEPEST])
    try:
        start = (max(low - reach / 4, low / 2), reach, 0.5)
        numbers, covariance = curve_fit(law, ratios, losses, p0=start, bounds=bounds)
    except RuntimeError:
        raise ValueError("these losses follow no power law") from None
    if numbers[0] < LEAST_FLOOR or numbers[2] > 0.999 * STEEPEST:
        raise ValueError("these losses fix no floor or no exponent of a power law: add sizes")
    residuals = np.asarray(losses) - law(ratios, *numbers)
    return PowerLaw(numbers, covariance, scale, float(np.sqrt(residuals @ residuals / (len(x) - 3))), len(x))


@dataclass(frozen=True)
class Scaling:
    """A sweep's points and laws, and points of other sweeps that no law was fitted to.

    Attributes:
        points: of the sweep itself.
        by_params: laws of loss against parameters, one a number of steps with sizes enough.
        by_flops: the law of the frontier of loss against compute, where there are several lengths.
        others: of larger networks, say.
        fitted: the sizes of the points that laws against parameters were fitted to.
        left_out: sentences about what has no law, or is not compared.
    """

    points: tuple[Point, ...]
    by_params: dict[int, PowerLaw]
    by_flops: PowerLaw | None
    others: tuple[Point, ...]
    fitted: frozenset[tuple[int, int]]
    left_out: tuple[str, ...]

    @property
    def at_edge(self) -> list[Point]:
        """The points that have a best setting at the edge of what was tried."""
        return [point for point in (*self.points, *self.others) if point.at_edge]

    @property
    def laws(self) -> list[tuple[str, int | None, PowerLaw]]:
        """All laws, each with what the loss is against, and its length, where it has one."""
        by_params = [("parameters", n_steps, law) for n_steps, law in self.by_params.items()]
        return [*by_params, *([("flops", None, self.by_flops)] if self.by_flops else [])]

    def predicted(self, point: Point) -> Estimate | None:
        """What the law of its length says of a point."""
        law = self.by_params.get(point.n_steps)
        return law(point.n_params) if law else None


def measure_scaling(results: SweepResults, others: Iterable[SweepResults] = ()) -> Scaling:
    """Fit the laws of a sweep: to the sizes that no smaller one beats at the same length, and to its frontier.

    `others` are sweeps on the same data.

    Raises:
        ValueError: no length has sizes enough, or another sweep adds none.
    """
    points = points_of(results)
    by_params: dict[int, PowerLaw] = {}
    fitted: set[tuple[int, int]] = set()
    left_out = []
    for n_steps in sorted({point.n_steps for point in points}):
        along = [point for point in points if point.n_steps == n_steps]
        front = [along[i] for i in pareto_front([(point.n_params, point.loss.mean) for point in along])]
        try:
            by_params[n_steps] = fit([point.n_params for point in front], [point.loss.mean for point in front])
            fitted |= {point.size for point in front}
        except ValueError as error:
            left_out.append(f"No law of {n_steps:,} steps: {error}.")
    if not by_params:
        reason = left_out[0] if left_out else "No run with minibatches has finished."
        raise ValueError(f"{results.folder}: {reason[0].lower()}{reason[1:-1]}")
    by_flops = None
    if len({point.n_steps for point in points}) > 1:
        frontier = frontier_of(points)
        try:
            by_flops = fit([point.flops for point in frontier], [point.loss.mean for point in frontier])
        except ValueError as error:
            left_out.append(f"No law of compute: {error}.")
    known = {point.size for point in points}
    beside: list[Point] = []
    for other in others:
        theirs = points_of(other)
        new = [point for point in theirs if point.size not in known]
        if not new:
            raise ValueError(f"{other.folder} holds out no size and length that {results.folder} lacks")
        if len(new) < len(theirs):
            left_out.append(
                f"{count(len(theirs) - len(new), 'point')} of {other.folder}, of sizes that are known, left out."
            )
        beside += new
        known |= {point.size for point in new}
    return Scaling(tuple(points), by_params, by_flops, tuple(beside), frozenset(fitted), tuple(left_out))


def frontier_of(points: Sequence[Point]) -> list[Point]:
    """The points of which none has both less compute and a lower loss, by compute."""
    return [points[i] for i in pareto_front([(point.flops, point.loss.mean) for point in points])]


def point_rows(scaling: Scaling, sizes: Iterable[int] = ()) -> list[dict[str, Any]]:
    """One row a point, beside what the law of its length says; and what that of the longest says of some sizes."""
    rows = []
    points = (*scaling.points, *scaling.others)
    tuned = [axis for axis in AXES if axis != "n_steps" and len({point.cell.settings[axis] for point in points}) > 1]
    for point in points:
        law = scaling.predicted(point)
        row: dict[str, Any] = {
            "parameters": point.n_params,
            "n_steps": point.n_steps,
            "in_fit": point.size in scaling.fitted,
            "flops": point.flops,
            **{axis: point.cell.settings[axis] for axis in tuned},
            "at_edge": " ".join(point.at_edge),
            "n_seeds": point.loss.n,
            **point.loss.columns("dev_loss"),
            "train_loss": point.cell.estimate("train_loss").mean,
        }
        rows.append(row | (law.columns("law") | {"minus_law": point.loss.mean - law.mean} if law else {}))
    longest = max(scaling.by_params)
    for n_params in sizes:
        law = scaling.by_params[longest](n_params)
        rows.append({"parameters": n_params, "n_steps": longest, "in_fit": False, **law.columns("law")})
    return rows


def law_rows(scaling: Scaling) -> list[dict[str, Any]]:
    """One row a law: its floor, its factor at `scale`, its exponent, and how far its own points lie from it."""
    return [
        {
            "against": against,
            "n_steps": n_steps,
            "n_points": law.n,
            **law.number(0).columns("floor"),
            **law.number(1).columns("factor"),
            "scale": law.scale,
            **law.number(2).columns("exponent"),
            "noise": law.noise,
        }
        for against, n_steps, law in scaling.laws
    ]


def plot_scaling(scaling: Scaling) -> Figure:
    """Loss against parameters, one law a length, and against compute, with the frontier's law."""
    panels = 2 if scaling.by_flops else 1
    figure, axes = plt.subplots(1, panels, figsize=(5 * panels + 0.4, 4.2), sharey=True, squeeze=False)
    _plot_by_params(axes[0, 0], scaling)
    if scaling.by_flops:
        _plot_by_flops(axes[0, 1], scaling, scaling.by_flops)
    axes[0, 0].set_ylabel("dev loss (nats per token)")
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(
            lambda value, _: f"{value:,.0f}" if value < 1e7 else f"{value:.0e}".replace("+", "")
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(fontsize=7)
    set_title(
        figure,
        "Dev loss against parameters" + (" and training compute" if scaling.by_flops else ""),
        "every network at its best settings; lines are fitted power laws; bars and bands are 95 % intervals",
    )
    return figure


def _plot_by_params(ax: Axes, scaling: Scaling) -> None:
    shown = (*scaling.points, *scaling.others)
    lengths = sorted({point.n_steps for point in shown})[-len(MARKERS) :]
    x = np.geomspace(min(p.n_params for p in shown), max(p.n_params for p in shown), CURVE_POINTS)
    for n_steps, colour, marker in zip(lengths, LINE_COLOURS, MARKERS, strict=False):
        style: dict[str, Any] = {"color": colour, "fmt": marker, "markersize": 4, "capsize": 2, "linewidth": 0.8}
        for points, face, text in ((scaling.points, colour, ""), (scaling.others, "white", ", not in the fit")):
            along = [point for point in points if point.n_steps == n_steps]
            if along:
                means, halves = [p.loss.mean for p in along], [p.loss.half for p in along]
                label = f"{n_steps:,} steps{text}"
                sizes = [p.n_params for p in along]
                ax.errorbar(sizes, means, yerr=halves, markerfacecolor=face, label=label, **style)
        if n_steps in scaling.by_params:
            predicted = [scaling.by_params[n_steps](each) for each in x]
            ax.plot(x, [each.mean for each in predicted], color=colour, linewidth=1)
            if n_steps == max(scaling.by_params):
                low, high = [each.low for each in predicted], [each.high for each in predicted]
                ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    losses = [point.loss.mean for point in shown]
    reach = max(losses) - min(losses)
    ax.set_ylim(min(losses) - 0.25 * reach, max(losses) + 0.1 * reach)  # A band may be very wide at its ends.
    ax.set_xlabel("parameters")


def _plot_by_flops(ax: Axes, scaling: Scaling, law: PowerLaw) -> None:
    sizes = sorted({point.n_params for point in scaling.points})[-len(MARKERS) :]
    for n_params, colour, marker in zip(sizes, LINE_COLOURS, MARKERS, strict=False):
        along = [point for point in scaling.points if point.n_params == n_params]
        means = [p.loss.mean for p in along]
        label = f"{n_params:,} parameters"
        ax.plot([p.flops for p in along], means, color=colour, marker=marker, markersize=4, linewidth=0.8, label=label)
    frontier = frontier_of(scaling.points)
    x = np.geomspace(frontier[0].flops, frontier[-1].flops, CURVE_POINTS)
    ax.plot(x, [law(each).mean for each in x], "--", color="black", linewidth=1, label="law of the frontier")
    ax.set_xlabel("training compute (floating-point operations)")
