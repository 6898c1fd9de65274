"""What all figures share: titles that fit, and small PNG files."""

import io
import textwrap
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from experiments.findings.tables import printable
from experiments.store.atomic import replace_file

PALETTE = 256  # Colours, which make a file a third as large as true colour does and look the same.
LETTERS_AN_INCH = 12  # Of a title.


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file and close it."""
    drawn, file = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # A box stands for it.
        figure.savefig(drawn, format="png")
    plt.close(figure)
    with Image.open(drawn) as picture:
        colours = picture.convert("RGB")
    # k-means keeps grey lines grey.
    reduced = colours.quantize(PALETTE, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    reduced.save(file, format="PNG", optimize=True)
    replace_file(path, file.getvalue())


def set_title(figure: Figure, title: str, subtitle: str) -> None:
    """A figure's title in two parts, each wrapped at its width."""
    width = int(LETTERS_AN_INCH * figure.get_size_inches()[0])
    # matplotlib's own wrapping reads dollar signs as mathematics.
    lines = [line for text in (title, subtitle) for line in textwrap.wrap(printable(text), width)]
    figure.suptitle("\n".join(lines), fontsize=9.5)
