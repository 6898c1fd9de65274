"""What the page knows of a study: its cells, effects, curves and importance, ready to draw."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.findings.analysis import Cell, Estimate, Study, paired_difference
from experiments.findings.effects import curve, imbalance, interactions, is_ordered, main_effects, value_name
from experiments.findings.palette import LINE_COLOURS, SCHEME_COLOURS
from experiments.report.run_data import rounded, thinned

MAX_CURVES = 12
DASHES = ("solid", "dash", "dot", "dashdot")
MAX_PAIR_CELLS = 400
BEST, CLOSE, UNDER, OVER, UNKNOWN = "best", "close", "under-fits", "over-fits", "diverged"

EXPLANATION = (
    "Compared with the best configuration, by intervals of differences paired by seed: one that is worse on dev "
    "under-fits where its train loss is higher too, and over-fits where its train loss is lower. Where the dev "
    "interval holds zero (or there is one seed), it is close."
)


def study_data(study: Study, places: Mapping[str, int]) -> dict[str, Any]:
    """A study for the page; `places` are the runs' places in its columns."""
    cells = [_cell_data(cell, study, places) for cell in study.cells]
    balanced = imbalance(study) is None
    return {
        "name": study.name,
        "axes": list(study.axes),
        "cells": [cell for cell in cells if cell["runs"]],
        "balanced": balanced,
        "main": _main_data(study) if balanced else [],
        "pairs": _pair_data(study) if balanced else [],
        "curves": [_curve_data(study, cell, i) for i, cell in enumerate(shown_cells(study))],
    }


def shown_cells(study: Study) -> list[Cell]:
    """The best cells, as many as curves can be told apart."""
    return [cell for cell in study.cells if cell.finished][:MAX_CURVES]


def _cell_data(cell: Cell, study: Study, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "values": [_plain(cell.settings[axis]) for axis in study.axes],
        "runs": [places[row["run_id"]] for row in cell.rows if row["run_id"] in places],
        "n": len(cell.finished),
        "n_diverged": cell.n_diverged,
        "n_params": cell.rows[0]["n_params"],
        "dev": numbers(cell.estimate("dev_loss")),
        "to_best": None if cell is study.best else numbers(paired_difference(cell, study.best)),
        "unseen": numbers(cell.estimate("dev_unseen_loss")),
        "train": numbers(cell.estimate("train_loss")),
        "fit": fit_of(cell, study),
    }


def fit_of(cell: Cell, study: Study) -> str:
    """A cell's name among BEST, CLOSE, UNDER, OVER and UNKNOWN."""
    if not cell.finished:
        return UNKNOWN
    if cell is study.best:
        return BEST
    if not paired_difference(cell, study.best).low > 0:
        return CLOSE
    return OVER if paired_difference(cell, study.best, "train_loss").mean < 0 else UNDER


def _main_data(study: Study) -> list[dict[str, Any]]:
    told = []
    for axis in study.axes:
        effects = main_effects(study, axis)
        told.append(
            {
                "axis": axis,
                "names": [value_name(value) for value in effects],
                "points": [numbers(effect) for effect in effects.values()],
                "ordered": is_ordered(effects),
                "colours": [SCHEME_COLOURS[v] for v in effects] if axis == "init" else None,
            }
        )
    return told


def _pair_data(study: Study) -> list[dict[str, Any]]:
    told = []
    for (a, b), effects in interactions(study).items():
        firsts, seconds = (list(dict.fromkeys(sorted(key[i] for key in effects))) for i in (0, 1))
        if len(firsts) * len(seconds) <= MAX_PAIR_CELLS:
            points = [[numbers(effects[first, second]) for first in firsts] for second in seconds]
            names = {"first": list(map(value_name, firsts)), "second": list(map(value_name, seconds))}
            told.append({"axes": [a, b], **names, "points": points})
    return sorted(told, key=_strength, reverse=True)


def _strength(pair: dict[str, Any]) -> float:
    """How far the means of a pair are from the sum of its axes' effects (the strongest interaction is shown first)."""
    means = np.array([[point[0] or 0.0 for point in line] for line in pair["points"]])
    additive = means.mean(axis=0) + means.mean(axis=1, keepdims=True) - means.mean()
    return float((means - additive).std())


def _curve_data(study: Study, cell: Cell, place: int) -> dict[str, Any]:
    dev, train = curve(cell, "history_dev_loss"), curve(cell, "history_train_loss")
    kept = thinned(len(dev))
    return {
        "label": study.label(cell),
        "steps": [cell.finished[0]["history_step"][i] for i in kept],
        "dev": [numbers(dev[i]) for i in kept],
        "train": [rounded(train[i].mean, 4) for i in kept],
        **curve_style(study, cell, place),
    }


def curve_style(study: Study, cell: Cell, place: int) -> dict[str, str]:
    """Colour and dash of a cell's curve: a scheme's own where nothing but schemes differ."""
    if study.compares_schemes:
        init, batch_norm = cell.settings["init"], cell.settings["batch_norm"]
        return {"colour": SCHEME_COLOURS[init], "dash": "dash" if batch_norm else "solid"}
    return {
        "colour": LINE_COLOURS[place % len(LINE_COLOURS)],
        "dash": DASHES[place // len(LINE_COLOURS) % len(DASHES)],
    }


def numbers(value: Estimate, digits: int = 7) -> list[float | None]:
    """Mean and interval; None where there is none. The page rounds once more, so digits enough that it shows."""
    return [rounded(part, digits) for part in (value.mean, value.low, value.high)]


@functools.singledispatch
def _plain(value: Any) -> Any:
    return value


@_plain.register
def _(value: float) -> float:
    return float(f"{value:.6g}")
