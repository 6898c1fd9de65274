"""Importance and main effects as rows of tables, for every balanced study of a sweep."""

from collections.abc import Iterable, Iterator
from typing import Any

from experiments.findings.analysis import Study
from experiments.findings.effects import imbalance, main_effects
from experiments.findings.importance import Importance, importance


def importance_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a share of the variance of dev loss; none of studies that are not balanced."""
    for study in studies:
        found = importance(study)
        if isinstance(found, Importance):
            for share in (*found.shares, found.higher, found.seeds):
                told = {"share": share.value, "share_low": share.low, "share_high": share.high}
                yield {"study": study.name, "axes": " x ".join(share.axes), **told, "n_seeds": found.n_seeds}


def effect_rows(studies: Iterable[Study]) -> Iterator[dict[str, Any]]:
    """One row a value of an axis: the mean dev loss over all other axes; none of studies that are not balanced."""
    for study in studies:
        for axis in study.axes if imbalance(study) is None else ():
            for value, effect in main_effects(study, axis).items():
                told = {"dev_loss": effect.mean, "dev_loss_low": effect.low, "dev_loss_high": effect.high}
                yield {"study": study.name, "axis": axis, "value": value, **told, "n_seeds": effect.n}
