"""A dataset's baselines, kept beside the shards: a report then needs no data."""

from dataclasses import asdict
from pathlib import Path

from experiments.analysis.kept import read_kept
from experiments.store.small_files import write_small
from experiments.sweeps.request import Request
from mlp_lm.data.dataset import Dataset
from mlp_lm.ngram.baselines import Baselines, measure_baselines

FILE_NAME = "baselines.json"


def load_baselines(folder: Path, request: Request, dataset: Dataset | None = None) -> Baselines:
    """What is kept in a sweep's folder, or else computed from its data and kept.

    Raises:
        ValueError: nothing is kept, and the data cannot be had.
    """
    known = read_kept(Baselines, folder, FILE_NAME)
    if known is not None and known.data_hash == request.data_hash:
        return known
    measured = measure_baselines(dataset or request.load_dataset())
    write_small(folder, FILE_NAME, asdict(measured))
    return measured
