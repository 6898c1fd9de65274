"""What the sections share: the words, PyTorch's weights for the letters, and the sweep of all long runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from inspect import signature
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from experiments.analysis.results import SweepResults
from experiments.lecture import sections
from experiments.lecture.published import ANY, FIVE, LIST, Line, compare
from experiments.runner.compilation_cache import use_compilation_cache
from experiments.runner.run import RESULTS
from experiments.sweep import run_sweep
from experiments.sweeps.catalog import SWEEPS
from experiments.sweeps.grids import SweepSpec
from mlp_lm import SCHEMES, Dataset, Dense, Params, RunConfig, init_params, load_dataset
from mlp_lm.data.word_lists import DEFAULT_DATA, MAKEMORE_DATA, MAKEMORE_SHA256

FIVE_NAMES = ("emma", "olivia", "ava", "isabella", "sophia")
SHORTER = 100  # By so much the trainings of a quick walk are cut: to see that everything works.

SECTIONS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "data": ("Data and windows", sections.data),
    "bigram": ("The bigram", sections.bigram),
    "pieces": ("The network, piece by piece", sections.pieces),
    "five_names": ("Five names, learnt by heart", sections.five_names),
    "all_names": ("All names by full batch", sections.all_names),
    "minibatches": ("Minibatches against full batch", sections.minibatches),
    "finder": ("The learning-rate finder", sections.finder),
    "longer": ("30,000 steps", sections.longer),
    "changes": ("A larger hidden layer, batch, embedding", sections.changes),
    "embedding": ("The embedding as it forms", sections.embedding),
    "large": ("Ten dimensions, two hundred units", sections.large),
    "samples": ("Samples", sections.samples),
    "initialisation": ("Initialisation, step by step", sections.initialisation),
    "schemes": ("What a good beginning is worth", sections.schemes),
    "deep": ("The deep network with batch norm", sections.deep),
    "paper": ("The dog in the room", sections.paper),
    "ladder": ("A ladder of losses", sections.ladder),
}


@dataclass(frozen=True)
class Walk:
    """The walk on one list of words.

    Attributes:
        names: the words.
        sweep: the trained runs of the sweep `lecture` on them.
    """

    names: Dataset
    sweep: SweepResults

    @property
    def known(self) -> tuple[str, ...]:
        """The kinds of facts that hold for these words."""
        if self.names.sha256 == MAKEMORE_SHA256:
            return ANY, FIVE, LIST
        return (ANY, FIVE) if self.names.name == DEFAULT_DATA else (ANY,)

    @property
    def is_own(self) -> bool:
        """Whether no published number holds for these words."""
        return self.known == (ANY,)

    @property
    def is_quick(self) -> bool:
        """Whether its trainings were cut."""
        return max(row["n_steps"] for row in self.sweep.rows) < max(
            grid.base.n_steps for grid in SWEEPS["lecture"].grids
        )

    @property
    def has_letters(self) -> bool:
        """Whether the lecture's five names, and PyTorch's weights, are of these words."""
        return FIVE in self.known

    @property
    def five(self) -> tuple[str, ...]:
        """The lecture's first five names, or the first five training words of a list of one's own."""
        return FIVE_NAMES if self.has_letters else tuple(map("".join, self.names.parts["train"][:5]))

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """PyTorch's numbers."""
        return torch_arrays()

    @property
    def small(self) -> Params:
        """All weights N(0, 1), d = 2, h = 100: PyTorch's where they fit."""
        return torch_params(self.arrays, "small") if self.has_letters else self._draw(2, 100)

    @property
    def kaiming(self) -> Params:
        """The scheme `kaiming_tanh`, d = 10, h = 200: PyTorch's weights where they fit."""
        return torch_params(self.arrays, "kaiming") if self.has_letters else self._draw(10, 200, "kaiming_tanh")

    @property
    def drawn(self) -> Params:
        """The same draws before any scaling, all N(0, 1)."""
        if not self.has_letters:
            return self._draw(10, 200)
        w1, b1, w2, _ = jax.tree.leaves((self.kaiming.hidden, self.kaiming.output))
        hidden = Dense(w1 / ((5 / 3) / len(w1) ** 0.5), b1 / 0.01)
        output = Dense(w2 / 0.01, jnp.asarray(self.arrays["normal/b2"]))
        return Params(self.kaiming.embedding, (hidden,), (), output, None)

    @property
    def minibatches(self) -> Int[np.ndarray, "500 32"]:
        """PyTorch's minibatches of the lecture's training windows; of other words, draws of our own."""
        if LIST in self.known:
            return self.arrays["kaiming/minibatch"]
        return np.random.default_rng(0).integers(self.names.n_windows, size=(500, 32))

    @property
    def torch_losses(self) -> np.ndarray | None:
        """PyTorch's losses of these minibatches, of the lecture's words."""
        return self.arrays["kaiming/loss"] if LIST in self.known else None

    @property
    def studies(self) -> Path | None:
        """The published studies of this repository, on the lecture's words; None where they are not at hand."""
        folder = Path(__file__).parents[2] / "results"
        return folder if LIST in self.known and (folder / "best" / "request.json").exists() else None

    def measure(self, section: str) -> dict[str, Any]:
        """Run a section."""
        function = SECTIONS[section][1]
        return function(**{name: getattr(self, name) for name in signature(function).parameters})

    def compare(self, section: str, measured: dict[str, Any]) -> list[Line]:
        """A section's values beside the published ones."""
        return compare(section, measured, self.known)

    def _draw(self, embedding_dim: int, hidden_size: int, init: str = "normal") -> Params:
        config = RunConfig(embedding_dim=embedding_dim, hidden_size=hidden_size)
        return init_params(jax.random.key(0), SCHEMES[init], config.architecture(len(self.names.vocabulary)))


def torch_arrays() -> dict[str, np.ndarray]:
    """The arrays of lecture.npz, which README.md beside it describes."""
    file = resources.files("experiments.lecture").joinpath("lecture.npz")
    with file.open("rb") as opened, np.load(opened) as arrays:
        return dict(arrays)


def torch_params(arrays: dict[str, np.ndarray], prefix: str) -> Params:
    """PyTorch's weights as a model."""
    table, w1, b1, w2, b2 = (jnp.asarray(arrays[f"{prefix}/{name}"]) for name in ("C", "W1", "b1", "W2", "b2"))
    return Params(embedding=table, hidden=(Dense(w1, b1),), norms=(), output=Dense(w2, b2), direct=None)


def lecture_sweep(names: Dataset, quick: bool = False) -> SweepSpec:
    """The sweep `lecture` on these words; a quick one for a hundredth of the steps and two seeds."""
    sweep = replace(SWEEPS["lecture"], data=names.source)
    if not quick:
        return sweep
    grids = [
        grid.override({"n_steps": (max(grid.base.n_evaluations, grid.base.n_steps // SHORTER),)}, n_seeds=2)
        for grid in sweep.grids
    ]
    return replace(sweep, grids=tuple(grids))


def default_folder(names: Dataset, quick: bool) -> Path:
    """Where the runs are kept, apart for other words."""
    words = "" if names.source == MAKEMORE_DATA else f"-{Path(names.name.split()[0]).stem}"
    return RESULTS / f"lecture{words}{'-quick' * quick}"


def open_walk(data: str = MAKEMORE_DATA, out: str | Path | None = None, quick: bool = False) -> Walk:
    """The walk on a list of words, with all of its runs trained; what is missing of them is trained first.

    Args:
        data: what `mlp_lm.load_dataset` takes, of words.
        out: the sweep's folder (by default results/local/lecture, or another one for other words).
        quick: a hundredth of every training, to see that everything works.

    Raises:
        ValueError: the words cannot be had, or the folder holds other ones.
    """
    use_compilation_cache()
    names = load_dataset(data)
    sweep = lecture_sweep(names, quick)
    out = out or default_folder(names, quick)
    return Walk(names, run_sweep(sweep.grids, out=out, data=names, name=sweep.name, title=sweep.title))
