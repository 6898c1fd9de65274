"""How sure differences are beyond this sample of the language: intervals over seeds and dev words together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.analysis.comparisons import holm, over_seeds_and_words, reference_of
from experiments.analysis.results import SweepResults
from experiments.analysis.studies import Cell, Estimate, Study, estimate


@dataclass(frozen=True)
class WordInterval:
    """A cell's dev loss minus its study's reference's, over the seeds whose weights both have.

    Attributes:
        study: of the cell.
        cell: what is compared.
        reference: with what.
        over_seeds: the difference with its interval over seeds, for these dev words.
        over_both: the same difference; the interval is over seeds and dev words (of a running text, stretches).
        p: that it is zero, over both, adjusted for all comparisons of the study (Holm).
    """

    study: Study
    cell: Cell
    reference: Cell
    over_seeds: Estimate
    over_both: Estimate
    p: float

    def columns(self) -> dict[str, Any]:
        """A table's columns."""
        named = {"study": self.study.name, **{axis: self.cell.settings[axis] for axis in self.study.axes}}
        named |= {"reference": self.study.label(self.reference), "n_seeds": self.over_seeds.n}
        both = self.over_both.columns("difference_over_both")
        return named | self.over_seeds.columns("difference") | both | {"p_difference": self.p}


def word_intervals(results: SweepResults) -> list[WordInterval]:
    """Each configuration of each study against the study's reference, from stored weights; two seeds or more.

    Raises:
        ValueError: no run keeps its weights, or no configuration has two seeds, with weights, in common with its
            study's reference.
    """
    from mlp_lm.mixtures import stretches

    usable = {row["run_id"] for row in results.ranked()}
    words, _ = stretches(results.dataset, "dev")
    every = []
    for study in results.studies:
        reference = reference_of(study)
        intervals = []
        known = dict(_losses_by_seed(results, reference, usable))
        for cell in study.cells:
            if cell is reference:
                continue
            paired = [losses - known[seed] for seed, losses in _losses_by_seed(results, cell, usable) if seed in known]
            if len(paired) > 1:
                over_seeds = estimate(float(losses.mean()) for losses in paired)
                over_both, p = over_seeds_and_words(np.stack(paired), words)
                intervals.append(WordInterval(study, cell, reference, over_seeds, over_both, p))
        adjusted = holm([one.p for one in intervals])
        every += [replace(one, p=p) for one, p in zip(intervals, adjusted, strict=True)]
    if not every:
        references = ", ".join(study.label(reference_of(study)) for study in results.studies)
        raise ValueError(
            f"{results.folder}: no configuration has two seeds, with weights, in common with the one it is compared "
            f"with ({references}); train more --seeds, or into another --out"
        )
    return every


def _losses_by_seed(
    results: SweepResults, cell: Cell, usable: set[str]
) -> Iterator[tuple[int, Float[np.ndarray, " n"]]]:
    """A seed and the loss of every dev token, in nats, of each run whose weights are there."""
    from mlp_lm.evaluation import each_loss

    windows = results.dataset.windows("dev", cell.settings["block_size"])
    for row in cell.finished:
        if row["run_id"] in usable:
            params, moments = results.load_model(row)
            yield row["seed"], each_loss(params, windows, moments).astype(np.float64)
