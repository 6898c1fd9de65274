"""The paper's table beside ours: as Markdown, as CSV, and as one page that opens offline."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlp_lm.data.material import TextMaterial

from experiments.analysis.finished import select_finished
from experiments.analysis.studies import Cell, Study, estimate
from experiments.analysis.tables import csv_text, inert, markdown_table
from experiments.analysis.trained_models import draw_sentences
from experiments.bengio2003.looks import draw_map, neighbours
from experiments.bengio2003.measure import (
    Counted,
    Network,
    Probabilities,
    averaged,
    compare_by_novelty,
    count_models,
    measure_network,
    network_probabilities,
    perplexity,
)
from experiments.bengio2003.models import MODELS, PUBLISHED_COUNTS, TableModel, model_of
from experiments.bengio2003.page import render
from experiments.store import Store
from experiments.store.atomic import make_folder, replace_file
from experiments.sweeps.request import read_request
from mlp_lm.data.texts import RARE, RARE_TOKEN
from mlp_lm.weights import from_tensors

MEASURED = "measured.json"  # Perplexities of networks, kept: they cost as much as an evaluation of the whole text.
BEST_COUNT_MODEL = ("modified Kneser-Ney", 5)


@dataclass(frozen=True)
class Line:
    """One line of the table: what was measured, in perplexity, and what the paper has."""

    recipe: str
    name: str
    seeds: int
    n_params: int | None
    train: float | None
    valid: str
    test: str
    values: dict[str, float | None]
    published: tuple[float | None, float | None, float | None]

    @property
    def cells(self) -> list[str]:
        """The line as text."""
        published = " / ".join("-" if value is None else f"{value:.0f}" for value in self.published)
        published = published if any(self.published) else "-"
        params = "-" if self.n_params is None else f"{self.n_params:,}"
        train = "-" if self.train is None else f"{self.train:.1f}"
        return [self.name, self.recipe, str(self.seeds or "-"), params, train, self.valid, self.test, published]


@dataclass(frozen=True)
class Summary:
    """All that is told of a folder."""

    title: str
    head: list[str]
    lines: list[Line]
    novelty: list[dict[str, Any]]
    compared: str
    neighbours: dict[str, list[str]]
    sentences: list[str]


HEADER = [
    "model",
    "training",
    "seeds",
    "parameters",
    "train",
    "validation",
    "test",
    "the paper, on Brown: train / valid / test",
]


def write_summary(store: Store, material: TextMaterial) -> str:
    """Write `tables/`, `figures/` and `report.html`; returns the tables as Markdown."""
    summary = summarise(store, material)
    text = as_markdown(summary)
    for name in ("tables", "figures"):
        make_folder(store.root / name)
    lines = [
        {"recipe": x.recipe, "model": x.name, "seeds": x.seeds, "n_params": x.n_params, **x.values}
        for x in summary.lines
    ]
    replace_file(store.root / "tables" / "table1.csv", csv_text(lines).encode())
    replace_file(store.root / "tables" / "novelty.csv", csv_text(summary.novelty).encode())
    replace_file(store.root / "tables" / "summary.md", text.encode())
    replace_file(store.root / "report.html", render(summary, HEADER, store.root / "figures" / "map.png").encode())
    return text


def summarise(store: Store, material: TextMaterial) -> Summary:
    """Measure what is not measured yet, and put it beside the paper's numbers."""
    request = read_request(store.root)
    finished = select_finished(store, request, store.rows())
    counted = count_models(material)
    trigram = counted[0].probabilities
    known = _read_measured(store.root / MEASURED)
    cells = [(study, cell) for study in finished.studies for cell in study.cells if cell.finished]
    cells.sort(key=lambda pair: (pair[0].name, list(MODELS.values()).index(_model(pair[1]))))
    lines = [line for study, cell in cells for line in _cell_lines(store, study, cell, material, trigram, known)]
    replace_file(store.root / MEASURED, json.dumps({ids: asdict(one) for ids, one in known.items()}, indent=1).encode())
    if not cells:
        raise ValueError("every run diverged: there is nothing to compare; give another text, or more --epochs")
    best = min((row for _, cell in cells for row in cell.finished), key=lambda row: row["dev_loss"])
    params = from_tensors(store.weights(best))
    embedding = np.asarray(params.embedding)
    make_folder(store.root / "figures")
    draw_map(embedding, material.vocabulary, store.root / "figures" / "map.png")
    model = model_of(best)
    strongest = next(one for one in counted if (one.family, one.order) == BEST_COUNT_MODEL)
    return Summary(
        request.title,
        list(_head(request.command, material, finished.rows)),
        [*(_count_line(one) for one in counted), _uniform(material), *lines],
        compare_by_novelty(material, network_probabilities(store, best, material), strongest.probabilities),
        f"{model.name if model else 'the best network'} (seed {best['seed']}) and {_count_name(strongest)}",
        neighbours(embedding, material.vocabulary),
        draw_sentences(store, best, material),
    )


def as_markdown(summary: Summary) -> str:
    """The tables in words and Markdown."""
    novelty = [
        [one["targets"], f"{one['share']:.1%}", f"{one['network']:.1f}", f"{one['count_model']:.1f}"]
        for one in summary.novelty
    ]
    parts = [
        f"# {inert(summary.title)}",
        *map(inert, summary.head),
        markdown_table(HEADER, [line.cells for line in summary.lines]),
        f"## Words after contexts that training never saw\n\nTest perplexity of {summary.compared}, by the longest "
        "n-gram ending in the word that occurs in training.",
        markdown_table(["longest n-gram seen", "share", "network", "count model"], novelty),
        "## Nearest neighbours in the embedding",
        "\n".join(f"- **{inert(word)}**: {inert(', '.join(near))}" for word, near in summary.neighbours.items()),
        "## Sentences drawn",
        "\n".join(f"- {inert(sentence)}" for sentence in summary.sentences),
    ]
    return "\n\n".join(parts) + "\n"


def _head(command: str, material: TextMaterial, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    parts, size = material.parts, len(material.vocabulary)
    rare = ", ".join(f"{(ids == parts.rare_id).mean():.1%}" for ids in (parts.train, parts.dev, parts.test))
    yield (
        f"{material.name}: {len(parts.train):,} training, {len(parts.dev):,} validation and "
        f"{len(parts.test):,} test tokens in running order; a vocabulary of {size:,}. Words that occur at most {RARE} "
        f"times, and words outside the vocabulary, are one token, {RARE_TOKEN}: {rare} of the three parts."
    )
    made = sorted({f"{row['device']}, commit {(row['commit'] or 'unknown')[:9]}" for row in rows})
    minutes = sum(row["wall_seconds"] for row in rows) / 60
    yield f"Command: {command}. Made on: {'; '.join(made)}; {minutes:.1f} minutes of training on one core."
    yield (
        "Perplexities, exp of the mean loss in nats; with several seeds their mean and a 95 % interval. Training "
        "perplexity is that of every 16th window. Mixtures are of probabilities, one half of each, with the "
        'deleted-interpolation trigram; "best weight" chooses the trigram\'s weight on the validation part.'
    )


def _cell_lines(
    store: Store,
    study: Study,
    cell: Cell,
    material: TextMaterial,
    trigram: Probabilities,
    known: dict[str, Network],
) -> Iterator[Line]:
    """A model alone and mixed, and the average of its seeds."""
    model = _model(cell)
    one_by_one, together = _measured(cell.finished, store, material, trigram, known)
    n, n_params = len(cell.finished), cell.rows[0]["n_params"]
    train = math.exp(cell.estimate("train_loss").mean)
    alone = (model.train, model.valid, model.test)
    yield _line(study.name, model.name, n, n_params, train, [(x.valid, x.test) for x in one_by_one], alone)
    mixed = (None, model.mixed_valid, model.mixed_test)
    yield _line(study.name, model.mixed, n, None, None, [(x.mixed_valid, x.mixed_test) for x in one_by_one], mixed)
    nothing = (None, None, None)
    best = [(x.best_valid, x.best_test) for x in one_by_one]
    yield _line(study.name, f"{model.name}, mixed at the best weight", n, None, None, best, nothing)
    if n > 1:
        name = f"{model.name}, average of {n} seeds"
        yield _line(study.name, name, n, n * n_params, None, [(together.valid, together.test)], nothing)
        name += ", mixed at the best weight"
        yield _line(study.name, name, n, None, None, [(together.best_valid, together.best_test)], nothing)


def _model(cell: Cell) -> TableModel:
    model = model_of(cell.rows[0])
    assert model is not None, "a run of another study"
    return model


def _line(
    recipe: str,
    name: str,
    seeds: int,
    n_params: int | None,
    train: float | None,
    pairs: Sequence[tuple[float, float]],
    published: tuple[float | None, float | None, float | None],
) -> Line:
    valid, test = (estimate(values) for values in zip(*pairs, strict=True))
    values = {"train": train, **valid.columns("valid"), **test.columns("test")}
    values |= dict(zip(("paper_train", "paper_valid", "paper_test"), published, strict=True))
    return Line(recipe, name, seeds, n_params, train, _shown(valid), _shown(test), values, published)


def _shown(value) -> str:
    return f"{value.mean:.1f}" if value.n == 1 else f"{value.mean:.1f} ± {value.half:.1f}"


def _measured(
    rows: Sequence[dict[str, Any]],
    store: Store,
    material: TextMaterial,
    trigram: Probabilities,
    known: dict[str, Network],
) -> tuple[list[Network], Network]:
    """Each of a cell's networks, and the average of all."""
    names = [row["run_id"] for row in rows]
    together = " ".join(names)
    if not {*names, together} <= known.keys():
        each = [network_probabilities(store, row, material) for row in rows]
        known |= {name: measure_network(one, trigram) for name, one in zip(names, each, strict=True)}
        known[together] = measure_network(averaged(each), trigram)
    return [known[name] for name in names], known[together]


def _read_measured(path: Path) -> dict[str, Network]:
    try:
        return {ids: Network(**told) for ids, told in json.loads(path.read_bytes()).items()}
    except (OSError, TypeError, ValueError):
        return {}


def _count_line(one: Counted) -> Line:
    published = PUBLISHED_COUNTS.get((one.family, one.order), (None, None, None))
    pair = (perplexity(one.probabilities["dev"]), perplexity(one.probabilities["test"]))
    return _line("counting", _count_name(one), 0, None, one.train, [pair], published)


def _count_name(one: Counted) -> str:
    return f"{one.family}, n = {one.order}"


def _uniform(material: TextMaterial) -> Line:
    size = float(len(material.vocabulary))
    return _line("", "uniform", 0, None, size, [(size, size)], (None, None, None))
