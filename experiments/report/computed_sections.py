"""Sections of a report that follow from the way a sweep chose its runs: curves of ranges."""

from collections.abc import Iterator

from experiments.analysis.effects import value_name
from experiments.analysis.figures import file_stems
from experiments.analysis.response import Response, fit_response
from experiments.analysis.results import SweepResults
from experiments.analysis.studies import Study
from experiments.report.sections import Section

SHOWN_SHARES = 12


def computed_sections(results: SweepResults) -> Iterator[Section]:
    """The sections of a sweep's report that its own rows and request call for."""
    stems = file_stems([study.name for study in results.studies])
    for study, stem in zip(results.studies, stems, strict=True):
        if study.ranges:
            yield from _range_sections(study, stem)


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
        [[" × ".join(s.axes), _percent(s.value), f"{_percent(s.low)} to {_percent(s.high)}"] for s in shares],
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
                "best" if cell is study.best else study.to_best(cell).signed(),
            ]
            for cell, distance in response.neighbours()
        ],
        f"figures/{stem}_contour.png",
        f"Contours of the dev loss of {study.name} over the two ranges that matter most",
    )


def _percent(share: float) -> str:
    return f"{max(100 * share, 0.0):.1f} %"
