"""A sweep's folder, opened to read what it has: the runs that were asked for, their data, baselines and weights.

What is damaged is said in one line, and left out.
"""

import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from experiments.analysis.studies import Cell, Study, make_study, perplexity_of
from experiments.runner.rows import DIVERGED, Row, config_of
from experiments.store import Store
from experiments.store.atomic import Damaged, DamagedRows
from experiments.store.small_files import FAILURES, by_reason, read_as, write_small
from experiments.sweeps.request import Request, read_request
from experiments.sweeps.text import count, html_table, printable
from mlp_lm.config import near_match
from mlp_lm.data.dataset import Dataset, is_text_source
from mlp_lm.ngram.baselines import Baselines, measure_baselines

if TYPE_CHECKING:
    import pandas

    from mlp_lm.model import Moments, Params

T = TypeVar("T")
BASELINES_FILE = "baselines.json"
SHOWN_CELLS = 40  # In a notebook.
EARLIER = "earlier runs"  # The study of a folder's runs that were not asked for last.


def say(message: str) -> None:
    """What the reader of a folder should know, on stderr, whether that is a terminal or a notebook."""
    print(printable(message), file=sys.stderr)


def read_kept(kind: type[T], folder: Path, name: str, unsealed: bool = False) -> T | None:
    """What a small file says, as a type; None where it is missing, or damaged, which is said in one line."""
    try:
        return read_as(kind, folder, name, unsealed)
    except (OSError, Damaged) as error:
        say(str(error))
        return None


def read_failures(folder: Path, run_ids: Collection[str]) -> dict[str, list[str]]:
    """By reason, those of the runs that were given up."""
    reasons = read_kept(dict[str, str], folder, FAILURES, unsealed=True) or {}
    return by_reason({run_id: reasons[run_id] for run_id in sorted(reasons.keys() & run_ids)})


def load_baselines(folder: Path, request: Request, dataset: Dataset | None = None) -> Baselines:
    """What is kept in a sweep's folder, or else computed from its data and kept.

    Raises:
        ValueError: nothing is kept, and the data cannot be had.
    """
    known = read_kept(Baselines, folder, BASELINES_FILE)
    if known is not None and known.data_hash == request.data_hash:
        return known
    measured = measure_baselines(dataset or request.load_dataset())
    write_small(folder, BASELINES_FILE, asdict(measured))
    return measured


@dataclass(frozen=True)
class SweepResults:
    """The finished runs of a sweep's folder, among those that were last asked for.

    Attributes:
        store: the folder's shards and weights.
        request: what was asked for.
        rows: one dictionary a run, with the columns of the result table.
    """

    store: Store
    request: Request
    rows: list[Row] = field(repr=False)

    def __repr__(self) -> str:
        return f"<{self.request.name}: {len(self.rows)} of {count(len(self.request.run_ids), 'run')} in {self.folder}>"

    def _repr_html_(self) -> str:
        """The ranked tables of all studies, for a notebook."""
        return "".join(
            f"<p>{study.name}</p>" + html_table(*ranked_table(study, SHOWN_CELLS, self.is_running_text))
            for study in self.studies
        )

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.store.root

    @property
    def is_running_text(self) -> bool:
        """Whether the sweep's tokens are the words of a running text."""
        return is_text_source(self.request.data)

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """The studies of the request, of the runs that are done; those without one are left out."""
        by_id = {row["run_id"]: row for row in self.rows}
        listed = {name: [by_id[i] for i in ids if i in by_id] for name, ids in self.request.studies.items()}
        ranges = self.request.ranges
        return tuple(make_study(name, rows, ranges.get(name)) for name, rows in listed.items() if rows)

    @cached_property
    def dataset(self) -> Dataset:
        """What the sweep was trained on.

        Raises:
            ValueError: it cannot be had, or is no longer the same.
        """
        return self.request.load_dataset()

    @cached_property
    def baselines(self) -> Baselines:
        """The count models of its data, on the same dev part.

        Raises:
            ValueError: they were not kept in the folder, and the data cannot be had.
        """
        return load_baselines(self.folder, self.request)

    @property
    def best(self) -> Row:
        """The run of the lowest dev loss.

        Raises:
            ValueError: no run has finished with its weights kept.
        """
        return self.ranked()[0]

    def ranked(self) -> list[Row]:
        """The rows that did not diverge and whose weights are there, best on dev first.

        Raises:
            ValueError: there are none.
        """
        finished = [row for row in self.rows if row["status"] != DIVERGED]
        usable = [row for row in finished if self.store.has_weights(row)]
        if not usable and finished:  # Its sweep would find all runs done, and train none.
            raise ValueError(
                f"{self.folder} keeps no weights of its runs: train them with another --out ({self.request.command})"
            )
        if not usable:
            raise ValueError(f"{self.folder} has no finished run: run its sweep first")
        if len(usable) < len(finished):
            say(f"{self.folder} has no weights of {count(len(finished) - len(usable), 'run')}: left out")
        return sorted(usable, key=lambda row: (row["dev_loss"], row["run_id"]))

    def run(self, name: str) -> Row:
        """The run with this id, of which the first characters suffice where they fit only one.

        Raises:
            ValueError: no run, or several, are named so.
        """
        matches = [row for row in self.rows if row["run_id"].startswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ValueError(f"{count(len(matches), 'run')} in {self.folder} start with {name!r}: give more of the id")
        ids = [row["run_id"] for row in self.rows]
        raise ValueError(f"{self.folder} has no run {name!r}; {near_match(name, ids[:10])}")

    def params(self, run_id: str) -> "Params":
        """The trained weights of a run, which `mlp_lm.forward` takes.

        Raises:
            ValueError: no such run, or its weights were not kept.
        """
        return self.load_model(self.run(run_id))[0]

    def load_model(self, row: Row) -> "tuple[Params, tuple[Moments, ...]]":
        """A run's weights, and its batch-norm moments over the training part; () without batch norm.

        Raises:
            ValueError: its weights, its data or its ideas file cannot be had.
        """
        # JAX only where it is needed: reading rows starts without it.
        import jax
        import jax.numpy as jnp

        from mlp_lm.evaluation import jitted_moments
        from mlp_lm.padding import unpad_params
        from mlp_lm.training import training_data
        from mlp_lm.weights import from_tensors

        if row.get("ideas_hash"):
            self.request.load_ideas()
        config = config_of(row)
        tensors = from_tensors(self.store.weights(row), config.activation)
        params = unpad_params(tensors, config.architecture(tensors.embedding.shape[0]))
        params = jax.tree.map(jnp.asarray, params)
        if not params.norms:
            return params, ()
        return params, jitted_moments(params, training_data(self.dataset, config.block_size).examples)

    def to_arrow(self) -> pa.Table:
        """One row a run, all columns."""
        return pa.Table.from_pylist(self.rows)

    def to_pandas(self) -> "pandas.DataFrame":
        """One row a run, all columns; needs the extra `pandas`.

        Raises:
            ValueError: pandas is not installed.
        """
        try:
            return self.to_arrow().to_pandas()
        except ImportError:
            raise ValueError("pandas is not installed; pip install 'mlp-lm[pandas]', or use to_arrow()") from None


def open_sweep(folder: str | Path, everything: bool = False) -> SweepResults:
    """The runs of a sweep's folder that were last asked for and are done.

    With `everything` also those of earlier requests, as a study of their own, EARLIER.

    Raises:
        ValueError: not a sweep's folder.
    """
    return select_results(Store(Path(folder)), read_request(Path(folder)), everything=everything)


def open_beside(results: SweepResults, folder: Path, flag: str) -> SweepResults:
    """A sweep on the same data as `results`, of a folder that this flag names.

    Raises:
        ValueError: not a sweep's folder, or on other data.
    """
    try:
        other = open_sweep(folder)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None
    if other.request.data_hash != results.request.data_hash:
        raise ValueError(
            f"{flag} {folder} was trained on {other.request.data}, and {results.folder} on {results.request.data}; "
            "give a sweep on the same data"
        )
    return other


def select_results(store: Store, request: Request, set_aside: bool = False, everything: bool = False) -> SweepResults:
    """Of a store's rows, those of the runs that were asked for; what is damaged is said, see `Store.rows`.

    Raises:
        DamagedRows: some were, and are `set_aside`: tables of the others would be of less than what was trained.
    """
    contents = store.rows(set_aside=set_aside)
    for message in contents.damaged:
        say(message)
    if set_aside and contents.damaged:
        raise DamagedRows(f"{store.location}: {count(len(contents.damaged), 'cohort')} must be computed again")
    by_id = {row["run_id"]: row for row in contents.table.to_pylist()}
    if everything and (earlier := sorted(by_id.keys() - request.run_ids)):
        request = replace(request, studies={**request.studies, EARLIER: earlier})
    return SweepResults(store, request, [by_id[run_id] for run_id in sorted(request.run_ids & by_id.keys())])


def ranked_table(study: Study, most: int, perplexity: bool = False) -> tuple[list[str], list[list[Any]]]:
    """The header and the rows of a study's best cells, ranked by mean dev loss; with dev perplexity if asked for."""
    header = [
        "rank",
        *(study.axes or ("configuration",)),
        "seeds",
        "dev",
        *(["dev perplexity"] if perplexity else []),
        "to best",
        "dev, unseen",
        "train",
        "parameters",
    ]
    return header, [_ranked_row(rank, study, cell, perplexity) for rank, cell in enumerate(study.cells[:most], start=1)]


def _ranked_row(rank: int, study: Study, cell: Cell, perplexity: bool) -> list[Any]:
    n_seeds = f"{len(cell.finished)}" + (f" ({cell.n_diverged} diverged)" if cell.n_diverged else "")
    dev = cell.estimate("dev_loss")
    return [
        rank,
        *([cell.settings[axis] for axis in study.axes] or ["the one"]),
        n_seeds,
        dev,
        *([f"{perplexity_of(dev.mean):.1f}" if dev.n else "-"] if perplexity else []),
        study.to_best_words(cell),
        cell.estimate("dev_unseen_loss"),
        cell.estimate("train_loss"),
        f"{cell.rows[0]['n_params']:,}",
    ]
