"""How a cohort in training talks to whoever runs it."""

from collections.abc import Callable
from dataclasses import dataclass


class Stopped(Exception):
    """Training was asked to stop; what was done is in a checkpoint."""


@dataclass(frozen=True)
class Hooks:
    """Calls that training makes between two segments. Steps are counted over all runs of a cohort (model-steps)."""

    on_steps: Callable[[int], None] = lambda model_steps: None  # Trained just now.
    on_resume: Callable[[int], None] = lambda model_steps: None  # Found in a checkpoint: trained before.
    should_stop: Callable[[], bool] = lambda: False
