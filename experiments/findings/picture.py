"""Figures as small PNG files."""

import io
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from experiments.store.atomic import replace_file

PALETTE = 256  # Colours, which make a file a third as large as true colour does and look the same.


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
