"""A sweep's answer in a sentence a study, and the facts of its head."""

from collections.abc import Iterable, Iterator, Mapping

from experiments.analysis.looks import HeldOut
from experiments.analysis.results import SweepResults, read_failures
from experiments.analysis.sequential import BEHIND, BEST, FAILED, KNOWN, OPEN, OUT_OF_SEEDS, Outcome
from experiments.analysis.sequential_figures import seed_outcomes
from experiments.analysis.studies import Cell, Estimate, Study, estimate, perplexity_of
from experiments.runner.rows import DIVERGED, Row
from experiments.runner.run import format_seconds
from experiments.store.small_files import describe_failures
from experiments.sweeps.text import count
from mlp_lm.ngram.baselines import Baselines


def wording(results: SweepResults) -> dict[str, str]:
    """What a page calls the things of a word list or of a running text."""
    if results.is_running_text:
        return {
            "test": "test part",
            "unseen": "dev, unseen",
            "samples": "sentences",
            "training": "training text",
            "counted": "text",
            "dots": "Words",
            "perplexity": "yes",
        }
    return {
        "test": "test words",
        "unseen": "dev, unseen words",
        "samples": "words",
        "training": "training list",
        "counted": "words",
        "dots": "Tokens",
        "perplexity": "",
    }


def answers(results: SweepResults, baselines: Baselines, looks: Mapping[str, HeldOut]) -> list[str]:
    """One sentence a study: what is best, by how much, and how it compares with counting."""
    sentences = []
    outcomes = {study.name: outcome for study, outcome in seed_outcomes(results)}
    for study in results.studies:
        if not study.best.finished:
            sentences.append(f"In “{study.name}” every run diverged, so there is no answer.")
            continue
        lead = _lead(study)
        if study.name in outcomes:
            lead = after_looks(outcomes[study.name], results.request.design["until"])
        parts = [_best(study, results.is_running_text), *lead, _against_counting(study.best, baselines)]
        if study.name in looks:
            tested = estimate(looks[study.name].losses)
            interval = f" ({span(tested)})" if tested.n > 1 else ""
            part, look = wording(results)["test"], looks[study.name].look
            parts.append(f"on the {part} it has {tested.mean:.4f}{interval}, look {look} at it")
        sentences.append("; ".join(parts) + ".")
    return sentences or ["No run has finished, so there is no answer yet."]


def _best(study: Study, perplexity: bool) -> str:
    cells = sum(bool(cell.finished) for cell in study.cells)
    which = f"Of {cells} configurations in “{study.name}”, {study.label(study.best)} has the lowest dev loss"
    if any(cell.n_diverged for cell in study.cells) and not study.best.n_diverged:
        which += " of those without a diverged run"
    lowest = which if cells > 1 else f"In “{study.name}”, {study.label(study.best)} has this dev loss"
    reached = study.best.estimate("dev_loss")
    sure = "one seed, so no interval" if reached.n == 1 else f"95 % interval {span(reached)}, {reached.n} seeds"
    also = f", a perplexity of {perplexity_of(reached.mean):.1f}" if perplexity else ""
    return f"{lowest}: {reached.mean:.4f} nats per token ({sure}){also}"


def _lead(study: Study) -> Iterator[str]:
    others = [cell for cell in study.cells[1:] if cell.finished]
    if not others:
        return
    close = [cell for cell in others if study.is_close(cell)]
    lead = study.to_best(others[0])
    if close and lead.n > 1:
        yield f"{count(len(close), 'other')} cannot be distinguished from it (intervals of paired differences hold 0)"
    elif lead.n > 1:
        yield f"its lead over the next, paired by seed, is {lead.mean:.4f} ({span(lead)})"
    elif lead.n == 1:
        yield f"its lead over the next is {lead.mean:.4f} with one seed, which tells little"


def after_looks(outcome: Outcome, width: float) -> Iterator[str]:
    """What may be said where seeds were added in looks, which the interval of a lead would not count."""
    reasons = [verdict.reason for verdict in outcome.verdicts.values()]
    left = [reason for reason in reasons if reason not in (BEHIND, FAILED)]
    if len(reasons) < 2 or not left:
        return
    yield {
        BEST: "it is the only one left after all looks",
        KNOWN: f"{len(left)} are left after all looks, their differences known within ±{width:g}",
        OUT_OF_SEEDS: f"{len(left)} are left, which these seeds do not tell apart",
        OPEN: f"{len(left)} are left, and still open",
    }[left[0]]
    if n_behind := reasons.count(BEHIND):
        yield f"{count(n_behind, 'other')} {'is' if n_behind == 1 else 'are'} worse (at most 5 % for any error in this)"


def _against_counting(cell: Cell, baselines: Baselines) -> str:
    best = baselines.best
    difference = cell.estimate("dev_loss").mean - best.dev_loss
    word = "worse" if difference > 0 else "better"
    return f"it is {abs(difference):.4f} {word} than the best count model ({best.name}: {best.dev_loss:.4f})"


def span(value: Estimate) -> str:
    """`2.1805 to 2.1990`."""
    return f"{value.low:.4f} to {value.high:.4f}"


def facts(results: SweepResults) -> list[tuple[str, str]]:
    """What was run, on what data, and by which code and machine."""
    rows, request = results.rows, results.request
    n_diverged = sum(row["status"] == DIVERGED for row in rows)
    model_steps = sum(row["n_steps"] for row in rows)
    missing = request.run_ids - {row["run_id"] for row in rows}
    failed = describe_failures(read_failures(results.folder, missing), len(request.run_ids))
    seconds = sum(row["wall_seconds"] for row in rows)
    return [
        ("Runs", f"{len(rows):,} of {len(request.run_ids):,} done, {n_diverged:,} of them diverged"),
        *([("Failed", failed)] if failed else []),
        ("Training", f"{model_steps / 1e6:,.2f} million model-steps, {format_seconds(seconds)} of device time"),
        ("Machine", "; ".join(sorted({row["device"] for row in rows})) or "none yet"),
        ("Commit", "; ".join(sorted({_commit(row) for row in rows})) or "none yet"),
        ("Versions", "; ".join(sorted({row["versions"] for row in rows})) or "none yet"),
        ("Data", f"{request.data}, sha256 {request.data_hash}"),
    ]


def made_on(rows: Iterable[Row]) -> str:
    """The devices and commits that runs were made on, in one line; a + marks uncommitted changes."""
    return "; ".join(
        sorted(
            {f"{row['device']}, commit {(row['commit'] or 'unknown')[:9]}{'+' * bool(row['dirty'])}" for row in rows}
        )
    )


def _commit(row: Row) -> str:
    return f"{(row['commit'] or 'unknown')[:12]}{', changed since' if row['dirty'] else ''}"
