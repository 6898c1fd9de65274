"""Averages of a sweep's runs, and their mixtures with count models, measured exactly."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from experiments.analysis.comparisons import over_words
from experiments.analysis.looks import add_look
from experiments.analysis.results import SweepResults, load_baselines, read_kept
from experiments.analysis.studies import make_study
from experiments.runner.rows import Row
from experiments.store.atomic import replace_file
from experiments.store.small_files import write_small
from experiments.sweeps.text import csv_text, markdown_table
from mlp_lm.ngram.baselines import TEXT_LENGTHS, count_model_name, fit_count_model
from mlp_lm.ngram.counts import count_ngrams
from mlp_lm.ngram.models import CountModel

if TYPE_CHECKING:
    from mlp_lm.data.dataset import Windows
    from mlp_lm.mixtures import LogLinear, Probabilities
    from mlp_lm.sampling import LogDistributions

FILE_NAME = "ensembles.json"
FAMILIES = ("absolute discount", "modified Kneser-Ney")  # Of count models, which are mixed in.
LOG_LINEAR_FAMILY = "modified Kneser-Ney"  # Which rules nothing out: the log of a probability is finite.
LIST_ORDERS = (2, 3, 4, 6, 9)  # Mixed log-linearly: on names, more add nothing on dev.
MAX_CONTEXT_LENGTH = 12  # Of a count model.
LINEAR, LOG_LINEAR = "linear", "log-linear"
CROSS_VALIDATED, ON_ALL = "in two folds of dev", "on all of dev"


@dataclass(frozen=True)
class Ensemble:
    """Runs whose probabilities are averaged (none: count models alone), the count models they are mixed with, and how.

    Attributes:
        name: of the runs, in words.
        runs: their rows.
        counted: the count models in words, or nothing.
        mixing: LINEAR or LOG_LINEAR, or nothing.
        weights: those fitted to all of dev: the count model's own, or the members' of each bucket.
        losses: each dev token's in nats, of weights that were fitted without its fold.
        unseen_loss: their mean over dev tokens that are new (`Dataset.unseen`).
        buckets: of a log-linear mixture, a row for each bucket of contexts that dev has, with its weights.
        test_loss: the mean with `weights`, where it was asked for.
        test_look: which look at the test part in this folder that was.
    """

    name: str
    runs: tuple[Row, ...]
    counted: str = ""
    mixing: str = ""
    weights: Float[np.ndarray, "*shape"] | None = None
    losses: Float[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0))
    unseen_loss: float = math.nan
    buckets: tuple[dict[str, Any], ...] = ()
    test_loss: float | None = None
    test_look: int | None = None

    @property
    def n_params(self) -> int:
        """Parameters of all the networks together."""
        return sum(row["n_params"] for row in self.runs)

    @property
    def dev_loss(self) -> float:
        """Mean loss on dev, in nats per token."""
        return float(self.losses.mean())


class Predictions:
    """What runs and count models give the targets of some parts, each computed once."""

    def __init__(
        self, results: SweepResults, count_models: dict[str, CountModel], parts: Sequence[str], block_size: int
    ) -> None:
        # JAX only where it is needed: a wrong command line is reported at once.
        from mlp_lm.mixtures import windows_of

        self.results, self.count_models = results, count_models
        self.windows, self.weights = windows_of(results.dataset, parts, block_size)
        self._known: dict[str, Probabilities] = {}

    def of_run(self, row: Row) -> "Probabilities":
        """A stored run's."""
        from mlp_lm.mixtures import target_probabilities

        if row["run_id"] not in self._known:
            self._known[row["run_id"]] = target_probabilities(*self.results.load_model(row), self.windows)
        return self._known[row["run_id"]]

    def of_count_model(self, name: str) -> "Probabilities":
        """A count model's."""
        if name not in self._known:
            model = self.count_models[name]
            self._known[name] = model.token_probabilities(self.windows.contexts, self.windows.targets)
        return self._known[name]

    def of_average(self, rows: Sequence[Row]) -> "Probabilities":
        """The mean of some runs'."""
        from mlp_lm.mixtures import average

        return average([self.of_run(row) for row in rows])


def measure_ensembles(
    results: SweepResults,
    top: int,
    context_lengths: Sequence[int] | None = None,
    test: str | None = None,
    log_linear: Sequence[int] = (),
) -> list[Ensemble]:
    """The best run, averages of the k best and of all seeds of the best configuration, alone and mixed; best first.

    Each is mixed linearly with one count model, of these context lengths or, of each family, of the one that is best on
    dev. With `log_linear`, context lengths of modified Kneser-Ney, all these count models together are mixed
    log-linearly with nothing, with the best run, with all seeds of the best configuration, and with the best average.

    Dev losses are cross-validated in two folds of dev: no token is measured with weights that were fitted to its word.
    `test` is the command that asks for the test loss of the first ensemble; without it nothing looks at the test part.

    Raises:
        ValueError: no run has its weights.
    """
    ranked = results.ranked()
    seeds = _seeds_of_best(results, ranked)
    pools = [Ensemble("best run", tuple(ranked[:1]))]
    pools += [Ensemble(f"{k} best runs", tuple(ranked[:k])) for k in range(2, min(top, len(ranked)) + 1)]
    pools += [seeds] if len(seeds.runs) > 1 else []
    if context_lengths:
        wanted = [(family, k) for family in FAMILIES for k in sorted(set(context_lengths))]
    else:
        families = load_baselines(results.folder, results.request).families
        best = (min(families[family], key=lambda row: row.dev_loss) for family in FAMILIES)
        wanted = [(row.family, row.context_length) for row in best]
    count_models = {count_model_name(family, k): fit_count_model(results.dataset, family, k) for family, k in wanted}
    longest = max(*(k for _, k in wanted), *log_linear, *(row["block_size"] for pool in pools for row in pool.runs))
    dev = Predictions(results, count_models, ("dev", "dev_unseen"), longest)
    ensembles = [replace(pool, losses=-np.log(dev.of_average(pool.runs))) for pool in pools]
    averages = sorted(ensembles, key=lambda one: one.dev_loss)
    with np.errstate(divide="ignore"):  # A count model may rule a token out: an infinite loss.
        ensembles += [Ensemble("", (), name, losses=-np.log(dev.of_count_model(name))) for name in count_models]
    ensembles += [_mixed(pool, name, dev) for pool in pools for name in count_models]
    if log_linear:
        orders = tuple(sorted(set(log_linear)))
        chosen = (Ensemble("", ()), pools[0], seeds, averages[0])
        distinct = {frozenset(row["run_id"] for row in pool.runs): pool for pool in chosen}
        ensembles += _mixed_log_linearly(list(distinct.values()), orders, results, dev.windows)
    new = dev.weights["dev_unseen"] > 0
    ensembles = [
        replace(one, unseen_loss=float(one.losses[new].mean()) if new.any() else math.nan) for one in ensembles
    ]
    ensembles.sort(key=lambda one: one.dev_loss)
    if test is not None:
        ensembles[0] = _look_at_test(ensembles[0], results, count_models, log_linear, longest, test)
    return ensembles


def _seeds_of_best(results: SweepResults, usable: Sequence[Row]) -> Ensemble:
    """All usable runs of the best configuration that has any."""
    run_ids = {row["run_id"] for row in usable}
    for cell in make_study("all", results.rows).cells:
        runs = tuple(row for row in cell.rows if row["run_id"] in run_ids)
        if runs:
            which = "all" if len(runs) == len(cell.rows) else f"{len(runs)} of"
            return Ensemble(f"{which} {len(cell.rows)} seeds of the best configuration", runs)
    raise AssertionError("usable runs are of some configuration")


def _mixed(pool: Ensemble, name: str, dev: Predictions) -> Ensemble:
    """A pool of runs and a count model."""
    from mlp_lm.mixtures import FOLDS, mix, mixture_weight, stretches

    neural, counted = dev.of_average(pool.runs), dev.of_count_model(name)
    _, folds = stretches(dev.results.dataset, "dev")
    weights = np.zeros(len(neural))
    for fold in range(FOLDS):
        weights[folds == fold] = mixture_weight(neural, counted, (folds != fold).astype(float))
    weight = np.array(mixture_weight(neural, counted, dev.weights["dev"]))
    losses = -np.log(mix(neural, counted, weights))
    return replace(pool, counted=name, mixing=LINEAR, weights=weight, losses=losses)


def _mixed_log_linearly(
    pools: Sequence[Ensemble], orders: tuple[int, ...], results: SweepResults, dev: "Windows"
) -> list[Ensemble]:
    """Each pool of runs and modified Kneser-Ney of several orders."""
    from mlp_lm.mixtures import cross_validate, stretches

    count_models = log_count_models(results, orders)
    mixtures = [log_linear_mixture(results, pool.runs, orders, count_models) for pool in pools]
    losses = cross_validate(mixtures, dev, stretches(results.dataset, "dev")[1])
    name = f"{LOG_LINEAR_FAMILY}, {', '.join(map(str, orders))} context tokens"
    ensembles = []
    for pool, mixture, of_pool in zip(pools, mixtures, losses, strict=True):
        weights = mixture.fit(dev)
        members = [count_model_name(LOG_LINEAR_FAMILY, k) for k in orders] + ["the networks"] * bool(pool.runs)
        tokens = np.bincount(mixture.buckets.of(dev.contexts), minlength=mixture.buckets.number)
        buckets = tuple(
            {"networks": pool.name, "context": mixture.buckets.name(bucket), "dev_tokens": int(tokens[bucket])}
            | {f"weight of {name}": weight for name, weight in zip(members, weights[bucket].tolist(), strict=True)}
            for bucket in np.flatnonzero(tokens).tolist()
        )
        ensembles.append(
            replace(pool, counted=name, mixing=LOG_LINEAR, weights=weights, losses=of_pool, buckets=buckets)
        )
    return ensembles


def check_context_lengths(flag: str, lengths: Sequence[int]) -> None:
    """Refuse a context length that no count model has.

    Raises:
        ValueError: one is out of bounds; the message names the flag.
    """
    if wrong := [k for k in lengths if not 1 <= k <= MAX_CONTEXT_LENGTH]:
        raise ValueError(f"{flag} must be between 1 and {MAX_CONTEXT_LENGTH}, got {wrong[0]}")


def log_linear_orders(results: SweepResults, wanted: Sequence[int] | None) -> Sequence[int]:
    """The context lengths that `--log-linear` asks for: none without the flag, the usual ones where it names none."""
    if wanted is None:
        return ()
    return wanted or (TEXT_LENGTHS if results.is_running_text else LIST_ORDERS)


def log_count_models(results: SweepResults, orders: Sequence[int]) -> list["LogDistributions"]:
    """Modified Kneser-Ney of several context lengths."""
    from mlp_lm.mixtures import log_count_model

    return [log_count_model(fit_count_model(results.dataset, LOG_LINEAR_FAMILY, k)) for k in orders]


def log_linear_mixture(
    results: SweepResults,
    runs: Sequence[Row],
    orders: Sequence[int],
    count_models: Sequence["LogDistributions"] | None = None,
) -> "LogLinear":
    """The count models of these context lengths and the average of some runs, if any, which is the last member.

    Mixtures with the same `count_models` (`log_count_models`) ask them together.
    """
    from mlp_lm.mixtures import Buckets, LogLinear, log_average

    dataset, longest = results.dataset, max(orders)
    train = dataset.windows("train", longest)
    members = list(count_models or log_count_models(results, orders))
    if runs:
        members.append(log_average([results.load_model(row) for row in runs]))
    counts = count_ngrams(train.contexts, train.targets, longest, len(dataset.vocabulary))
    return LogLinear(members, Buckets(counts))


def _look_at_test(
    one: Ensemble,
    results: SweepResults,
    count_models: dict[str, CountModel],
    log_linear: Sequence[int],
    longest: int,
    command: str,
) -> Ensemble:
    """An ensemble with its test loss; the look is counted in the folder."""
    from mlp_lm.mixtures import mean_loss, mix

    test = Predictions(results, count_models, ("test",), longest)
    if one.mixing == LOG_LINEAR and one.weights is not None:
        mixture = log_linear_mixture(results, one.runs, sorted(set(log_linear)))
        loss = float(mixture.losses(test.windows, one.weights).mean())
    else:
        given = test.of_average(one.runs) if one.runs else test.of_count_model(one.counted)
        if one.weights is not None:
            given = mix(given, test.of_count_model(one.counted), float(one.weights))
        loss = mean_loss(given, test.weights["test"])
    what = " with ".join(filter(None, (one.name, one.counted))) + (f", {one.mixing}" if one.mixing else "")
    look = add_look(results, what, [row["run_id"] for row in one.runs], [loss], command, together=True)
    return replace(one, test_loss=loss, test_look=look.look)


@dataclass(frozen=True)
class EnsembleRow:
    """An ensemble in the folder's table; losses are in nats per token.

    `count_weight` is None of what is no linear mixture. `dev_loss_low` and `_high` are the 95 % interval of the dev
    loss over the choice of dev words (of stretches of a running text), and `to_first` the difference to the first row,
    paired by them, with the interval of that. Older tables have none of these, nor how weights were chosen: on all of
    dev.
    """

    networks: str
    count_model: str
    count_weight: float | None
    n_networks: int
    n_params: int
    dev_loss: float
    dev_unseen_loss: float
    test_loss: float | None
    run_ids: list[str]
    mixing: str = ""
    weights_chosen: str = ""
    dev_loss_low: float | None = None
    dev_loss_high: float | None = None
    to_first: float | None = None
    to_first_low: float | None = None
    to_first_high: float | None = None
    test_look: int | None = None


def ensemble_rows(results: SweepResults, ensembles: Sequence[Ensemble]) -> list[EnsembleRow]:
    """The rows of the table, with intervals over dev words."""
    from mlp_lm.mixtures import stretches

    words, _ = stretches(results.dataset, "dev")
    rows = []
    for one in ensembles:
        dev, to_first = over_words(one.losses, words), over_words(one.losses - ensembles[0].losses, words)
        rows.append(
            EnsembleRow(
                one.name,
                one.counted,
                float(one.weights) if one.weights is not None and one.mixing == LINEAR else None,
                len(one.runs),
                one.n_params,
                one.dev_loss,
                one.unseen_loss,
                one.test_loss,
                [row["run_id"] for row in one.runs],
                one.mixing,
                CROSS_VALIDATED if one.mixing else "",
                *_finite(dev.low, dev.high),
                to_first.mean,
                *_finite(to_first.low, to_first.high),
                one.test_look,
            )
        )
    return rows


def write_ensembles(results: SweepResults, ensembles: Sequence[Ensemble]) -> list[EnsembleRow]:
    """Keep the ensembles in FILE_NAME, and write `tables/ensembles.csv` and `.md`, and the weights of each bucket."""
    folder, rows = results.folder, ensemble_rows(results, ensembles)
    write_small(folder, FILE_NAME, [asdict(row) for row in rows])
    cells = [asdict(row) | {"run_ids": " ".join(row.run_ids)} for row in rows]
    replace_file(folder / "tables" / "ensembles.csv", csv_text(cells).encode())
    replace_file(folder / "tables" / "ensembles.md", as_markdown(rows).encode())
    if buckets := [bucket for one in ensembles for bucket in one.buckets]:
        replace_file(folder / "tables" / "log_linear_weights.csv", csv_text(buckets).encode())
    return rows


def read_ensembles(results: SweepResults) -> list[EnsembleRow]:
    """The ensembles of a folder; none where their file is missing or damaged, or of runs no longer asked for."""
    rows = read_kept(list[EnsembleRow], results.folder, FILE_NAME) or []
    members = {run_id for row in rows for run_id in row.run_ids}
    return rows if members <= {row["run_id"] for row in results.rows} else []


def as_table(rows: Sequence[EnsembleRow]) -> tuple[list[str], list[list[str]], list[str]]:
    """A header, a row an ensemble, and what is to be known about them."""
    header = [
        "networks",
        "count models",
        "mixing",
        "dev",
        "to the first",
        "dev, unseen",
        "weights chosen",
        "parameters",
    ]
    cells = [
        [
            row.networks or "none",
            row.count_model or "none",
            mixing_words(row),
            _with_half(row.dev_loss, row.dev_loss_high, ""),
            "-" if row is rows[0] or row.to_first is None else _with_half(row.to_first, row.to_first_high, "+"),
            "-" if math.isnan(row.dev_unseen_loss) else f"{row.dev_unseen_loss:.4f}",
            chosen_words(row) or "-",
            f"{row.n_params:,}",
        ]
        for row in rows
    ]
    first = rows[0]
    look = f" (look {first.test_look} at the test part in this folder)" if first.test_look else ""
    test = f"Test loss of the first row, chosen on dev: {first.test_loss:.4f}{look}." if first.test_loss else ""
    return header, cells, [ensembles_note(rows), *filter(None, [test])]


def mixing_words(row: EnsembleRow) -> str:
    """Such as `linear, 0.311`: how models are mixed, and a linear mixture's weight of the count model."""
    if row.count_weight is None:
        return row.mixing or "-"
    return f"{LINEAR}, {row.count_weight:.3f}"


def chosen_words(row: EnsembleRow) -> str:
    """Where the weights of a mixture were chosen; tables that do not say so have them from all of dev."""
    return row.weights_chosen or (ON_ALL if row.count_weight is not None else "")


def ensembles_note(rows: Sequence[EnsembleRow]) -> str:
    """What is to be known of the numbers in the table."""
    sentences = [
        "Averages of probabilities, and mixtures with count models, exact over whole splits, in nats per token."
    ]
    if any(chosen_words(row) == ON_ALL for row in rows):
        sentences.append("Members and weights are chosen on dev, so a dev loss here is a little flattered.")
    else:
        sentences.append(
            f"A mixture's dev loss is that of weights chosen {CROSS_VALIDATED}, each token's without its own fold; "
            "the weight shown, and the test loss, are of weights chosen on all of dev. Which runs are averaged is "
            "chosen on dev, too, and not cross-validated. Intervals are 95 % over the choice of dev words (of "
            "stretches of a running text), and differences are paired by them; neither covers the networks' seeds."
        )
    return " ".join(sentences)


def as_markdown(rows: Sequence[EnsembleRow]) -> str:
    """The table in words and Markdown."""
    header, cells, (words, *tested) = as_table(rows)
    return "\n\n".join(["# Ensembles and mixtures", words, markdown_table(header, cells), *tested]) + "\n"


def _finite(low: float, high: float) -> tuple[float | None, float | None]:
    """The ends of an interval; None where there is none, as of a single stretch of text."""
    return (low, high) if math.isfinite(high) else (None, None)


def _with_half(value: float, high: float | None, sign: str) -> str:
    """Such as `1.9613 ± 0.0170`, where there is an interval."""
    return f"{value:{sign}.4f}" + ("" if high is None else f" ± {high - value:.4f}")
