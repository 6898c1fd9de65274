"""The figures of the walk, from what its sections return."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.analysis.figures import VOWELS
from experiments.analysis.studies import estimate
from experiments.analysis.style import BLUE, COLOURS, GREEN, ORANGE, STYLE, set_title
from experiments.lecture.published import LATER
from experiments.sweeps.text import printable

GREY = "#666666"
MOMENTS = 6  # Of the film strip.
WITHIN = 0.9  # Of the characters, which decide its scale.
Measured = dict[str, Any]


def plot_figure(section: str, measured: Measured) -> Figure | None:
    """A section's figure; None where it has none."""
    plot = PLOTS.get(section)
    if plot is None or (section == "embedding" and "film" not in measured):
        return None
    with plt.rc_context(STYLE):
        return plot(measured)


def plot_windows(measured: Measured) -> Figure:
    """The windows of the first two words: a row a window, context in blue, target in orange."""
    five, windows, vocabulary = measured["windows"]
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.9))
    start, longest = 0, max(len(word) + 1 for word in five[:2])
    for ax, word in zip(axes, five[:2], strict=True):
        rows = range(start, start + len(word) + 1)
        start += len(word) + 1
        for y, i in enumerate(rows):
            characters = [*(vocabulary.tokens[k] for k in windows.contexts[i]), vocabulary.tokens[windows.targets[i]]]
            for x, character in enumerate(characters):
                is_target = x == len(characters) - 1
                place, colour = (x + 0.8 * is_target, -y), ORANGE if is_target else BLUE
                ax.add_patch(plt.Rectangle((place[0] - 0.45, place[1] - 0.42), 0.9, 0.84, color=colour, alpha=0.25))
                ax.text(*place, printable(character), ha="center", va="center", family="monospace", fontsize=11)
            ax.annotate("", (3.25, -y), (2.55, -y), arrowprops={"arrowstyle": "->", "color": GREY})
        ax.set_xlim(-0.6, 4.4)
        ax.set_ylim(-longest + 0.4, 0.6)
        ax.set_title(f"{printable(word)}: {len(rows)} windows", fontsize=9)
        ax.axis("off")
    set_title(figure, "Windows of block size 3: three characters (blue) and the one after them (orange)", "")
    return figure


def plot_five_names(measured: Measured) -> Figure:
    """The loss of the overfitted names above its floor."""
    figure, ax = plt.subplots(figsize=(6, 3))
    losses, floor = measured["losses"], measured["floor"]
    ax.loglog(np.arange(len(losses)) + 1, losses, color=BLUE)
    ax.axhline(floor, color=ORANGE, linestyle="--", linewidth=1)
    ax.annotate(f"floor {floor:.4f}", (1.2, floor), (0, 4), textcoords="offset points", color=ORANGE)
    ax.set_xlabel("update (from 1)")
    ax.set_ylabel("loss before it (nats)")
    set_title(figure, f"{len(losses):,} full-batch updates on five names come close to the floor", "")
    return figure


def plot_minibatches(measured: Measured) -> Figure:
    """Dev loss against steps and against examples seen, full batch beside minibatches."""
    figure, (by_step, by_work) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    curves = measured["curves"]
    n_windows = measured["n_windows"]
    sizes = {
        "full batch": (n_windows, ORANGE),
        "minibatches of 32": (32, BLUE),
        "minibatches of 32, longer": (32, BLUE),
    }
    for label, rows in curves.items():
        size, colour = sizes[label]
        steps = np.array(rows[0]["history_step"])
        losses = np.array([row["history_dev_loss"] for row in rows])
        n = len(losses)
        for ax, x in ((by_step, steps), (by_work, steps * size)):
            if ax is by_step and label.endswith("longer"):
                continue
            _band(ax, x[1:], losses[:, 1:], colour, "" if label.endswith("longer") else f"{label}, {n} seeds")
    by_step.set_xlabel("step")
    by_work.set_xscale("log")
    by_work.set_xlabel("examples seen")
    by_step.set_yscale("log")
    by_step.set_yticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
    by_step.minorticks_off()
    by_step.set_ylabel("dev loss (nats per character)")
    by_step.legend(loc="upper right")
    set_title(
        figure,
        "A hundred steps are much the same; for the same examples, minibatches are far ahead",
        "mean and 95 % band",
    )
    return figure


def plot_finder(measured: Measured) -> Figure:
    """The smoothed loss while the rate rises, with its band over seeds and its minimum."""
    rates, smooth, chosen = measured["curve"]
    figure, ax = plt.subplots(figsize=(6, 3.3))
    ax.plot(rates, smooth.T, color=BLUE, alpha=0.25, linewidth=0.5)
    _band(ax, rates, smooth, BLUE, "")
    mean = smooth.mean(axis=0)
    ax.axvline(chosen, color=ORANGE, linestyle="--", linewidth=1)
    ax.text(chosen * 0.95, mean.max() * 0.95, f"minimum {chosen:.2f}", color=ORANGE, ha="right", va="top")
    ax.set_xscale("log")
    ax.set_ylim(mean.min() - 0.5, mean.max() * 1.02)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("minibatch loss (nats)")
    set_title(
        figure, "The learning-rate finder, d = 2, h = 100", f"{len(smooth)} seeds (thin), mean and 95 % band, smoothed"
    )
    return figure


def plot_changes(measured: Measured) -> Figure:
    """Train and dev of every change: the distance between the two is what is learnt by heart."""
    runs = dict(sorted(measured["runs"].items(), key=lambda one: -np.mean([row["dev_loss"] for row in one[1]])))
    figure, ax = plt.subplots(figsize=(7, 0.42 * len(runs) + 1.3))
    for y, rows in enumerate(runs.values()):
        both = [estimate(row[name] for row in rows) for name in ("train_loss", "dev_loss")]
        for one, colour, offset in zip(both, (BLUE, ORANGE), (0.14, -0.14), strict=True):
            ax.errorbar(one.mean, y + offset, xerr=one.half, fmt="o", color=colour, markersize=5, capsize=2)
    ax.plot([], [], "o", color=BLUE, label="train")
    ax.plot([], [], "o", color=ORANGE, label="dev")
    ax.legend(loc="lower left")
    ax.set_yticks(range(len(runs)), runs)
    ax.set_xlabel("loss (nats per character)")
    n = len(next(iter(runs.values())))
    set_title(
        figure,
        "Train and dev after each change: close together means under-fitting",
        f"mean and 95 % interval, {n} seeds",
    )
    return figure


def plot_film(measured: Measured) -> Figure:
    """The embedding at six moments of one run, vowels in orange."""
    steps, tables, tokens = measured["film"]
    chosen = np.unique(np.round((len(steps) - 1) * np.linspace(0, 1, MOMENTS) ** 2).astype(int))
    figure, axes = plt.subplots(2, 3, figsize=(8, 5.6))
    for ax, i in zip(axes.flat, chosen, strict=False):
        table = tables[i]
        middle = np.median(table, axis=0)
        reach = 1.3 * np.quantile(np.abs(table - middle).max(axis=1), WITHIN)
        for token, (x, y) in zip(tokens, np.clip(table, middle - reach, middle + reach), strict=True):
            vowel = token in VOWELS
            ax.scatter(
                x, y, s=110, color=COLOURS[4] if vowel else COLOURS[5], alpha=0.6 if vowel else 0.35, linewidth=0
            )
            ax.text(
                x, y, printable(token), ha="center", va="center", fontsize=8, fontweight="bold" if vowel else "normal"
            )
        ax.set_xlim(middle[0] - 1.1 * reach, middle[0] + 1.1 * reach)
        ax.set_ylim(middle[1] - 1.1 * reach, middle[1] + 1.1 * reach)
        ax.set_title(f"step {steps[i]:,}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    for ax in axes.flat[len(chosen) :]:
        ax.set_visible(False)
    set_title(
        figure,
        "The two-dimensional embedding as it forms (vowels in orange)",
        "one run; each picture has its own scale, and characters that lie beyond it stand on its edge",
    )
    return figure


def plot_maps(measured: Measured) -> Figure:
    """White where a tanh is saturated: windows of the first minibatch against hidden units."""
    maps = measured["maps"]
    figure, axes = plt.subplots(len(maps), 1, figsize=(7, 1.45 * len(maps) + 0.6), sharex=True)
    for ax, (scheme, hidden) in zip(axes, maps.items(), strict=True):
        saturated = np.abs(hidden) > 0.99
        ax.imshow(saturated, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        ax.set_title(f"{scheme}: {100 * saturated.mean():.1f} % saturated", fontsize=9)
        ax.set_ylabel("window")
        ax.grid(False)
    axes[-1].set_xlabel("hidden unit")
    set_title(figure, "White: |tanh| > 0.99 on the first minibatch, where hardly any gradient passes", "")
    return figure


def plot_ladder(measured: Measured) -> Figure:
    """Dev losses from a uniform guess to the ensemble, highest first, on two scales."""
    rungs = [*measured["rungs"]]
    if measured["is_lecture"]:
        rungs += [(label, estimate([value]), "published, not trained here") for label, value in LATER.items()]
    rungs.sort(key=lambda rung: -rung[1].mean)
    colours = dict(zip(KINDS, (GREY, BLUE, GREEN, ORANGE), strict=True))
    figure, ax = plt.subplots(figsize=(8, 0.3 * len(rungs) + 1.2))
    shown = [rung for rung in rungs if rung[2] in colours]
    low, second = shown[-1][1].mean, sorted((rung[1].mean for rung in shown), reverse=True)[1]
    for y, (_, loss, kind) in enumerate(reversed(shown)):
        place = min(loss.mean, second + 0.1 * (second - low))  # The uniform guess is far off.
        ax.errorbar(place, y, xerr=loss.half or None, fmt="o", color=colours[kind], markersize=5, capsize=2)
        arrow = " →" if place < loss.mean else ""
        digits = 3 if kind == KINDS[-1] else 4
        ax.annotate(
            f"{loss.mean:.{digits}f}{arrow}",
            (place + loss.half, y),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for kind in KINDS:
        if any(rung[2] == kind for rung in shown):
            ax.plot([], [], "o", color=colours[kind], label=kind)
    ax.legend(loc="lower right")
    ax.set_yticks(range(len(shown)), [printable(rung[0]) for rung in reversed(shown)])
    ax.set_xlim(right=second + 0.22 * (second - low))
    ax.set_xlabel("dev loss (nats per character)")
    set_title(figure, "A ladder of losses", "with several seeds, mean and 95 % interval; → lies further right")
    return figure


KINDS = ("counting", "the lecture's steps", "this project's studies", "published, not trained here")
PLOTS: dict[str, Callable[[Measured], Figure]] = {
    "data": plot_windows,
    "five_names": plot_five_names,
    "minibatches": plot_minibatches,
    "finder": plot_finder,
    "changes": plot_changes,
    "embedding": plot_film,
    "initialisation": plot_maps,
    "ladder": plot_ladder,
}


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """The mean over seeds, and its 95 % interval as a band."""
    each = [estimate(column) for column in values.T]
    if len(values) > 1:
        ax.fill_between(x, [e.low for e in each], [e.high for e in each], color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, [e.mean for e in each], color=colour, linewidth=1.4, label=label or None)
