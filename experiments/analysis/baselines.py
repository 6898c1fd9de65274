"""A dataset's baselines, kept beside the shards: a report then needs no data."""

from dataclasses import asdict
from pathlib import Path

from experiments.store.atomic import Damaged
from experiments.store.small_files import read_as, write_small
from experiments.sweeps.request import Request
from mlp_lm.data.dataset import Dataset
from mlp_lm.ngram.baselines import Baselines, measure_baselines

FILE_NAME = "baselines.json"


def load_baselines(folder: Path, request: Request, dataset: Dataset | None = None) -> Baselines:
    """What is kept in a sweep's folder, or else computed from its data and kept.

    Raises:
        ValueError: nothing is kept, and the data cannot be had.
    """
    known = _read(folder)
    if known is not None and known.data_hash == request.data_hash:
        return known
    measured = measure_baselines(dataset or request.load_dataset())
    write_small(folder, FILE_NAME, asdict(measured))
    return measured


def _read(folder: Path) -> Baselines | None:
    """What is kept; None where it is missing or damaged: then it is measured again."""
    try:
        return read_as(Baselines, folder, FILE_NAME)
    except (OSError, Damaged):
        return None
