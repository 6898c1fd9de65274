"""A smooth surface through the losses of a study whose axes have ranges, what each axis does to it, and its figures.

The surface is a Gaussian process with a squared-exponential kernel of one length an axis; listed values are equally
correlated with one another, and runs of several seeds have less noise (Rasmussen and Williams 2006, chapters 2 and 5).
Its averages over axes are normal too, with means and covariances in closed form (Oakley and O'Hagan 2004, sections 2
and 3). So curves and shares of the variance come with intervals: draws of the surface given the points. They cover
what the points leave open of the surface and of its lengths, but not the choice of kernel.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from scipy import linalg, optimize, special

from experiments.analysis.effects import Share, axis_values, value_name
from experiments.analysis.studies import CONFIDENCE, Cell, Estimate, Study, describe
from experiments.analysis.style import BLUE, COLOURS, ORANGE, PANELS_A_ROW, far_off, set_title

FEWEST_POINTS = 4  # For each axis that varies.
MOST_POINTS = 800  # A fit takes time in their third power; the first ones of a sequence fill the space too.
N_SURFACES = 12  # Whose lengths are drawn, because few points leave them open.
STEP = 0.05  # In the logarithm of a length, for the curvature of the likelihood.
WEAKEST_CURVATURE = 0.25  # Of the likelihood: what says next to nothing of a length leaves it within e^2.
CURVE_POINTS = 33
PAIR_POINTS = 9
SURFACE_POINTS = 256  # Over which the variance of the whole surface is measured.
N_DRAWS = 500
N_NEIGHBOURS = 5
JITTER = 1e-8  # Of the surface's variance, so that a covariance can be factored.
AVERAGED = math.nan  # A coordinate that a function of the surface is averaged over.

CONTOUR_POINTS = 41  # Along each side of the figure.
N_CONTOURS = 12


@dataclass(frozen=True)
class Surface:
    """A Gaussian process given some losses.

    Attributes:
        levels: by axis, the number of its listed values; 0 for a range.
        points: coordinates `[point, axis]`: shares of a range from 0 to 1, or places in a list.
        losses: dev losses `[point]`, nats per token.
        scales: by axis, the kernel's length as a share of the range, or the correlation of two listed values.
        mean: of the process, nats per token.
        variance: of the process.
        noise: its variance at each point, `[point]`.
    """

    levels: tuple[int, ...]
    points: Float[np.ndarray, "point axis"]
    losses: Float[np.ndarray, " point"]
    scales: Float[np.ndarray, " axis"]
    mean: float
    variance: float
    noise: Float[np.ndarray, " point"]

    def posterior(self, at: Float[np.ndarray, "n axis"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
        """Mean and covariance of the surface at some coordinates, averaged over those that are AVERAGED."""
        cross = self.variance * kernel(self.levels, self.scales, at, self.points)
        own = self.variance * kernel(self.levels, self.scales, at, at)
        mean = self.mean + cross @ linalg.cho_solve(self._factor, self.losses - self.mean)
        ones = linalg.cho_solve(self._factor, np.ones_like(self.losses))
        unknown = (1 - cross @ ones)[:, None]  # How much of the fitted mean enters; it is known no better than this.
        covariance = own - cross @ linalg.cho_solve(self._factor, cross.T) + unknown @ unknown.T / ones.sum()
        return mean, covariance

    @functools.cached_property
    def _factor(self) -> tuple[np.ndarray, bool]:
        covariance = self.variance * kernel(self.levels, self.scales, self.points, self.points)
        return linalg.cho_factor(covariance + np.diag(self.noise + JITTER * self.variance), lower=True)

    @functools.cached_property
    def left_out_errors(self) -> Float[np.ndarray, " point"]:
        """Each loss minus its prediction from all others (Rasmussen and Williams 2006, equation 5.12)."""
        inverse = linalg.cho_solve(self._factor, np.eye(len(self.losses)))
        return (inverse @ (self.losses - self.mean)) / np.diag(inverse)


def kernel(
    levels: Sequence[int],
    scales: Float[np.ndarray, " axis"],
    a: Float[np.ndarray, "n axis"],
    b: Float[np.ndarray, "m axis"],
) -> Float[np.ndarray, "n m"]:
    """Correlations of a surface at two sets of coordinates, each averaged over those that are AVERAGED."""
    product = np.ones((len(a), len(b)))
    for axis, (n_levels, scale) in enumerate(zip(levels, scales, strict=True)):
        u, v = a[:, axis][:, None], b[:, axis][None, :]
        if n_levels:
            one = np.where(u == v, 1.0, scale)
            average = both = (1 + (n_levels - 1) * scale) / n_levels
        else:
            one = np.exp(-0.5 * ((u - v) / scale) ** 2)
            place, width = np.where(np.isnan(u), v, u), scale * math.sqrt(2)
            average = scale * math.sqrt(math.pi / 2) * (special.erf((1 - place) / width) + special.erf(place / width))
            both = scale * math.sqrt(2 * math.pi) * math.erf(1 / width) + 2 * scale**2 * math.expm1(-1 / width**2)
        product *= np.where(np.isnan(u) & np.isnan(v), both, np.where(np.isnan(u) | np.isnan(v), average, one))
    return product


@dataclass(frozen=True)
class Response:
    """The surfaces of a study, the most probable one first, and where its cells lie.

    `limit` is the highest loss that counts as itself: higher ones, and diverged runs, count as this one.
    """

    study: Study
    axes: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    cells: tuple[Cell, ...]
    limit: float
    n_limited: int

    @property
    def surface(self) -> Surface:
        """The most probable one."""
        return self.surfaces[0]

    def posterior(self, at: Float[np.ndarray, "n axis"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
        """Mean and covariance, over all surfaces that the points allow (see `Surface.posterior`)."""
        means, total = [], np.zeros((len(at), len(at)))
        for surface in self.surfaces:  # One covariance at a time: with ten ranges each has 140 MB.
            mean, covariance = surface.posterior(at)
            means.append(mean)
            total += covariance
        return np.mean(means, axis=0), total / len(means) + np.cov(np.array(means), rowvar=False, ddof=0)

    def value(self, axis: str, coordinate: float) -> Any:
        """The value of an axis at a coordinate."""
        if axis in self.study.ranges:
            return self.study.ranges[axis].value(coordinate, False)
        return axis_values(self.study, axis)[int(coordinate)]

    def coordinates(self, axis: str, n: int) -> Float[np.ndarray, " n"]:
        """Of a range, the middles of n equal parts; of a list, all places."""
        n_levels = self.surface.levels[self.axes.index(axis)]
        return np.arange(n_levels, dtype=float) if n_levels else (np.arange(n) + 0.5) / n

    def grid(self, axes: Sequence[str], n: int) -> Float[np.ndarray, "place axis"]:
        """All combinations of the coordinates of some axes, averaged over all others."""
        combinations = np.array(list(itertools.product(*(self.coordinates(axis, n) for axis in axes))))
        places = np.full((len(combinations), len(self.axes)), AVERAGED)
        places[:, [self.axes.index(axis) for axis in axes]] = combinations
        return places

    def marginal(self, axis: str) -> tuple[list[Any], list[Estimate]]:
        """Values of an axis, and the mean of the surface there over all other axes, with a 95 % band."""
        places = self.grid([axis], CURVE_POINTS)
        mean, covariance = self.posterior(places)
        half = special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(np.maximum(np.diag(covariance), 0))
        values = [self.value(axis, place) for place in places[:, self.axes.index(axis)]]
        bands = zip(mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), strict=True)
        return values, [Estimate(*band, len(self.cells)) for band in bands]

    @functools.cached_property
    def shares(self) -> list[Share]:
        """Of the surface's variance: what each axis explains, and each pair beyond it, the largest first.

        Medians and 95 % intervals over draws of the surface given the points.
        """
        parts = [(axis,) for axis in self.axes] + list(itertools.combinations(self.axes, 2))
        blocks = [self.grid(part, CURVE_POINTS if len(part) == 1 else PAIR_POINTS) for part in parts]
        blocks.append(self._scattered())
        mean, covariance = self.posterior(np.concatenate(blocks))
        covariance[np.diag_indices_from(covariance)] += 10 * JITTER * self.surface.variance
        normal = np.random.default_rng(0).standard_normal((N_DRAWS, len(mean)))
        draws = mean + normal @ linalg.cholesky(covariance, lower=True).T
        *pieces, whole = np.split(draws, np.cumsum([len(block) for block in blocks])[:-1], axis=1)
        total = np.maximum(whole.var(axis=1), np.finfo(float).tiny)
        shares = [self._share(part, piece, total) for part, piece in zip(parts, pieces, strict=True)]
        return sorted(shares, key=lambda share: -share.value)

    def _scattered(self) -> Float[np.ndarray, "point axis"]:
        from scipy.stats import qmc  # SciPy is slow to import, and few sweeps have ranges.

        sequence = qmc.Sobol(len(self.axes), rng=np.random.default_rng(1))
        places = sequence.random(SURFACE_POINTS)
        for axis, n_levels in enumerate(self.surface.levels):
            if n_levels:
                places[:, axis] = np.floor(places[:, axis] * n_levels)
        return places

    def _share(self, part: tuple[str, ...], piece: np.ndarray, total: np.ndarray) -> Share:
        variances = piece.var(axis=1)
        if len(part) == 2:
            grids = piece.reshape(len(piece), len(self.coordinates(part[0], PAIR_POINTS)), -1)
            variances = variances - grids.mean(axis=2).var(axis=1) - grids.mean(axis=1).var(axis=1)
        tail = (1 - CONFIDENCE) / 2
        low, middle, high = np.quantile(variances / total, (tail, 0.5, 1 - tail)).tolist()
        return Share(part, middle, low, high)

    def most_important(self, n: int = 2) -> list[str]:
        """The ranges that take part in most of the variance, alone and in pairs."""
        totals = {axis: sum(share.value for share in self.shares if axis in share.axes) for axis in self.study.ranges}
        return sorted((axis for axis in self.axes if axis in totals), key=lambda axis: -totals[axis])[:n]

    def neighbours(self) -> list[tuple[Cell, float]]:
        """The best cell and those nearest to it, with their distances: one is a kernel's length, or another name."""
        place = {id(cell): point for cell, point in zip(self.cells, self.surface.points, strict=True)}
        lengths = np.where(np.array(self.surface.levels) > 0, np.inf, self.surface.scales)
        is_listed = np.array(self.surface.levels) > 0

        def distance(cell: Cell) -> float:
            apart = place[id(cell)] - place[id(self.study.best)]
            return float(np.sqrt(((apart / lengths) ** 2 + (is_listed & (apart != 0))).sum()))

        near = sorted(self.cells, key=distance)[: N_NEIGHBOURS + 1]
        return [(cell, distance(cell)) for cell in near]

    def how(self) -> str:
        """In words, where curves and shares come from, and how far they can be trusted."""
        error = math.sqrt(float((self.surface.left_out_errors**2).mean()))
        spread = float(self.surface.losses.std())
        limited = f" {self.n_limited} diverged or are above {self.limit:.4f}, and count as that." * (self.n_limited > 0)
        return (
            f"Estimated from a Gaussian process through {len(self.cells)} configurations.{limited} It predicts one "
            f"that it has not seen with an error of {error:.4f} (root mean square; the losses spread by {spread:.4f}). "
            "Bands and intervals are 95 % of what the points leave open, the choice of this kind of curve apart: in a "
            "simulation with three axes they held the truth in 86 % of the cases with 32 points, and in 90 % with 64."
        )


def fit_response(study: Study) -> Response | str:
    """The surface of a study that has ranges, or in words why there is none."""
    axes, cells = study.axes, study.cells
    needed = FEWEST_POINTS * len(axes)
    if len(cells) < needed:
        return f"No curves: {len(cells)} configurations are too few for {len(axes)} axes; at least {needed} are needed."
    off = [
        axis
        for axis, drawn in study.ranges.items()
        if not all(drawn.low <= cell.settings[axis] <= drawn.high for cell in cells)
    ]
    if off:
        return f"No curves: some values of {', '.join(off)} lie outside the range."
    in_order = sorted(range(len(cells)), key=lambda i: cells[i].rows[0]["run_id"])[:MOST_POINTS]
    if 0 not in in_order:
        in_order[-1] = 0  # The best one is always among them.
    cells = tuple(cells[i] for i in sorted(in_order))
    means = [cell.estimate("dev_loss").mean if not cell.n_diverged else math.inf for cell in cells]
    finite = [mean for mean in means if math.isfinite(mean)]
    if len(finite) < needed:
        return f"No curves: {len(finite)} of {len(cells)} configurations have no diverged run, and {needed} are needed."
    limit = min(far_off(finite), max(finite))
    places = {axis: {value: i for i, value in enumerate(axis_values(study, axis))} for axis in axes}
    points = tuple(
        tuple(
            study.ranges[axis].share(cell.settings[axis])
            if axis in study.ranges
            else float(places[axis][cell.settings[axis]])
            for axis in axes
        )
        for cell in cells
    )
    levels = tuple(0 if axis in study.ranges else len(places[axis]) for axis in axes)
    losses = tuple(min(mean, limit) for mean in means)
    if np.ptp(losses) == 0:
        return "No curves: all configurations have the same dev loss."
    surfaces = fit_surfaces(levels, points, losses, tuple(max(len(cell.finished), 1) for cell in cells))
    return Response(study, axes, surfaces, cells, limit, sum(mean > limit for mean in means))


@functools.lru_cache(maxsize=32)  # Tables, figures and a page ask for the same one.
def fit_surfaces(
    levels: tuple[int, ...],
    points: tuple[tuple[float, ...], ...],
    losses: tuple[float, ...],
    n_seeds: tuple[int, ...],
) -> tuple[Surface, ...]:
    """The surface whose lengths, correlations and noise make these losses most probable, and then draws around it.

    With a weak prior, that lengths are about half a range (a factor of e either way), so that few points do not make a
    curve that goes through each of them. Mean and variance are those of highest likelihood given the
    rest, which is that of differences between losses (REML: Patterson and Thompson 1971).
    """
    x, y, few = np.array(points), np.array(losses), 1 / np.array(n_seeds)
    is_listed = np.array(levels) > 0

    def scales_of(parameters: np.ndarray) -> np.ndarray:
        return np.where(is_listed, special.expit(parameters[:-1]), np.exp(parameters[:-1]))

    def fit(parameters: np.ndarray) -> tuple[float, float, float]:
        """The negative log posterior, and the mean and variance."""
        noise = np.exp(parameters[-1]) * few
        correlation = kernel(levels, scales_of(parameters), x, x) + np.diag(noise + JITTER)
        factor = linalg.cho_factor(correlation, lower=True)
        ones = linalg.cho_solve(factor, np.ones_like(y))
        mean = float(ones @ y / ones.sum())
        variance = float((y - mean) @ linalg.cho_solve(factor, y - mean)) / (len(y) - 1)
        half_log_det = float(np.log(np.diag(factor[0])).sum())
        centre = np.where(is_listed, 0.0, math.log(0.5))
        prior = 0.5 * float(((parameters[:-1] - centre) ** 2).sum())
        likelihood = 0.5 * (len(y) - 1) * math.log(variance) + half_log_det + 0.5 * math.log(ones.sum())
        return likelihood + prior, mean, variance

    bounds = [(-5.0, 5.0) if listed else (math.log(0.05), math.log(20)) for listed in is_listed] + [(-12.0, 3.0)]
    starts = [np.append(np.where(is_listed, 0.0, math.log(0.5)), log_noise) for log_noise in (-6.0, -2.0)]
    best = min(
        (optimize.minimize(lambda p: fit(p)[0], start, method="L-BFGS-B", bounds=bounds) for start in starts),
        key=lambda result: result.fun,
    )
    # By the curvature at the best (Laplace's method): which other parameters are about as probable.
    steps = STEP * np.eye(len(best.x))
    curvature = np.array([[_second_difference(lambda p: fit(p)[0], best.x, a, b) for a in steps] for b in steps])
    eigenvalues, directions = np.linalg.eigh(curvature / STEP**2)
    spreads = directions / np.sqrt(np.maximum(eigenvalues, WEAKEST_CURVATURE))
    normal = np.random.default_rng(0).standard_normal((N_SURFACES - 1, len(best.x)))
    low, high = np.array(bounds).T
    surfaces = []
    for parameters in (best.x, *np.clip(best.x + normal @ spreads.T, low, high)):
        _, mean, variance = fit(parameters)
        noise = variance * np.exp(parameters[-1]) * few
        surfaces.append(Surface(levels, x, y, scales_of(parameters), mean, variance, noise))
    return tuple(surfaces)


def _second_difference(function: Callable, at: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return (function(at + a + b) - function(at + a - b) - function(at - a + b) + function(at - a - b)) / 4


def responses(studies: Iterable[Study]) -> Iterator[Response]:
    """The surfaces of those studies that have ranges, and points enough."""
    for study in studies:
        if study.ranges and isinstance(response := fit_response(study), Response):
            yield response


def response_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a share of a surface's variance."""
    for response in responses(studies):
        for share in response.shares:
            yield {
                "study": response.study.name,
                "axes": " x ".join(share.axes),
                "share": share.value,
                "share_low": share.low,
                "share_high": share.high,
                "n_points": len(response.cells),
            }


def marginal_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a value of an axis: the mean of the surface over all other axes, with its band."""
    for response in responses(studies):
        for axis in response.axes:
            for value, band in zip(*response.marginal(axis), strict=True):
                yield {"study": response.study.name, "axis": axis, "value": value, **band.columns("dev_loss")}


def neighbour_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """The best configuration of each study with ranges, and its neighbours."""
    for response in responses(studies):
        for cell, distance in response.neighbours():
            columns: dict[str, Any] = {axis: cell.settings[axis] for axis in response.axes}
            columns |= {"distance": distance, **cell.estimate("dev_loss").columns("dev_loss")}
            yield {"study": response.study.name, **columns} | response.study.to_best(cell).columns("difference_to_best")


def plot_marginals(response: Response) -> Figure:
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
            ax.plot(places, mean, color=BLUE, linewidth=1.4, label="mean over all other axes")
            ax.fill_between(places, low, high, color=BLUE, alpha=0.25, linewidth=0, label="95 % band")
            if response.study.ranges[axis].log:
                _log_scale(ax, "x")
        else:
            half = [(h - lower) / 2 for h, lower in zip(high, low, strict=True)]
            ax.errorbar(places, mean, yerr=half, fmt="o", color=BLUE, capsize=3, markersize=4)
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


def plot_contour(response: Response) -> Figure | None:
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
    filled = ax.contourf(along, up, heights, levels=N_CONTOURS, cmap="cividis_r")
    ax.contour(along, up, heights, levels=filled.levels, colors="white", linewidths=0.4, alpha=0.6)
    x, y = (
        [cell.settings[axis] for cell, shown in zip(response.cells, is_shown, strict=True) if shown] for axis in pair
    )
    shades: dict[str, Any] = {"vmin": min(filled.levels), "vmax": max(filled.levels), "cmap": "cividis_r"}
    ax.scatter(x, y, s=14, c=response.surface.losses[is_shown], edgecolors="black", linewidth=0.6, **shades)
    star = best[pair[0]], best[pair[1]]
    ax.scatter([star[0]], [star[1]], s=160, marker="*", color=ORANGE, edgecolors="black", linewidth=0.6, zorder=3)
    ax.annotate("best", star, xytext=(8, 6), textcoords="offset points", fontweight="bold", zorder=3)
    for axis, name in zip(pair, ("x", "y"), strict=True):
        range_ = response.study.ranges[axis]
        ax.set(**{f"{name}label": axis.replace("_", " "), f"{name}lim": (range_.low, range_.high)})
        if range_.log:
            _log_scale(ax, name)
    ax.grid(False)
    figure.colorbar(filled, ax=ax, label="dev loss (nats per token)")
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
