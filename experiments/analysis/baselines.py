"""A dataset's baselines, kept beside the shards: a report then needs no data."""

import json
from dataclasses import asdict
from pathlib import Path

from experiments.store.atomic import replace_file
from experiments.sweeps.request import Request
from mlp_lm.data.dataset import Dataset
from mlp_lm.ngram.baselines import Baseline, Baselines, measure_baselines

FILE_NAME = "baselines.json"


def load_baselines(folder: Path, request: Request, dataset: Dataset | None = None) -> Baselines:
    """What is kept in a sweep's folder, or else computed from its data and kept.

    Raises:
        ValueError: nothing is kept, and the data cannot be had.
    """
    known = _read(folder / FILE_NAME)
    if known is not None and known.data_hash == request.data_hash:
        return known
    measured = measure_baselines(dataset or request.load_dataset())
    replace_file(folder / FILE_NAME, json.dumps(asdict(measured), ensure_ascii=False).encode())
    return measured


def _read(path: Path) -> Baselines | None:
    try:
        content = json.loads(path.read_bytes())
        rows = tuple(Baseline(**row) for row in content["rows"])
        return Baselines(content["data_hash"], tuple(content["tokens"]), rows)
    except (OSError, KeyError, TypeError, ValueError):
        return None
