"""The walk as a notebook, built from the same sections as the page: nothing in it is written twice.

`python -m experiments.lecture.notebook` builds `lecture.ipynb` and runs it; it needs the extra `dev`.
"""

import base64
import tempfile
from inspect import signature
from pathlib import Path
from typing import Any

from experiments.lecture.page import make_chapter, shared_code, source_of
from experiments.lecture.published import HEADER
from experiments.lecture.walk import SECTIONS, Walk
from experiments.sweeps.text import html_table

FILE = Path(__file__).with_name("lecture.ipynb")
WIDTH = 700  # Of a figure, in pixels.

TITLE = """# The lecture, number by number

The makemore lectures (Karpathy 2022), with the numbers that they print beside ours. Each cell holds one section, which
you can change and run again; `show` puts its values beside the published ones. Losses are in nats per character."""

INSTALL = """# Where mlp_lm is not installed (Colab): the folder of its repository, or git+https:// and its address.
SOURCE = "."
import importlib.util
if importlib.util.find_spec("mlp_lm") is None:
    %pip install -q {SOURCE}"""

SETUP = """from experiments.lecture.notebook import Show
from experiments.lecture.walk import open_walk

walk = open_walk({arguments})  # Trains the runs of the sweep `lecture`: two minutes on two cores, once.
show = Show(walk)"""


class Show:
    """Shows a section's values beside the published ones, with its figure: `show("bigram", bigram(names))`."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk

    def __call__(self, section: str, measured: dict[str, Any]) -> "Shown":
        """What a notebook displays."""
        with tempfile.TemporaryDirectory() as folder:
            chapter = make_chapter(self.walk, section, measured, Path(folder))
            picture = (Path(folder) / chapter.figure).read_bytes() if chapter.figure else b""
        rows = chapter.rows(self.walk.is_own)
        return Shown(html_table(HEADER, rows) if rows else "", picture)


class Shown:
    """A table and a picture, as HTML."""

    def __init__(self, table: str, picture: bytes) -> None:
        self.table, self.picture = table, picture

    def _repr_html_(self) -> str:
        if not self.picture:
            return self.table
        data = base64.b64encode(self.picture).decode()
        return f'{self.table}<img width="{WIDTH}" alt="figure" src="data:image/png;base64,{data}">'


def make_notebook(data: str = "makemore", **options: Any) -> Any:
    """The notebook, not yet run; `data` and the options are those of `open_walk`."""
    from inspect import cleandoc

    from nbformat import v4  # Of the extra `dev`.

    opening = ", ".join([repr(data), *(f"{name}={value!r}" for name, value in options.items())])
    cells = [
        v4.new_markdown_cell(TITLE),
        v4.new_code_cell(INSTALL),
        v4.new_code_cell(SETUP.format(arguments=opening)),
        v4.new_code_cell(shared_code()),
    ]
    for name, (title, function) in SECTIONS.items():
        arguments = ", ".join(f"walk.{argument}" for argument in signature(function).parameters)
        cells.append(v4.new_markdown_cell(f"## {title}\n\n{cleandoc(function.__doc__ or '')}"))
        cells.append(v4.new_code_cell(f"{source_of(function)}\n\n\nshow({name!r}, {name}({arguments}))"))
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"  # The same at every build.
    language = {"name": "python"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": language})


def main() -> None:
    """Build and run the notebook, from the runs that are there."""
    import nbformat
    from nbclient import NotebookClient

    notebook = make_notebook()
    NotebookClient(notebook, timeout=3600).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # Times of day.
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.output_type == "execute_result"]
    nbformat.write(notebook, FILE)
    print(f"wrote {FILE.name} ({FILE.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
