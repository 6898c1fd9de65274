"""Multilayer-perceptron language models in JAX, as pure functions.

    from mlp_lm import RunConfig, load_dataset, train

    names = load_dataset("makemore")
    trained = train(RunConfig(hidden_size=300), names, seeds=8)
    trained.dev_loss          # [8], nats per token
    trained.sample(10)

Names are imported when they are first used: importing the package alone does not import JAX.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlp_lm.activations import ACTIVATIONS, Activation
    from mlp_lm.config import Architecture, RunConfig
    from mlp_lm.data.dataset import Dataset, load_dataset, slide_windows
    from mlp_lm.ideas import load_ideas
    from mlp_lm.initializers import init_params
    from mlp_lm.loss import cross_entropy
    from mlp_lm.model import Dense, Params, forward
    from mlp_lm.ngram.baselines import fit_count_model
    from mlp_lm.optimizers import OPTIMIZERS
    from mlp_lm.rate_finder import rate_finder_losses
    from mlp_lm.sampling import sample_from
    from mlp_lm.schedules import SCHEDULES
    from mlp_lm.schemes import SCHEMES, Scheme
    from mlp_lm.training import Trained, train

_ROOMS = {
    "ACTIVATIONS": "activations", "Activation": "activations", "Architecture": "config", "Dataset": "data.dataset",
    "Dense": "model", "OPTIMIZERS": "optimizers", "Params": "model", "RunConfig": "config", "SCHEDULES": "schedules",
    "SCHEMES": "schemes", "Scheme": "schemes", "Trained": "training", "cross_entropy": "loss",
    "fit_count_model": "ngram.baselines", "forward": "model",
    "init_params": "initializers", "load_dataset": "data.dataset", "load_ideas": "ideas",
    "rate_finder_losses": "rate_finder", "sample_from": "sampling", "slide_windows": "data.dataset",
    "train": "training",
}  # fmt: skip

__all__ = [
    "ACTIVATIONS", "OPTIMIZERS", "SCHEDULES", "SCHEMES", "Activation", "Architecture", "Dataset", "Dense", "Params",
    "RunConfig", "Scheme", "Trained", "cross_entropy", "fit_count_model", "forward", "init_params", "load_dataset",
    "load_ideas", "rate_finder_losses", "sample_from", "slide_windows", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("mlp-lm")
    if name in _ROOMS:
        return getattr(importlib.import_module(f"mlp_lm.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
