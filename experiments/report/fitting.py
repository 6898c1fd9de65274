"""Under- and over-fitting, named by comparison with the best configuration of a study."""

from experiments.findings.analysis import Cell, Study, paired_difference

BEST, CLOSE, UNDER, OVER, UNKNOWN = "best", "close", "under-fits", "over-fits", "diverged"

EXPLANATION = (
    "Compared with the best configuration, by intervals of differences paired by seed: one that is worse on dev "
    "under-fits where its train loss is higher too, and over-fits where its train loss is lower. Where the dev "
    "interval holds zero (or there is one seed), it is close."
)


def fit_of(cell: Cell, study: Study) -> str:
    """A cell's name among BEST, CLOSE, UNDER, OVER and UNKNOWN."""
    if not cell.finished:
        return UNKNOWN
    if cell is study.best:
        return BEST
    if not paired_difference(cell, study.best).low > 0:
        return CLOSE
    return OVER if paired_difference(cell, study.best, "train_loss").mean < 0 else UNDER
