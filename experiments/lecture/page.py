"""The page of the walk, as Markdown with figures beside it and as one HTML file that opens offline."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from experiments.analysis.style import save_figure
from experiments.lecture import sections
from experiments.lecture.figures import plot_figure
from experiments.lecture.published import ANY, HEADER, Line
from experiments.lecture.walk import SECTIONS, Walk
from experiments.report.sections import picture_uri
from experiments.store.atomic import replace_file
from experiments.sweeps.text import count, csv_text, inert, markdown_table


@dataclass(frozen=True)
class Chapter:
    """A section as it is shown: its text, its code, its lines, and the name of its figure's file, if it has one."""

    name: str
    title: str
    text: str
    code: str
    lines: list[Line]
    figure: str

    def shown(self, own: bool) -> list[Line]:
        """The lines to show: of words of one's own, none that are about other words alone."""
        return [line for line in self.lines if not own or (line.ours and not (line.fact.true and line.agrees is None))]

    def rows(self, own: bool) -> list[list[str]]:
        """The table; of words of one's own, without numbers that were published about others."""
        return [
            [line.fact.what, "", line.ours, ""]
            if own and line.agrees is None
            else [line.fact.what, line.fact.printed, line.ours, line.verdict]
            for line in self.shown(own)
        ]


def make_chapter(walk: Walk, name: str, measured: dict[str, Any], folder: Path) -> Chapter:
    """A section whose values are measured, with its figure written into a folder's `figures`."""
    title, function = SECTIONS[name]
    figure = plot_figure(name, measured)
    if figure is not None:
        save_figure(figure, folder / "figures" / f"{name}.png")
    text, picture = inspect.cleandoc(function.__doc__ or ""), f"figures/{name}.png" if figure is not None else ""
    return Chapter(name, title, text, source_of(function), walk.compare(name, measured), picture)


def source_of(function) -> str:
    """A function's code without its docstring."""
    source = re.sub(r'\n    """.*?"""(?=\n)', "", inspect.getsource(function), count=1, flags=re.DOTALL)
    return re.sub(r"\n    }  # fmt: skip\n$", "\n    }\n", source).rstrip()


def shared_code() -> str:
    """The imports and the functions that several sections call."""
    module = inspect.getsource(sections)
    return module[module.index("\nimport ") : module.index("def data(")].strip()


def write_page(folder: Path, walk: Walk, chapters: Sequence[Chapter]) -> Path:
    """Write `README.md`, `report.html` and `numbers.csv`; the figures are there already. Returns the HTML file."""
    own = walk.is_own
    lines = [(chapter, row) for chapter in chapters for row in chapter.rows(own)]
    table = [{"section": chapter.title} | dict(zip(HEADER, row, strict=True)) for chapter, row in lines]
    replace_file(folder / "numbers.csv", csv_text(table).encode())
    replace_file(folder / "README.md", as_markdown(walk, chapters).encode())
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["marked"] = marked
    template = resources.files("experiments.lecture").joinpath("page.html").read_text("utf-8")
    html = environment.from_string(template).render(
        title=title_of(walk),
        introduction=introduction(walk, chapters),
        header=HEADER,
        chapters=[
            (
                chapter,
                list(zip(chapter.rows(own), marks(chapter, own), strict=True)),
                picture_uri(folder, chapter.figure),
            )
            for chapter in chapters
        ],
        shared=shared_code(),
    )
    replace_file(folder / "report.html", html.encode())
    return folder / "report.html"


def marked(text: str) -> Markup:
    """Text whose backquotes are code, as HTML."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def marks(chapter: Chapter, own: bool) -> list[str]:
    """A class a row: whether it agrees."""
    names = {True: "agrees", False: "differs", None: "alone"}
    return [names[line.agrees] for line in chapter.shown(own)]


def as_markdown(walk: Walk, chapters: Sequence[Chapter]) -> str:
    """The page as Markdown."""
    own = walk.is_own
    parts = [f"# {inert(title_of(walk))}", *map(inert, introduction(walk, chapters))]
    for chapter in chapters:
        parts += [f"## {chapter.title}", chapter.text]
        rows = chapter.rows(own)
        if rows:
            parts.append(markdown_table(HEADER, rows))
        if chapter.figure:
            parts.append(f"![{chapter.title}]({chapter.figure})")
        parts.append(_folded("The code", chapter.code))
    parts += ["## Shared by the sections", _folded("Imports and four functions", shared_code())]
    return "\n\n".join(parts) + "\n"


def title_of(walk: Walk) -> str:
    """The page's title."""
    return (
        "The lecture, number by number"
        if walk.known != (ANY,)
        else f"The lecture's walk on {Path(walk.names.name).name}"
    )


def introduction(walk: Walk, chapters: Sequence[Chapter]) -> list[str]:
    """What the page is, what agrees, and what it was measured on."""
    lines = [line for chapter in chapters for line in chapter.lines]
    n = {mark: sum(line.agrees is mark for line in lines) for mark in (True, False, None)}
    wrong = sum(bool(line.fact.true) and line.agrees is True for line in lines)
    row = walk.sweep.rows[0]
    about = [
        "What the makemore lectures (Karpathy 2022) and their write-ups print, in order, with our numbers beside it. "
        "Losses are in nats per character. Where PyTorch's weights are given, ours are the same, to 1e-4 where as many "
        "digits are printed; a published single run is held against the prediction interval of our seeds: where "
        "one more run of ours would lie with 95 % confidence.",
        f"Of {len(lines)} lines, {n[True]} agree or are shown, among them {wrong} in which a source is wrong; "
        f"{n[False]} do not, and say why where it is known; {n[None]} have no counterpart.",
    ]
    if walk.is_own:
        about = ["The walk of the makemore lectures on words of your own. Losses are in nats per character."]
    if walk.is_quick:
        about += [
            "A quick walk (`--quick`), to see that everything works: its trainings have two seeds and a hundredth of "
            "the steps that the text names, so that their numbers say nothing."
        ]
    return [
        *about,
        f"Made by `python -m experiments.lecture`, from {count(len(walk.sweep.rows), 'run')} of the sweep `lecture`; "
        f"{row['device']}, {row['versions']}.",
    ]


def _folded(title: str, source: str) -> str:
    return f"<details><summary>{title}</summary>\n\n```python\n{source}\n```\n\n</details>"
