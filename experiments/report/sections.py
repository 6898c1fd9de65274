"""Sections of a report: text, a table and a picture; the page escapes the text and shows the picture as a data URI.

Some follow from a sweep's own rows and request: what goes on inside its models, how its runs were chosen, and what they
cost. What a study adds is kept in `sections.json`.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.analysis.comparisons import (
    HIGHER,
    LOWER,
    MARGIN,
    compare,
    p_text,
    reference_of,
    tuned_study,
    tunings,
    why_reference,
)
from experiments.analysis.diagnostics import EXPLANATION, diagnostic_table, has_diagnostics
from experiments.analysis.effects import value_name
from experiments.analysis.response import Response, fit_response
from experiments.analysis.results import SweepResults, read_kept
from experiments.analysis.sequential import FEWEST_MODERATED, Outcome, planned_looks
from experiments.analysis.sequential_figures import conclusion, saving, seed_outcomes
from experiments.analysis.studies import Cell, Study
from experiments.analysis.style import file_stems
from experiments.analysis.tradeoffs import COSTS, cost_of, fronts
from experiments.runner.stages import round_name
from experiments.store.small_files import write_small
from experiments.sweeps.text import count, percent

FILE_NAME = "sections.json"
PNG = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE = 1 << 20  # Bytes.
SHOWN_SHARES = 12
SHOWN_ROUNDS = 30
SHOWN_COMPARISONS = 20


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        run_ids: the runs that it is about; a report without one of them leaves it out.
        text: a paragraph.
        header: of its table; none, no table.
        rows: the table's cells, as text.
        picture: a PNG file in the folder, such as `figures/map.png`; a file that is not there is left out.
        alt: the picture in words.
    """

    title: str
    run_ids: Sequence[str]
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: str = ""
    alt: str = ""

    def __post_init__(self) -> None:
        """Refuse a row of another length than the header."""
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"a row of a table is not as long as its header, {list(self.header)}")


def write_sections(folder: Path, sections: Sequence[Section]) -> None:
    """Save sections, in place of the last ones."""
    write_small(folder, FILE_NAME, [asdict(section) for section in sections])


def read_sections(folder: Path) -> list[Section]:
    """The sections of a sweep's folder; none where the file is missing or damaged."""
    return read_kept(list[Section], folder, FILE_NAME) or []


def picture_uri(folder: Path, picture: str) -> str:
    """A picture of the folder as a data URI; empty where there is none, or it is no small PNG file of this folder."""
    path = folder / picture
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return ""
        content = path.read_bytes()
    except (OSError, ValueError):
        return ""
    if not content.startswith(PNG) or len(content) > MAX_PICTURE:
        return ""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def computed_sections(results: SweepResults) -> Iterator[Section]:
    """The sections of a sweep's report that its own rows and request call for."""
    stems = file_stems([study.name for study in results.studies])
    for study, stem in zip(results.studies, stems, strict=True):
        yield from _diagnostic_section(study, stem)
    outcomes = {study.name: outcome for study, outcome in seed_outcomes(results)}
    for study, stem in zip(results.studies, stems, strict=True):
        if study.ranges:
            yield from _range_sections(study, stem)
        yield from _comparison_section(study, study.name in outcomes)
        yield from _tuned_section(study)
        if study.name in outcomes:
            yield _seed_section(results, study, outcomes[study.name], stem)
        yield from _tradeoff_section(study, stem)
    yield from _round_sections(results)


def _diagnostic_section(study: Study, stem: str) -> Iterator[Section]:
    """What goes on inside the models, where it was recorded: a table and the figure in the folder."""
    if has_diagnostics(study):
        yield Section(
            f"Inside the models: {study.name}",
            (),
            EXPLANATION,
            *diagnostic_table(study),
            f"figures/{stem}_diagnostics.png",
            "Saturation and scales of each layer and matrix, a row a configuration: the table's numbers",
        )


def _comparison_section(study: Study, has_looks: bool) -> Iterator[Section]:
    reference = reference_of(study)
    compared = [c for c in compare([cell for cell in study.cells if cell.finished], reference) if c.difference.n > 1]
    if not compared:
        return
    n_more = len(compared) - SHOWN_COMPARISONS
    more = f" {n_more:,} more are in tables/comparisons.csv." if n_more > 0 else ""
    if has_looks:
        more += " They do not count that seeds were added after looks at these losses; the next section does."
    yield Section(
        f"{study.name}: which differences are there",
        (),
        f"Dev loss minus that of {study.label(reference)}, {why_reference(reference, study)}; paired by seed. "
        f"The p-values are of Student's t-test, adjusted for all {count(len(compared), 'comparison')} (Holm 1979); "
        f"equivalent means less than {MARGIN} apart (two one-sided tests, adjusted in the same way). Intervals and "
        "p-values are about seeds: another sample of the data moves every dev loss by more, but all of them alike; "
        f"`python -m experiments.compare` with this folder counts that, too.{more}",
        ("configuration", "seeds", "difference", "p", "conclusion"),
        [
            [
                study.label(c.cell),
                str(c.difference.n),
                c.difference.signed(),
                p_text(c.p_difference),
                c.verdict + (f", by less than {MARGIN}" if c.within_margin and c.verdict in (LOWER, HIGHER) else ""),
            ]
            for c in compared[:SHOWN_COMPARISONS]
        ],
    )


def _tuned_section(study: Study) -> Iterator[Section]:
    for tuned in tunings(study)[-1:]:
        result, names = tuned_study(study, tuned), " and ".join(axis.replace("_", " ") for axis in tuned)
        yield Section(
            f"{study.name}: each at its own best {names}",
            (),
            f"Every seed is judged at the {names} that is best for the other seeds, so that choosing by the dev loss "
            "does not favour a configuration; one seed alone is judged at its own. tables/tuned.csv also says which "
            "values are not shown to be worse.",
            (*result.axes, *(f"best {axis}" for axis in tuned), "seeds", "dev", "to best"),
            [
                [
                    *(value_name(cell.settings[axis]) for axis in (*result.axes, *tuned)),
                    str(len(cell.finished)),
                    str(cell.estimate("dev_loss")),
                    result.to_best_words(cell),
                ]
                for cell in result.cells[:SHOWN_COMPARISONS]
            ],
        )


def _seed_section(results: SweepResults, study: Study, outcome: Outcome, stem: str) -> Section:
    design = results.request.design
    width, looks = design["until"], planned_looks(design["max_seeds"])
    saved = ", ".join(
        f"{100 * saving(study, outcome, n):.0f} % fewer than {n} seeds for all"
        for n in sorted({8, looks[-1]})
        if saving(study, outcome, n) > 0
    )
    return Section(
        f"{study.name}: how many seeds, and why no more",
        (),
        f"Looks at {', '.join(map(str, looks))} seeds, planned beforehand. A configuration was dropped once it was "
        "behind the best by a paired t-test: Holm's procedure over all pairs, an equal part of 5 % for each look, and "
        f"with {FEWEST_MODERATED} configurations or more variances moderated by one another (Holm 1979; Lan and DeMets "
        "1983; Smyth 2004). This keeps the probability of any false “worse than” below at 5 % or less, by proof "
        "with plain variances and by simulation with moderated ones; intervals are Bonferroni's, "
        "wider than the test. It ends when all "
        f"differences of those left are known within ±{width:g}, by intervals that hold together with 95 % over all "
        f"pairs and looks. {sum(outcome.n_wanted.values()):,} runs{', ' + saved if saved else ''}.",
        ("configuration", "seeds", "dev", "to the best at that look", "why no more", "conclusion"),
        [
            [
                study.label(study.cells[place]),
                str(verdict.n_seeds),
                str(study.cells[place].estimate("dev_loss")),
                "best" if verdict.best == place else verdict.to_best.signed(),
                verdict.reason,
                conclusion(study, outcome, place, width),
            ]
            for place, verdict in sorted(outcome.verdicts.items())
        ],
        f"figures/{stem}_seeds.png",
        f"How many seeds each configuration of {study.name} got",
    )


def round_rows(results: SweepResults) -> Iterator[tuple[str, Study, list[list[str]]]]:
    """Of a sweep whose best went on with more steps: by study, its first round, and a row a configuration.

    A row is the configuration, and its rank and loss in each round that it was in.
    """
    design, by_name = results.request.design, {study.name: study for study in results.studies}
    for name in design.get("first", ()):
        scales = [design["then"] ** i for i in range(32)]
        rounds = [by_name[round_name(name, scale)] for scale in scales if round_name(name, scale) in by_name]
        if len(rounds) < 2:
            continue

        places = [
            {_in_first_round(cell, scale): (rank, cell) for rank, cell in enumerate(each.cells, 1)}
            for scale, each in zip(scales, rounds, strict=False)
        ]
        longest = {place: i for i, each in enumerate(places) for place in each}
        order = sorted(places[0], key=lambda place: (-longest[place], places[longest[place]][place][0]))
        rows = []
        for place in order[:SHOWN_ROUNDS]:
            ranked = [each.get(place) for each in places]
            cells = [f"{one[0]}: {one[1].estimate('dev_loss')}" if one else "" for one in ranked]
            rows.append([rounds[0].label(places[0][place][1]), *cells])
        yield name, rounds[0], rows


def _in_first_round(cell: Cell, scale: int) -> tuple:
    """A configuration's settings with the steps of the first round, of which this one has `scale` times as many."""
    return tuple((cell.settings | {"n_steps": cell.settings["n_steps"] // scale}).values())


def _round_sections(results: SweepResults) -> Iterator[Section]:
    factor = results.request.design.get("then", 1)
    for name, first, rows in round_rows(results):
        n_steps, scales = first.cells[0].settings["n_steps"], [factor**i for i in range(len(rows[0]) - 1)]
        header = [
            f"{scale:,} times the steps" if "n_steps" in first.axes else f"{n_steps * scale:,} steps"
            for scale in scales
        ]
        yield Section(
            f"{name}: the best again with more steps",
            (),
            f"Rank and dev loss in each round; the best 1/{factor} of a round went on with {factor} times the steps "
            "(successive halving, Jamieson and Talwalkar 2016). Where ranks change, short runs were a poor guess at "
            "long ones, and one that did not go on may have been better in the end.",
            ("configuration", *header),
            rows,
        )


def _tradeoff_section(study: Study, stem: str) -> Iterator[Section]:
    by_cost = fronts(study)
    if not any(len(cells) > 1 for cells in by_cost.values()):
        return
    yield Section(
        f"{study.name}: loss against its cost",
        (),
        "Configurations on a Pareto front: none of the others is as cheap and as good. Seconds are those of a run as "
        "it was trained, side by side with others; those of the first of a program hold its compilation. Neighbours on "
        "a front may differ by less than their intervals.",
        ("against", "cost", "dev", "configuration"),
        [
            [COSTS[cost], f"{cost_of(cell, cost):,.4g}", str(cell.estimate("dev_loss")), study.label(cell)]
            for cost, cells in by_cost.items()
            for cell in cells
        ],
        f"figures/{stem}_tradeoffs.png",
        f"Dev loss of {study.name} against parameters and seconds, with the Pareto front",
    )


def _range_sections(study: Study, stem: str) -> Iterator[Section]:
    response = fit_response(study)
    drawn = ", ".join(f"{axis} {range_}" for axis, range_ in study.ranges.items())
    title = f"{study.name}: what matters over {drawn}"
    if not isinstance(response, Response):
        yield Section(title, (), response)
        return
    shares = response.shares[:SHOWN_SHARES]
    yield Section(
        title,
        (),
        "Share of the variance of the dev loss that each axis explains, and each pair beyond its two axes. "
        + response.how(),
        ("axis", "share", "95 % interval"),
        [[" × ".join(s.axes), percent(s.value), f"{percent(s.low)} to {percent(s.high)}"] for s in shares],
        f"figures/{stem}_marginals.png",
        f"Dev loss along each axis of {study.name}, a curve with its band over the configurations",
    )
    yield Section(
        f"{study.name}: the best point and its neighbours",
        (),
        "The configurations nearest to the best one; a distance of 1 is one length of the surface's kernel, or another "
        "listed value. Where neighbours are as good, the place of the best one is known no better than that.",
        (*response.axes, "distance", "dev", "to best"),
        [
            [
                *(value_name(cell.settings[axis]) for axis in response.axes),
                f"{distance:.2f}",
                str(cell.estimate("dev_loss")),
                study.to_best_words(cell),
            ]
            for cell, distance in response.neighbours()
        ],
        f"figures/{stem}_contour.png",
        f"Contours of the dev loss of {study.name} over the two ranges that matter most",
    )
