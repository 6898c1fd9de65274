"""`python -m experiments.ensemble DIR`: averages of a sweep's runs, and their mixtures with count models."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.command import command_parser, one_line_errors
from experiments.findings.analysis import Row, make_study
from experiments.findings.finished import Finished, material_of, open_finished, ranked
from experiments.findings.tables import csv_text, markdown_table
from experiments.findings.yardsticks import load_yardsticks
from experiments.material import Material
from experiments.store import Store
from experiments.store.atomic import replace_file
from mlp_lm.dataset import Windows, count_contexts
from mlp_lm.ngram import CountModel, absolute_discount, choose_discount, modified_kneser_ney
from mlp_lm.ngram_counts import NgramCounts, count_ngrams

EPILOG = """examples:
  python -m experiments.ensemble results/grid --top 10
  python -m experiments.ensemble results/grid --context-length 3 4 5 6 7    with count models of all these
  python -m experiments.ensemble results/grid --test       also the test loss of the one chosen on dev, once

Writes tables/ensembles.csv and tables/ensembles.md, which the report shows."""

MAX_TOP = 100  # All members' probabilities are held in memory, some megabytes each.
MAX_CONTEXT_LENGTH = 12
FAMILIES = ("absolute discount", "modified Kneser-Ney")  # Of count models, which are mixed in.

Distribution = Float[np.ndarray, "m vocab"]


@dataclass(frozen=True)
class Blend:
    """Runs whose probabilities are averaged (none: the count model alone), and a count model's weight."""

    name: str
    runs: tuple[Row, ...]
    family: str | None = None
    weight: float = 0.0

    @property
    def n_params(self) -> int:
        """Parameters of all the networks together."""
        return sum(row["n_params"] for row in self.runs)


@dataclass(frozen=True)
class Measured:
    """A blend's exact losses in nats per token."""

    blend: Blend
    dev_loss: float
    dev_unseen_loss: float
    test_loss: float | None = None


class Predictions:
    """Probabilities of runs and count models after the distinct contexts of some word lists, each computed once."""

    def __init__(self, store: Store, material: Material, families: dict[str, CountModel], parts: Sequence[str], block):
        self.store, self.material, self.families = store, material, families
        windows = [material.windows(part, block) for part in parts]
        counted = count_contexts(windows, len(material.vocabulary))
        self.contexts: Int[np.ndarray, "m block"] = counted.contexts
        self.counts = dict(zip(parts, counted.counts, strict=True))
        self._known: dict[str, Distribution] = {}

    def of_run(self, row: Row) -> Distribution:
        """A stored run's probabilities."""
        # JAX only where it is needed: a wrong command line is told at once.
        from experiments.findings.trained import load_model
        from mlp_lm.ensembles import distribution

        if row["run_id"] not in self._known:
            self._known[row["run_id"]] = distribution(*load_model(self.store, row, self.material), self.contexts)
        return self._known[row["run_id"]]

    def of_family(self, family: str) -> Distribution:
        """A count model's probabilities."""
        if family not in self._known:
            self._known[family] = self.families[family].distribution(self.contexts)
        return self._known[family]

    def of(self, blend: Blend) -> Distribution:
        """A blend's probabilities."""
        from mlp_lm.ensembles import average, mix

        if not blend.runs:
            return self.of_family(str(blend.family))
        neural = average([self.of_run(row) for row in blend.runs])
        return neural if blend.family is None else mix(neural, self.of_family(blend.family), blend.weight)

    def loss(self, blend: Blend, part: str) -> float:
        """A blend's mean loss on a word list, in nats per token."""
        from mlp_lm.ensembles import mean_loss

        return mean_loss(self.of(blend), self.counts[part])


@one_line_errors("ensemble")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    finished = open_finished(options.folder)
    material = material_of(finished.request)
    measured = measure(finished, material, options.top, options.context_length, options.test)
    text = as_markdown(measured)
    replace_file(options.folder / "tables" / "ensembles.csv", csv_text(list(map(csv_row, measured))).encode())
    replace_file(options.folder / "tables" / "ensembles.md", text.encode())
    print(text, end="")
    return 0


def measure(
    finished: Finished, material: Material, top: int, context_lengths: Sequence[int] | None = None, test: bool = False
) -> list[Measured]:
    """Every blend's dev losses, best first; the test loss of the first one alone, and only where it is asked for."""
    best = ranked(finished.rows, f"{finished.store.root} has no finished run with weights: run its sweep first")
    pools = list(pools_of(best[:top], best_cell(finished)))
    wanted = wanted_counts(finished, material, context_lengths)
    families = count_families(material, wanted)
    block = max(*(k for _, k in wanted), *(row["block_size"] for pool in pools for row in pool.runs))
    predictions = Predictions(finished.store, material, families, ("dev", "dev_unseen"), block)
    blends = [*pools, *(Blend(name, (), name) for name in families), *mixtures(pools, predictions)]
    measured = [Measured(b, predictions.loss(b, "dev"), predictions.loss(b, "dev_unseen")) for b in blends]
    measured.sort(key=lambda one: one.dev_loss)
    if test:
        held_out = Predictions(finished.store, material, families, ("test",), block)
        first = measured[0]
        loss = held_out.loss(first.blend, "test")
        measured[0] = Measured(first.blend, first.dev_loss, first.dev_unseen_loss, loss)
    return measured


def pools_of(best: Sequence[Row], cell: Sequence[Row]) -> Iterator[Blend]:
    """The best run, averages of the k best, and of all seeds of the best configuration."""
    yield Blend("best run", tuple(best[:1]))
    for k in range(2, len(best) + 1):
        yield Blend(f"{k} best runs", tuple(best[:k]))
    if len(cell) > 1:
        yield Blend(f"all {len(cell)} seeds of the best configuration", tuple(cell))


def best_cell(finished: Finished) -> tuple[Row, ...]:
    """The finished runs of the configuration with the lowest mean dev loss."""
    study = make_study("all", finished.rows)
    return tuple(row for row in study.best.finished if row["weights_sha256"] is not None)


def wanted_counts(
    finished: Finished, material: Material, context_lengths: Sequence[int] | None
) -> list[tuple[str, int]]:
    """Families of count models and their context lengths: those asked for, or of each family the best on dev."""
    if context_lengths:
        return [(family, k) for family in FAMILIES for k in sorted(set(context_lengths))]
    rows = load_yardsticks(finished.store.root, finished.request, material).rows
    best = (min((row for row in rows if row.family == family), key=lambda row: row.dev_loss) for family in FAMILIES)
    return [(row.family, row.context_length) for row in best]


def count_families(material: Material, wanted: Sequence[tuple[str, int]]) -> dict[str, CountModel]:
    """Count models of these families and context lengths, by name."""
    longest = max(k for _, k in wanted)
    train, dev = (material.windows(part, longest) for part in ("train", "dev"))
    counts = count_ngrams(train.contexts, train.targets, longest, len(material.vocabulary))
    return {f"{k + 1}-gram, {family}": _fitted(family, counts.shortened(k), dev) for family, k in wanted}


def _fitted(family: str, counts: NgramCounts, dev: Windows) -> CountModel:
    """A count model; the one discount of `absolute discount` is chosen on dev."""
    if family == "absolute discount":
        return absolute_discount(counts, choose_discount(counts, dev.contexts, dev.targets))
    return modified_kneser_ney(counts)


def mixtures(pools: Sequence[Blend], predictions: Predictions) -> Iterator[Blend]:
    """Each pool with each count model, at the weight that is best on dev."""
    from mlp_lm.ensembles import mixture_weight

    for pool in pools:
        for family in predictions.families:
            weight = mixture_weight(predictions.of(pool), predictions.of_family(family), predictions.counts["dev"])
            yield Blend(pool.name, pool.runs, family, weight)


def as_markdown(measured: Sequence[Measured]) -> str:
    """The table in words and Markdown."""
    header = ["networks", "count model", "its weight", "dev", "dev, unseen names", "parameters"]
    rows = [
        [
            one.blend.name if one.blend.runs else "none",
            one.blend.family or "none",
            f"{one.blend.weight:.3f}" if one.blend.runs and one.blend.family else "-",
            f"{one.dev_loss:.4f}",
            f"{one.dev_unseen_loss:.4f}",
            f"{one.blend.n_params:,}",
        ]
        for one in measured
    ]
    first = measured[0]
    tested = [] if first.test_loss is None else [f"Test loss of the first row, chosen on dev: {first.test_loss:.4f}."]
    words = (
        "Averages of probabilities, and mixtures with count models, exact over whole splits, in nats per token. "
        "Members and weights are chosen on dev, so a dev loss here is a little flattered."
    )
    return "\n\n".join(["# Ensembles and mixtures", words, markdown_table(header, rows), *tested]) + "\n"


def csv_row(one: Measured) -> dict[str, Any]:
    """One line of ensembles.csv."""
    return {
        "networks": one.blend.name if one.blend.runs else "",
        "count_model": one.blend.family or "",
        "count_weight": one.blend.weight if one.blend.runs and one.blend.family else "",
        "n_networks": len(one.blend.runs),
        "n_params": one.blend.n_params,
        "dev_loss": one.dev_loss,
        "dev_unseen_loss": one.dev_unseen_loss,
        "test_loss": "" if one.test_loss is None else one.test_loss,
        "run_ids": " ".join(row["run_id"] for row in one.blend.runs),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    description = "Average the probabilities of a sweep's runs, and mix them with count models."
    parser = command_parser("ensemble", description, EPILOG)
    parser.add_folder()
    parser.add_argument("--top", type=int, default=5, metavar="K", help="average the 2, 3, ... K best runs (5)")
    text = "tokens that the count models see (of each family, what is best on dev)"
    parser.add_argument("--context-length", type=int, nargs="+", metavar="N", help=text)
    parser.add_argument("--test", action="store_true", help="also the test loss of what is best on dev")
    options = parser.parse_args(arguments)
    if not 1 <= options.top <= MAX_TOP:
        parser.error(f"--top must be between 1 and {MAX_TOP}, got {options.top}")
    wrong = [k for k in options.context_length or () if not 1 <= k <= MAX_CONTEXT_LENGTH]
    if wrong:
        parser.error(f"--context-length must be between 1 and {MAX_CONTEXT_LENGTH}, got {wrong[0]}")
    return options


if __name__ == "__main__":
    sys.exit(main())
