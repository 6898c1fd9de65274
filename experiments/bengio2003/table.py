"""The paper's table beside measured perplexities, and what a learned embedding holds: as Markdown, CSV and sections.

Perplexities are exp of mean losses in nats. What was measured once of a network is kept in `measured.json` beside its
shards, and what was seen in the best one in `sections.json` and `samples.json`: a folder without weights keeps them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from experiments.analysis.effects import best_run
from experiments.analysis.ensembles import Predictions
from experiments.analysis.looks import add_look, describe_looks, read_looks
from experiments.analysis.results import SweepResults, read_kept
from experiments.analysis.studies import Cell, Estimate, estimate
from experiments.analysis.trained_models import keep_samples, read_samples
from experiments.analysis.words import made_on
from experiments.bengio2003.figures import plot_map, plot_novelty, unit_vectors
from experiments.bengio2003.models import MIXED_WEIGHT, MODELS, PUBLISHED_COUNTS, model_of
from experiments.report.sections import Section, read_sections, write_sections
from experiments.runner.rows import Row
from experiments.store.atomic import replace_file
from experiments.store.small_files import write_small
from experiments.sweeps.text import count, csv_text, inert, markdown_table
from mlp_lm.data.dataset import Dataset, Windows
from mlp_lm.data.texts import RARE, RARE_TOKEN
from mlp_lm.data.vocabulary import Vocabulary
from mlp_lm.mixtures import Probabilities, average, mean_loss, mix, mixture_weight
from mlp_lm.ngram.baselines import fit_count_model
from mlp_lm.ngram.counts import count_ngrams
from mlp_lm.ngram.models import held_out_loss

TABLE_TITLE = "Table 1 of the paper"
MEASURED_FILE, MAP_FILE, NOVELTY_FILE = "measured.json", "figures/map.png", "figures/novelty.png"
LONGEST = 4  # Words of context, of networks and count models.
TRIGRAM, STRONGEST = ("deleted interpolation", 3), ("modified Kneser-Ney", 5)
COUNT_MODELS = (TRIGRAM, *((family, n) for n in (3, 4, 5) for family in ("Kneser-Ney", "modified Kneser-Ney")))
COUNTING = "counting"
HEADER = [
    "model", "training", "seeds", "parameters", "train", "validation", "test",
    "the paper, on Brown: train / valid / test",
]  # fmt: skip
NOTE = (
    "Perplexities, exp of the mean loss in nats; with several seeds their mean and a 95 % interval. Training "
    "perplexity is that of every 16th window. Mixtures are of probabilities, one half of each, with the "
    'deleted-interpolation trigram; "best weight" chooses the trigram\'s weight on the validation part.'
)

# The paper's example, then words of several kinds: days, numbers, people, verbs, qualities, places.
QUERIES = (
    *("the", "dog", "was", "running", "in", "a", "room"),
    *("Monday", "three", "he", "could", "said", "city", "John", "red", "France", "night", "kitchen"),
)
N_QUERIES = 14
N_NEIGHBOURS = 6
N_KNOWN = 3_000  # Neighbours are searched among the most frequent words: vectors of rare ones are hardly trained.

Published = tuple[float | None, float | None, float | None]  # Training, validation and test perplexity.
NOT_PUBLISHED: Published = (None, None, None)


@dataclass(frozen=True)
class Measured:
    """Perplexities of a network, or of several whose probabilities are averaged: alone, and mixed with the trigram.

    Those on the test part are None unless they were asked for.
    """

    valid: float
    test: float | None
    mixed_valid: float
    mixed_test: float | None
    best_weight: float  # Of the trigram, chosen on the validation part.
    best_valid: float
    best_test: float | None


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    recipe: str
    name: str
    seeds: int
    n_params: int | None
    train: float | None
    valid: Estimate
    test: Estimate  # Of no value where the test part was not looked at.
    published: Published

    def as_texts(self) -> list[str]:
        """The cells below HEADER."""
        published = " / ".join("-" if value is None else f"{value:.0f}" for value in self.published)
        return [
            self.name,
            self.recipe,
            str(self.seeds or "-"),
            "-" if self.n_params is None else f"{self.n_params:,}",
            "-" if self.train is None else f"{self.train:.1f}",
            *map(_perplexity_words, (self.valid, self.test)),
            published if any(self.published) else "-",
        ]

    def as_short_texts(self) -> list[str]:
        """For a terminal: model, training, seeds, validation, test, and the paper's test perplexity."""
        texts = dict(zip(HEADER, self.as_texts(), strict=True))
        paper = "-" if self.published[2] is None else f"{self.published[2]:.0f}"
        return [*(texts[name] for name in ("model", "training", "seeds", "validation", "test")), paper]

    def as_columns(self) -> dict[str, Any]:
        """The columns of `table1.csv`."""
        published = dict(zip(("paper_train", "paper_valid", "paper_test"), self.published, strict=True))
        sizes = {"recipe": self.recipe, "model": self.name, "seeds": self.seeds, "n_params": self.n_params}
        test = dict.fromkeys(self.test.columns("test")) if self.test.n == 0 else self.test.columns("test")
        return sizes | {"train": self.train, **self.valid.columns("valid"), **test} | published


@dataclass(frozen=True)
class Summary:
    """All that is said of a folder.

    `looked_at` are the runs whose test perplexities were measured now. `novelty` and `embedding` are of the best run,
    and None where its weights are not there; `left_out` says in one line what is missing for that reason, and is empty
    where nothing is.
    """

    title: str
    head: list[str]
    lines: list[Line]
    sections: list[Section]
    sentences: list[str]
    measured: dict[str, Measured]
    looked_at: list[Row]
    novelty: list[dict[str, Any]] | None
    embedding: Float[np.ndarray, "vocab embed"] | None
    left_out: str


def write_tables(results: SweepResults, test: str | None = None) -> Summary:
    """Write the tables, the map and the sections of the report; what cannot be made anew stays as it is.

    `test` is the command that asks for test perplexities: one look at the test part, if any were not measured yet.
    """
    folder, dataset = results.folder, results.dataset
    chosen = [best_run(study.best) for study in results.studies]
    keep_samples(results, [row for row in (*chosen, _best(results)) if row is not None])
    summary = summarise(results, test is not None)
    if test is not None and summary.looked_at:
        run_ids = [row["run_id"] for row in summary.looked_at]
        losses = [math.log(summary.measured[run_id].test or math.nan) for run_id in run_ids]
        models = dict.fromkeys(_model_name(row) for row in summary.looked_at)
        add_look(results, f"{', '.join(models)}, alone and mixed, and count models", run_ids, losses, test)
    summary = replace(summary, head=[*summary.head, describe_looks(read_looks(folder))])
    measured = {names: asdict(one) for names, one in summary.measured.items()}
    write_small(folder, MEASURED_FILE, measured)
    replace_file(folder / "tables" / "table1.csv", csv_text([line.as_columns() for line in summary.lines]).encode())
    replace_file(folder / "tables" / "summary.md", as_markdown(summary).encode())
    if summary.novelty is not None:
        replace_file(folder / "tables" / "novelty.csv", csv_text(summary.novelty).encode())
        plot_novelty(summary.novelty, folder / NOVELTY_FILE)
    if summary.embedding is not None:
        plot_map(summary.embedding, dataset.vocabulary, folder / MAP_FILE)
    write_sections(folder, summary.sections)
    return summary


def summarise(results: SweepResults, test: bool = False) -> Summary:
    """Measure what is not measured yet, and put it beside the paper's numbers. Nothing is written.

    The test part is looked at with `test`. Without it, test perplexities that a folder keeps are shown, with those of
    count models, and no others.

    Raises:
        ValueError: every run diverged.
    """
    dataset = results.dataset
    best = _best(results)
    if best is None:
        raise ValueError("every run diverged: there is nothing to compare; give another text, or more --epochs")
    count_models = {_name(*which): fit_count_model(dataset, which[0], which[1] - 1) for which in COUNT_MODELS}
    measured = _read_measured(results.folder)
    shown = test or any(one.test is not None for one in measured.values())
    predictions = Predictions(results, count_models, ("dev", "test") if shown else ("dev",), LONGEST)
    lines = [*_count_lines(predictions), _uniform_line(dataset)]
    looked_at: list[Row] = []
    missing: list[str] = []
    for study in sorted(results.studies, key=lambda study: study.name):
        for cell in sorted((cell for cell in study.cells if cell.finished), key=_place):
            before = {run_id for run_id, one in measured.items() if one.test is not None}
            known = _measure_cell(cell.finished, predictions, measured, test)
            new = known.keys() - before
            looked_at += [
                row for row in cell.finished if row["run_id"] in new and known[row["run_id"]].test is not None
            ]
            missing += [row["run_id"] for row in cell.finished if row["run_id"] not in known]
            lines += _network_lines(study.name, cell, known)
    left_out = []
    untested = [row["run_id"] for row in results.rows if (one := measured.get(row["run_id"])) and one.test is None]
    if test and untested:
        left_out.append(f"the test perplexities of {count(len(untested), 'run')} ({_shortened(untested)})")
    if missing:
        left_out.append(f"the perplexities of {count(len(missing), 'run')} ({_shortened(missing)})")

    novelty, embedding, seen = None, None, []
    if results.store.has_weights(best):
        novelty = compare_by_novelty(dataset, predictions, best)
        embedding = np.asarray(results.params(best["run_id"]).embedding)
        seen = _seen_in_best(best, novelty, _part(predictions), embedding, dataset.vocabulary)
    else:
        kept = [section for section in read_sections(results.folder) if section.title != TABLE_TITLE]
        seen = [section for section in kept if list(section.run_ids) == [best["run_id"]]]
        if not seen:
            left_out.append(f"novelty, neighbours and map of the best run ({best['run_id']})")
    samples = read_samples(results.folder).get(best["run_id"])
    if samples is None:
        left_out.append(f"sentences of the best run ({best['run_id']})")
    finished = [row["run_id"] for row in results.rows if row["run_id"] not in missing]
    table = Section(TABLE_TITLE, finished, answer(lines), HEADER, [line.as_texts() for line in lines])
    return Summary(
        results.request.title,
        _head(results),
        lines,
        [table, *seen],
        samples.words if samples else [],
        measured,
        looked_at,
        novelty,
        embedding,
        f"weights are not in {results.folder}, so left out: {'; '.join(left_out)}" if left_out else "",
    )


def as_markdown(summary: Summary) -> str:
    """The tables in words and Markdown."""
    parts = [f"# {inert(summary.title)}", *map(inert, summary.head)]
    for section in summary.sections:
        parts += [f"## {inert(section.title)}", inert(section.text)]
        if section.rows:
            parts.append(markdown_table(section.header, section.rows))
        if section.picture:
            parts.append(f"![{inert(section.alt)}](../{section.picture})")
    if summary.sentences:
        parts += ["## Sentences drawn", "\n".join(f"- {inert(sentence)}" for sentence in summary.sentences)]
    return "\n\n".join(part for part in [*parts, inert(summary.left_out)] if part) + "\n"


def answer(lines: Sequence[Line]) -> str:
    """The best network and the best count model in one sentence; empty without a network."""
    counted = [line for line in lines if line.recipe == COUNTING]
    networks = [line for line in lines if line.recipe not in ("", COUNTING)]
    if not networks:
        return ""
    best, rival = (min(group, key=lambda line: line.valid.mean) for group in (networks, counted))
    single = min((line for line in networks if line.train), key=lambda line: line.valid.mean)
    part = "test" if best.test.n and rival.test.n and single.test.n else "validation"
    reached = {line.name: line.as_texts()[HEADER.index(part)] for line in (single, rival, best)}
    chosen = (
        "each is chosen on the validation part" if part == "test" else "each is the lowest of many, and so flattered"
    )
    return (
        f"One network alone reaches a {part} perplexity of {reached[single.name]} ({single.name}, {single.recipe} "
        f"training), the best count model {reached[rival.name]} ({rival.name}), and the best network, "
        f"average or mixture {reached[best.name]} ({best.name}, {best.recipe} training); {chosen}."
    )


def perplexity(probabilities: Probabilities, weights: Probabilities) -> float:
    """exp of the mean loss: the weighted geometric mean of 1 / probability."""
    return math.exp(mean_loss(probabilities, weights))


def measure(neural: Probabilities, trigram: Probabilities, weights: dict[str, Probabilities]) -> Measured:
    """A network alone, mixed half and half with the trigram, and at the weight that is best on the validation part.

    On the parts that `weights` has: `dev`, and `test` where it is looked at.
    """
    best = mixture_weight(neural, trigram, weights["dev"])

    def each(part: str) -> list[Any]:
        shares = (0.0, MIXED_WEIGHT, best)
        return [perplexity(mix(neural, trigram, share), weights[part]) if part in weights else None for share in shares]

    (valid, mixed_valid, best_valid), (test, mixed_test, best_test) = each("dev"), each("test")
    return Measured(valid, test, mixed_valid, mixed_test, best, best_valid, best_test)


def longest_seen(dataset: Dataset, windows: Windows) -> Int[np.ndarray, " n"]:
    """For each target of some windows, the order of the longest n-gram ending in it that occurs in training.

    0: the word itself never occurs; 1: the word, but not after the word before it; at most 5.
    """
    train = dataset.windows("train", LONGEST)
    counts = count_ngrams(train.contexts, train.targets, LONGEST, len(dataset.vocabulary))
    occurs = [gram_ids >= 0 for _, gram_ids in counts.locate(windows.contexts, windows.targets)]
    return np.sum(np.logical_and.accumulate(np.stack(occurs)), axis=0)


def compare_by_novelty(dataset: Dataset, predictions: Predictions, row: Row) -> list[dict[str, Any]]:
    """Perplexity of a network and of the strongest count model, by the longest n-gram seen in training.

    On the test part where it is looked at, else on the validation part.
    """
    part = _part(predictions)
    longest, held_out = longest_seen(dataset, predictions.windows), predictions.weights[part]
    groups = [(f"{order}-gram seen" if order else "word never seen", longest == order) for order in range(LONGEST + 2)]
    groups.append(("its bigram never seen", longest <= 1))
    network, counted = predictions.of_run(row), predictions.of_count_model(_name(*STRONGEST))
    return [
        {
            "targets": name,
            "share": float(weights.sum() / held_out.sum()),
            "network": perplexity(network, weights),
            "count_model": perplexity(counted, weights),
        }
        for name, group in groups
        if (weights := held_out * group).any()
    ]


def neighbours(embedding: Float[np.ndarray, "vocab embed"], vocabulary: Vocabulary) -> dict[str, list[str]]:
    """The words of the highest cosine similarity to each of a few words."""
    known = vocabulary.tokens[: N_KNOWN + 2]
    vectors = unit_vectors(embedding[: len(known)])
    words = [word for word in QUERIES if word in known]
    words += [word for word in known[2:] if word.isalpha() and word not in words][: max(0, N_QUERIES - len(words))]
    nearest = {}
    for word in words[:N_QUERIES]:
        place = known.index(word)
        order = np.argsort(-(vectors @ vectors[place]), kind="stable")
        nearest[word] = [known[i] for i in order if i > 1 and i != place][:N_NEIGHBOURS]
    return nearest


def _best(results: SweepResults) -> Row | None:
    finished = [row for study in results.studies for cell in study.cells for row in cell.finished]
    return min(finished, key=lambda row: row["dev_loss"], default=None)


def _part(predictions: Predictions) -> str:
    """The part that is shown: `test` where it is looked at, else `dev`."""
    return "test" if "test" in predictions.weights else "dev"


def _model_name(row: Row) -> str:
    model = model_of(row)
    return model.name if model else "the best network"


def _perplexity_words(perplexities: Estimate) -> str:
    if perplexities.n == 0:
        return "-"
    interval = "" if perplexities.n == 1 else f" ± {perplexities.half:.1f}"
    return f"{perplexities.mean:.1f}{interval}"


def _place(cell: Cell) -> int:
    return next(place for place, model in enumerate(MODELS.values()) if model is model_of(cell.settings))


def _name(family: str, order: int) -> str:
    return f"{family}, n = {order}"


def _shortened(run_ids: Sequence[str]) -> str:
    return ", ".join(run_ids[:3]) + (", ..." if len(run_ids) > 3 else "")


def _read_measured(folder: Path) -> dict[str, Measured]:
    """By run id, or by several with blanks between; nothing where the file is missing or damaged."""
    return read_kept(dict[str, Measured], folder, MEASURED_FILE) or {}


def _measure_cell(
    rows: Sequence[Row], predictions: Predictions, measured: dict[str, Measured], test: bool
) -> dict[str, Measured]:
    """What is known of each of a cell's runs and of their average: kept in `measured`, or measured and added to it.

    With `test`, what is kept without test perplexities is measured again.
    """
    trigram = predictions.of_count_model(_name(*TRIGRAM))
    weights = {part: one for part, one in predictions.weights.items() if part == "dev" or test}
    pools = {row["run_id"]: [row] for row in rows} | {" ".join(row["run_id"] for row in rows): list(rows)}
    for names, pool in pools.items():
        is_missing = names not in measured or (test and measured[names].test is None)
        if is_missing and all(map(predictions.results.store.has_weights, pool)):
            measured[names] = measure(average([predictions.of_run(row) for row in pool]), trigram, weights)
    return {names: measured[names] for names in pools if names in measured}


def _network_lines(recipe: str, cell: Cell, known: dict[str, Measured]) -> Iterator[Line]:
    """A model alone and mixed, over the seeds that are measured, and the average of all its seeds."""
    model, n_params = model_of(cell.settings), cell.rows[0]["n_params"]
    assert model is not None, "a run of another study"
    run_ids = [row["run_id"] for row in cell.finished]
    each = [known[run_id] for run_id in run_ids if run_id in known]

    def line(name: str, what: str, group: Sequence[Measured], published: Published, **sizes: Any) -> Line:
        valid = estimate(getattr(one, f"{what}valid") for one in group)
        tested = [getattr(one, f"{what}test") for one in group]
        test = estimate(tested if None not in tested else [])
        return Line(
            recipe, name, valid=valid, test=test, published=published, **{"n_params": None, "train": None} | sizes
        )

    if each:
        n, train = len(each), math.exp(cell.estimate("train_loss").mean)
        paper = (model.train, model.valid, model.test)
        yield line(model.name, "", each, paper, seeds=n, n_params=n_params, train=train)
        yield line(model.mixed, "mixed_", each, (None, model.mixed_valid, model.mixed_test), seeds=n)
        yield line(f"{model.name}, mixed at the best weight", "best_", each, NOT_PUBLISHED, seeds=n)
    n, together = len(run_ids), known.get(" ".join(run_ids))
    if n > 1 and together is not None:
        name = f"{model.name}, average of {n} seeds"
        yield line(name, "", [together], NOT_PUBLISHED, seeds=n, n_params=n * n_params)
        yield line(f"{name}, mixed at the best weight", "best_", [together], NOT_PUBLISHED, seeds=n)


def _count_lines(predictions: Predictions) -> Iterator[Line]:
    for family, order in COUNT_MODELS:
        name = _name(family, order)
        held_out = predictions.of_count_model(name)
        valid, test = (
            estimate([perplexity(held_out, predictions.weights[part])] if part in predictions.weights else [])
            for part in ("dev", "test")
        )
        train = None
        if (family, order) == TRIGRAM:  # Of which the paper has it.
            windows = predictions.results.dataset.windows("train", order - 1)
            train = math.exp(held_out_loss(predictions.count_models[name], windows.contexts, windows.targets))
        published = PUBLISHED_COUNTS.get((family, order), NOT_PUBLISHED)
        yield Line(COUNTING, name, 0, None, train, valid, test, published)


def _uniform_line(dataset: Dataset) -> Line:
    size = float(len(dataset.vocabulary))
    return Line("", "uniform", 0, None, size, estimate([size]), estimate([size]), NOT_PUBLISHED)


def _seen_in_best(
    best: Row,
    novelty: list[dict[str, Any]],
    part: str,
    embedding: Float[np.ndarray, "vocab embed"],
    vocabulary: Vocabulary,
) -> list[Section]:
    """The sections that are of the best run alone."""
    run_ids = [best["run_id"]]
    compared = f"{_model_name(best)} (seed {best['seed']}) and {_name(*STRONGEST)}"
    grouped = [
        [one["targets"], f"{one['share']:.1%}", f"{one['network']:.1f}", f"{one['count_model']:.1f}"] for one in novelty
    ]
    nearest = [[word, ", ".join(near)] for word, near in neighbours(embedding, vocabulary).items()]
    return [
        Section(
            "Words after contexts that training never saw",
            run_ids,
            f"{'Test' if part == 'test' else 'Validation'} perplexity of {compared}, by the longest n-gram ending in "
            "the word that occurs in training.",
            ["longest n-gram seen", "share", "network", "count model"],
            grouped,
            NOVELTY_FILE,
            "Perplexity of the network and of the count model, by the longest n-gram seen: the table's numbers",
        ),
        Section(
            "Nearest neighbours in the embedding",
            run_ids,
            f"Words of the highest cosine similarity, among the {min(N_KNOWN, len(vocabulary)):,} most frequent ones.",
            ["word", "nearest words"],
            nearest,
        ),
        Section(
            "A map of frequent words",
            run_ids,
            picture=MAP_FILE,
            alt="The most frequent words in the plane of the embedding's two largest principal components",
        ),
    ]


def _head(results: SweepResults) -> list[str]:
    dataset, rows, rare_id = results.dataset, results.rows, results.dataset.vocabulary.ids[RARE_TOKEN]
    sizes = [f"{len(ids):,}" for ids in dataset.ids.values()]
    rare = ", ".join(f"{(ids == rare_id).mean():.1%}" for ids in dataset.ids.values())
    minutes = sum(row["wall_seconds"] for row in rows) / 60
    return [
        f"{dataset.name}: {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test tokens in running order; a "
        f"vocabulary of {len(dataset.vocabulary):,}. Words that occur at most {RARE} times, and words outside the "
        f"vocabulary, are one token, {RARE_TOKEN}: {rare} of the three parts.",
        f"Command: {results.request.command}. Made on: {made_on(rows)}; {minutes:.1f} minutes of training.",
        NOTE,
    ]
