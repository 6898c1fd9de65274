"""The page of a sweep's folder, from its shards and the small files beside them. No JAX, and seconds only."""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from experiments.analysis.diagnostics import END, START, diagnostic
from experiments.analysis.effects import FEWEST_SEEDS, Importance, best_run, importance
from experiments.analysis.ensembles import EnsembleRow, chosen_words, ensembles_note, mixing_words, read_ensembles
from experiments.analysis.looks import HeldOut, describe_looks, read_looks
from experiments.analysis.results import SweepResults, load_baselines, open_sweep
from experiments.analysis.studies import Cell, Estimate, Study, best_study, estimate
from experiments.analysis.style import scheme_colour
from experiments.analysis.summary import describe_losses, looks_of
from experiments.analysis.trained_models import Samples, read_samples
from experiments.analysis.words import answers, facts, wording
from experiments.report.page_data import (
    EXPLANATION,
    MAX_TOKENS,
    ordered_runs,
    rounded,
    run_columns,
    run_curves,
    run_diagnostics,
    run_embeddings,
    run_samples,
    study_data,
)
from experiments.report.sections import Section, computed_sections, picture_uri, read_sections
from experiments.store.atomic import replace_file
from experiments.sweeps.text import percent
from mlp_lm.ngram.baselines import Baselines

FILE_NAME = "report.html"
WATCH_SECONDS = 5


@dataclass(frozen=True)
class Report:
    """All that a page is made of."""

    results: SweepResults
    baselines: Baselines
    samples: dict[str, Samples]
    looks: dict[str, HeldOut]
    all_looks: list[HeldOut]
    ensembles: list[EnsembleRow]
    sections: list[Section]


def write_report(folder: Path, everything: bool = False, refresh: int = 0) -> Path:
    """Write `report.html` into a sweep's folder, of the runs last asked for, or of `everything` that is there.

    With `refresh`, the page reloads itself after so many seconds.

    Raises:
        ValueError: not a sweep's folder, or one without a run.
    """
    path = folder / FILE_NAME
    replace_file(path, render(read_report(folder, everything), refresh).encode())
    return path


def watch_report(folder: Path, sleep: Callable[[float], None]) -> Iterator[tuple[int, int, Path | None]]:
    """Write a folder's report whenever more of its runs are finished, until all are.

    Yields the number of runs that are done and asked for, and the report's path, None before the first run.

    Raises:
        ValueError: not a sweep's folder.
    """
    before = None
    while True:
        results = open_sweep(folder)
        state = len(results.rows), len(results.request.run_ids)
        finished = state[0] == state[1]
        if state != before or finished:
            path = write_report(folder, refresh=0 if finished else WATCH_SECONDS) if results.rows else None
            yield (*state, path)
        if finished:
            return
        before = state
        sleep(WATCH_SECONDS)


def read_report(folder: Path, everything: bool = False) -> Report:
    """What a sweep's folder has to tell of the runs last asked for, or of all its runs.

    Raises:
        ValueError: not a sweep's folder, or one without a run.
    """
    results = open_sweep(folder, everything)
    if not results.rows:
        raise ValueError(f"{folder} has no finished run yet: run its sweep first")
    return Report(
        results,
        load_baselines(folder, results.request),
        read_samples(folder),
        looks_of(results),
        read_looks(folder),
        read_ensembles(results),
        _read_sections(results),
    )


def render(report: Report, refresh: int = 0) -> str:
    """The page as HTML; with `refresh`, one that reloads itself after so many seconds."""
    # Every value that is not Markup is escaped.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"loss": loss, "interval": interval, "percent": percent, "words": axis_words}
    environment.filters |= {"mixing": mixing_words, "chosen": chosen_words}
    return environment.from_string(asset("report.html")).render(
        refresh=refresh,
        request=report.results.request,
        answers=answers(report.results, report.baselines, report.looks),
        facts=facts(report.results),
        studies=[_study_view(study) for study in report.results.studies],
        counts=report.baselines,
        ensembles=report.ensembles,
        ensembles_note=ensembles_note(report.ensembles),
        sections=[(one, picture_uri(report.results.folder, one.picture)) for one in report.sections],
        all_looks=describe_looks(report.all_looks),
        wording=wording(report.results),
        losses=describe_losses(report.results),
        samples=_sample_view(report),
        explanation=EXPLANATION,
        style=Markup(asset("report.css")),
        policy=security_policy(),
        script=own_script(),
        data=embedded_json(page_data(report)),
    )


def page_data(report: Report) -> dict[str, Any]:
    """What the page's script plots."""
    rows = ordered_runs(report.results.studies)
    places = {row["run_id"]: place for place, row in enumerate(rows)}
    tokens = report.baselines.tokens
    best = best_study(report.results.studies)
    row = best_run(best.best) if best else None
    return {
        "tokens": list(tokens) if len(tokens) <= MAX_TOKENS else [],  # Which are all in an embedding's plane.
        "uniform": rounded(report.baselines.uniform, 7),
        "wording": wording(report.results),
        "runs": run_columns(rows),
        "curves": run_curves(rows),
        "diagnostics": run_diagnostics(rows),
        "embeddings": run_embeddings(report.results.store, rows, len(tokens)),
        "samples": run_samples(rows, report.samples),
        "studies": [study_data(study, places) for study in report.results.studies],
        "baselines": _ranked_baselines(report),
        "best": places[row["run_id"]] if row else 0,
    }


def embedded_json(value: Any) -> Markup:
    """JSON for a script element: no `<`, so nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, escape in escapes.items():
        text = text.replace(character, escape)
    # Lone surrogates cannot be encoded; JSON can say them.
    return Markup(text.encode("utf-8", "backslashreplace").decode())


def _ranked_baselines(report: Report) -> list[dict[str, Any]]:
    counts = report.baselines
    best = [min(rows, key=lambda row: row.dev_loss) for rows in counts.families.values()]
    rows = [{"name": row.name, "dev": row.dev_loss, "train": None} for row in best if math.isfinite(row.dev_loss)]
    lengths = sorted({row["block_size"] for row in report.results.rows} & counts.floors.keys())
    rows += [
        {
            "name": f"floor at {k} context tokens: no model has a lower train loss",
            "dev": None,
            "train": counts.floors[k],
        }
        for k in lengths
    ]
    return [*rows, {"name": "uniform: log of the vocabulary", "dev": counts.uniform, "train": counts.uniform}]


def _study_view(study: Study) -> dict[str, Any]:
    decomposition = importance(study)
    return {
        "name": study.name,
        "axes": study.axes,
        "n_cells": len(study.cells),
        "importance": decomposition if isinstance(decomposition, Importance) else None,
        "fixed": study.fixed,
        "caution": study.caution,
        "no_importance": decomposition if isinstance(decomposition, str) else "",
        "few_seeds": isinstance(decomposition, Importance) and decomposition.n_seeds < FEWEST_SEEDS,
        "schemes": _scheme_view(study) if "init" in study.axes else [],
    }


def _scheme_view(study: Study) -> list[dict[str, Any]]:
    """One line a configuration: how it begins and how it ends."""
    return [
        {
            "label": study.label(cell),
            "colour": scheme_colour(cell.settings["init"]),
            "initial": cell.estimate("initial_loss"),
            "early": estimate(row["history_dev_loss"][1] for row in cell.finished if row["history_dev_loss"][1]),
            "final": cell.estimate("dev_loss"),
            "to_best": study.to_best_words(cell),
            "saturated": _saturated(cell),
            "n_diverged": cell.n_diverged,
        }
        for cell in study.cells[:60]
    ]


def _saturated(cell: Cell) -> tuple[float, float] | None:
    """Share of saturated units of the first layer at step 0 and at the end, where diagnostics were recorded."""
    first, last = (diagnostic(cell, "saturated_share", evaluation) for evaluation in (START, END))
    return (first.mean, last.mean) if first.n and last.n else None


def _sample_view(report: Report) -> list[dict[str, Any]]:
    views = []
    for study in report.results.studies:
        row = best_run(study.best)
        if row is not None and row["run_id"] in report.samples:
            views.append({"study": study.name, "label": study.label(study.best), "one": report.samples[row["run_id"]]})
    return views


def loss(value: float | None) -> str:
    """Four digits, as everywhere."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4f}" if math.isfinite(value) else "infinite"


def interval(value: Estimate | None) -> str:
    """Mean ± half the interval."""
    return "–" if value is None else str(value)


def axis_words(axes) -> str:
    """The names of axes that act together."""
    return " × ".join(axes)


def _read_sections(results: SweepResults) -> list[Section]:
    """Sections that follow from the rows, then those of a study, but for those of runs no longer asked for."""
    run_ids = {row["run_id"] for row in results.rows}
    kept = [section for section in read_sections(results.folder) if set(section.run_ids) <= run_ids]
    return [*computed_sections(results), *kept]


SCRIPTS = ("dom", "theme", "plot", "table", "parallel", "charts", "embedding", "detail", "main")


def asset(name: str) -> str:
    """The text of a file of the page."""
    return resources.files("experiments.report").joinpath("page", name).read_text("utf-8")


@cache
def own_script() -> Markup:
    """The page's own script."""
    return Markup('\n(() => {\n"use strict";\n' + "\n".join(asset(f"{name}.js") for name in SCRIPTS) + "\n})();\n")


@cache
def security_policy() -> Markup:
    """Nothing may be fetched, and only the page's own script, known by its hash, may run."""
    digest = base64.b64encode(hashlib.sha256(own_script().encode()).digest()).decode()
    return Markup(f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:")
