"""Averages of a sweep's runs, and their mixtures with count models, measured exactly."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.analysis.baselines import load_baselines
from experiments.analysis.kept import read_kept
from experiments.analysis.results import SweepResults
from experiments.analysis.studies import make_study
from experiments.analysis.tables import csv_text, markdown_table
from experiments.runner.rows import Row
from experiments.store.atomic import make_folder, replace_file
from experiments.store.small_files import write_small
from mlp_lm.ngram.baselines import count_model_name, fit_count_model
from mlp_lm.ngram.models import CountModel

if TYPE_CHECKING:
    from mlp_lm.mixtures import Probabilities

FILE_NAME = "ensembles.json"
FAMILIES = ("absolute discount", "modified Kneser-Ney")  # Of count models, which are mixed in.


@dataclass(frozen=True)
class Ensemble:
    """Runs whose probabilities are averaged (none: the count model alone), a count model and its weight; its losses.

    Losses are in nats per token.
    """

    name: str
    runs: tuple[Row, ...]
    family: str | None = None
    weight: float = 0.0
    dev_loss: float = np.nan
    dev_unseen_loss: float = np.nan
    test_loss: float | None = None

    @property
    def n_params(self) -> int:
        """Parameters of all the networks together."""
        return sum(row["n_params"] for row in self.runs)


class Predictions:
    """What runs and count models give the targets of some parts, each computed once."""

    def __init__(
        self, results: SweepResults, count_models: dict[str, CountModel], parts: Sequence[str], block_size: int
    ) -> None:
        # JAX only where it is needed: a wrong command line is reported at once.
        from mlp_lm.mixtures import distinct_windows

        self.results, self.count_models = results, count_models
        self.windows, self.weights = distinct_windows(results.dataset, parts, block_size)
        self._known: dict[str, Probabilities] = {}

    def of_run(self, row: Row) -> "Probabilities":
        """A stored run's."""
        from mlp_lm.mixtures import target_probabilities

        if row["run_id"] not in self._known:
            self._known[row["run_id"]] = target_probabilities(*self.results.load_model(row), self.windows)
        return self._known[row["run_id"]]

    def of_count_model(self, name: str) -> "Probabilities":
        """A count model's."""
        if name not in self._known:
            model = self.count_models[name]
            self._known[name] = model.token_probabilities(self.windows.contexts, self.windows.targets)
        return self._known[name]

    def of(self, ensemble: Ensemble) -> "Probabilities":
        """An ensemble's."""
        from mlp_lm.mixtures import average, mix

        if not ensemble.runs:
            return self.of_count_model(str(ensemble.family))
        neural = average([self.of_run(row) for row in ensemble.runs])
        if ensemble.family is None:
            return neural
        return mix(neural, self.of_count_model(ensemble.family), ensemble.weight)

    def loss(self, ensemble: Ensemble, part: str) -> float:
        """An ensemble's mean loss on a part, in nats per token."""
        from mlp_lm.mixtures import mean_loss

        return mean_loss(self.of(ensemble), self.weights[part])


def measure_ensembles(
    results: SweepResults, top: int, context_lengths: Sequence[int] | None = None, test: bool = False
) -> list[Ensemble]:
    """The best run, averages of the k best and of all seeds of the best configuration, alone and mixed; best first.

    Count models have these context lengths, or of each family the one that is best on dev. The weight of a mixture is
    the best on dev. The test loss is that of the first ensemble alone, and only where it is asked for.

    Raises:
        ValueError: no run has its weights.
    """
    from mlp_lm.mixtures import mixture_weight

    ranked = results.ranked()
    seeds = list(make_study("all", ranked).best.finished)
    pools = [Ensemble("best run", tuple(ranked[:1]))]
    pools += [Ensemble(f"{k} best runs", tuple(ranked[:k])) for k in range(2, min(top, len(ranked)) + 1)]
    if len(seeds) > 1:
        pools.append(Ensemble(f"all {len(seeds)} seeds of the best configuration", tuple(seeds)))
    if context_lengths:
        wanted = [(family, k) for family in FAMILIES for k in sorted(set(context_lengths))]
    else:
        families = load_baselines(results.folder, results.request).families
        best = (min(families[family], key=lambda row: row.dev_loss) for family in FAMILIES)
        wanted = [(row.family, row.context_length) for row in best]
    count_models = {count_model_name(family, k): fit_count_model(results.dataset, family, k) for family, k in wanted}
    longest = max(*(k for _, k in wanted), *(row["block_size"] for pool in pools for row in pool.runs))
    dev = Predictions(results, count_models, ("dev", "dev_unseen"), longest)
    ensembles = [*pools, *(Ensemble(name, (), name) for name in count_models)]
    for pool in pools:
        for name in count_models:
            weight = mixture_weight(dev.of(pool), dev.of_count_model(name), dev.weights["dev"])
            ensembles.append(replace(pool, family=name, weight=weight))
    ensembles = [
        replace(one, dev_loss=dev.loss(one, "dev"), dev_unseen_loss=dev.loss(one, "dev_unseen")) for one in ensembles
    ]
    ensembles.sort(key=lambda one: one.dev_loss)
    if test:
        held_out = Predictions(results, count_models, ("test",), longest)
        ensembles[0] = replace(ensembles[0], test_loss=held_out.loss(ensembles[0], "test"))
    return ensembles


@dataclass(frozen=True)
class EnsembleRow:
    """An ensemble in the folder's table; losses are in nats per token. `count_weight` is None of what is no mixture."""

    networks: str
    count_model: str
    count_weight: float | None
    n_networks: int
    n_params: int
    dev_loss: float
    dev_unseen_loss: float
    test_loss: float | None
    run_ids: list[str]


def write_ensembles(folder: Path, ensembles: Sequence[Ensemble]) -> list[EnsembleRow]:
    """Keep the ensembles in FILE_NAME, and write `tables/ensembles.csv` and `tables/ensembles.md`."""
    rows = [_as_row(one) for one in ensembles]
    write_small(folder, FILE_NAME, [asdict(row) for row in rows])
    make_folder(folder / "tables")
    cells = [asdict(row) | {"run_ids": " ".join(row.run_ids)} for row in rows]
    replace_file(folder / "tables" / "ensembles.csv", csv_text(cells).encode())
    replace_file(folder / "tables" / "ensembles.md", as_markdown(rows).encode())
    return rows


def read_ensembles(results: SweepResults) -> list[EnsembleRow]:
    """The ensembles of a folder; none where their file is missing or damaged, or of runs no longer asked for."""
    rows = read_kept(list[EnsembleRow], results.folder, FILE_NAME) or []
    members = {run_id for row in rows for run_id in row.run_ids}
    return rows if members <= {row["run_id"] for row in results.rows} else []


def as_table(rows: Sequence[EnsembleRow]) -> tuple[list[str], list[list[str]], list[str]]:
    """A header, a row an ensemble, and what is to be known about them."""
    header = ["networks", "count model", "its weight", "dev", "dev, unseen", "parameters"]
    cells = [
        [
            row.networks or "none",
            row.count_model or "none",
            "-" if row.count_weight is None else f"{row.count_weight:.3f}",
            f"{row.dev_loss:.4f}",
            f"{row.dev_unseen_loss:.4f}",
            f"{row.n_params:,}",
        ]
        for row in rows
    ]
    first = rows[0]
    tested = [] if first.test_loss is None else [f"Test loss of the first row, chosen on dev: {first.test_loss:.4f}."]
    words = (
        "Averages of probabilities, and mixtures with count models, exact over whole splits, in nats per token. "
        "Members and weights are chosen on dev, so a dev loss here is a little flattered."
    )
    return header, cells, [words, *tested]


def as_markdown(rows: Sequence[EnsembleRow]) -> str:
    """The table in words and Markdown."""
    header, cells, (words, *tested) = as_table(rows)
    return "\n\n".join(["# Ensembles and mixtures", words, markdown_table(header, cells), *tested]) + "\n"


def _as_row(one: Ensemble) -> EnsembleRow:
    return EnsembleRow(
        one.name if one.runs else "",
        one.family or "",
        one.weight if one.runs and one.family else None,
        len(one.runs),
        one.n_params,
        one.dev_loss,
        one.dev_unseen_loss,
        one.test_loss,
        [row["run_id"] for row in one.runs],
    )
