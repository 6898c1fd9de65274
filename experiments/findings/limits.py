"""How far a figure's axis reaches: a few values that are far off would flatten all others."""

from collections.abc import Sequence

import numpy as np

MOST = 0.8  # Of the values, which decide how far an axis reaches...
REACH = 2.0  # ...beyond the best value, as a multiple of how far they reach.


def far_off(values: Sequence[float]) -> float:
    """The largest value to draw at its place, lower values being better; infinite where none is far off."""
    low, high = min(values), float(np.quantile(values, MOST))
    limit = low + REACH * (high - low)
    return limit if max(values) > limit > low else np.inf


def far_off_side_by_side(groups: Sequence[Sequence[float]]) -> float:
    """The same for groups that share an axis: far off within its own group, and beyond what the others need."""
    limit = max(min(far_off(values), max(values)) for values in groups)
    return limit if max(map(max, groups)) > limit else np.inf
