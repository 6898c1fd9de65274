"""Embeddings as points in a plane."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Plane:
    """Token places, `[token, 2]` at each step, in one basis; `explained` is its share of the last step's variance."""

    steps: list[int]
    places: Float[np.ndarray, "step token 2"]
    explained: float
    is_projected: bool


def plane_of(tables: Float[np.ndarray, "step token dim"], steps: list[int]) -> Plane:
    """Two dimensions as they are, one as a line, more by the principal components of the last step's table."""
    last = tables[-1].astype(np.float64)
    dim = last.shape[1]
    if dim <= 2:
        return Plane(steps, np.pad(tables, ((0, 0), (0, 0), (0, 2 - dim))), 1.0, False)
    centre = last.mean(axis=0)
    _, spread, directions = np.linalg.svd(last - centre, full_matrices=False)
    total = float((spread**2).sum())
    explained = float((spread[:2] ** 2).sum()) / total if total > 0 else 1.0
    return Plane(steps, (tables - centre) @ directions[:2].T, explained, True)
