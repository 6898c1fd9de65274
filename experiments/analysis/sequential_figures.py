"""What a sweep that looks at its seeds in between has to show: who got how many, why no more, and what follows."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.analysis.results import SweepResults
from experiments.analysis.sequential import BEHIND, BEST, FAILED, KNOWN, OPEN, OUT_OF_SEEDS, Outcome, outcome_of
from experiments.analysis.studies import Study
from experiments.analysis.style import COLOURS, set_title
from experiments.sweeps.text import printable

REASON_COLOURS = dict(zip((BEST, KNOWN, OUT_OF_SEEDS, OPEN, BEHIND, FAILED), COLOURS, strict=False))
MAX_BARS = 40


def seed_outcomes(results: SweepResults) -> Iterator[tuple[Study, Outcome]]:
    """The studies of a sweep whose seeds were chosen in looks, and what was decided."""
    have = {row["run_id"] for row in results.rows}
    for study in results.studies:
        wanted = results.request.studies.get(study.name)
        if wanted is None or not have.issuperset(wanted):
            continue  # Of earlier requests, or still training: nothing was decided.
        if outcome := outcome_of(study, results.request.design):
            yield study, outcome


def seed_rows(results: SweepResults) -> Iterator[dict[str, Any]]:
    """One row a configuration: its seeds, why it got no more, and its difference to the best at that look."""
    width = results.request.design.get("until", 0.0)
    for study, outcome in seed_outcomes(results):
        for place, verdict in sorted(outcome.verdicts.items()):
            yield {
                "study": study.name,
                **{axis: study.cells[place].settings[axis] for axis in study.axes},
                "n_seeds": verdict.n_seeds,
                "reason": verdict.reason,
                **verdict.to_best.columns("difference_at_look"),
                "conclusion": conclusion(study, outcome, place, width),
            }


def conclusion(study: Study, outcome: Outcome, place: int, width: float) -> str:
    """What may be said of a configuration."""
    verdict = outcome.verdicts[place]
    best = study.label(study.cells[verdict.best])
    n_left = sum(other.reason in (BEST, KNOWN, OUT_OF_SEEDS, OPEN) for other in outcome.verdicts.values())
    return {
        BEHIND: f"worse than {best}",
        FAILED: "a run diverged; nothing is said of the others",
        BEST: "the only one left",
        KNOWN: f"one of {n_left} whose differences are all known within ±{width:g}",
        OUT_OF_SEEDS: f"one of {n_left} that these seeds do not tell apart",
        OPEN: "still open: the same command goes on",
    }[verdict.reason]


def saving(study: Study, outcome: Outcome, n_seeds: int) -> float:
    """The share of the runs of so many seeds for every configuration that were not needed; below 0 where more were."""
    return 1 - sum(outcome.n_wanted.values()) / (n_seeds * len(study.cells))


def plot_seeds(study: Study, outcome: Outcome) -> Figure:
    """How many seeds each configuration got, best on top, and why it got no more."""
    places = [place for place in range(len(study.cells)) if place in outcome.verdicts][:MAX_BARS]
    figure, ax = plt.subplots(figsize=(7.5, 1.4 + 0.24 * len(places)))
    shown = set()
    for row, place in enumerate(places):
        verdict = outcome.verdicts[place]
        label = verdict.reason if verdict.reason not in shown else None
        shown.add(verdict.reason)
        ax.barh(row, verdict.n_seeds, color=REASON_COLOURS[verdict.reason], height=0.7, label=label)
        if verdict.reason == BEHIND:
            text = f" +{verdict.to_best.mean:.4f} ± {verdict.to_best.half:.4f}"
            ax.text(verdict.n_seeds, row, text, va="center", fontsize=7)
    ax.set_yticks(range(len(places)), [printable(study.label(study.cells[place])) for place in places], fontsize=8)
    ax.set_ylim(len(places) - 0.4, -0.6)
    ax.margins(x=0.25)
    ax.set_xlabel("seeds")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    of_all = f" of {len(study.cells)}" if len(places) < len(study.cells) else ""
    set_title(
        figure,
        f"{study.name}: seeds of {len(places)}{of_all} configurations, and why they got no more",
        "beside those that are behind: by how much at that look, with the interval of that look",
    )
    return figure
