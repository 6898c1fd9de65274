"""The look of every figure: colours that colour-blind readers tell apart, titles that fit, axes that few values do not
stretch, and small PNG files.
"""

import contextlib
import io
import itertools
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from experiments.store.atomic import replace_file
from experiments.sweeps.text import printable
from mlp_lm.schemes import SCHEMES

# Okabe and Ito's colours; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
BLUE, ORANGE, GREEN = COLOURS[:3]
LINE_COLOURS = tuple(colour for colour in COLOURS if colour != "#F0E442")  # Yellow is too weak for a line on white.

# Tol's muted scheme with black and grey (Tol 2021, Colour schemes, SRON/EPS/TN/09-002), in the order of
# the schemes' table. Markers tell schemes apart, too.
_SCHEME_STYLES = (
    ("#000000", "o"), ("#888888", "s"), ("#44AA99", ">"), ("#CC6677", "^"), ("#332288", "D"), ("#117733", "v"),
    ("#999933", "<"), ("#88CCEE", "P"), ("#AA4499", "X"), ("#882255", "p"), ("#DDAA33", "*"),
    ("#0077BB", "h"), ("#EE7733", "d"),
)  # fmt: skip


PALETTE = 256  # Colours, which make a file a third as large as true colour does and look the same.
MAX_STEM = 40  # Characters of four bytes at most; a file name has 255 bytes.
LETTERS_AN_INCH = 12  # Of a title.

MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # Of lines that stand together.
PANELS_A_ROW = 4
ASIDE = 0.07  # How far points of neighbouring lines stand apart, so that intervals do not hide one another.
MOST = 0.8  # Of the values, which decide how far an axis reaches...
REACH = 2.0  # ...beyond the best value, as a multiple of how far they reach.

# Where a label stands beside its point: offset in points, and alignment.
CORNERS: Any = ((2, 2, "left", "bottom"), (-2, 2, "right", "bottom"), (2, -2, "left", "top"), (-2, -2, "right", "top"))

STYLE: Any = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # A token may hold dollar signs.
}


def scheme_style(init: str, batch_norm: bool = False) -> dict[str, Any]:
    """Keywords for `Axes.plot`: a scheme's colour and marker; dashed lines and open markers mean batch norm."""
    colour, marker = _style_of(init)
    return {
        "color": colour,
        "marker": marker,
        "linestyle": "--" if batch_norm else "-",
        "markerfacecolor": "white" if batch_norm else colour,
    }


def scheme_colour(init: str) -> str:
    """A scheme's colour."""
    return _style_of(init)[0]


def _style_of(init: str) -> tuple[str, str]:
    # Schemes of an ideas file follow the built-in ones; one whose file is not loaded is placed by its name.
    names = list(SCHEMES)
    place = names.index(init) if init in names else sum(init.encode())
    return _SCHEME_STYLES[place % len(_SCHEME_STYLES)]


def scheme_label(init: str, batch_norm: bool = False) -> str:
    """A scheme in words, for legends."""
    return f"{init} + batch norm" if batch_norm else init


def file_stems(names: Sequence[str]) -> list[str]:
    """Beginnings of file names, one a study's name, that differ even where a file system ignores case."""
    stems: list[str] = []
    for name in names:
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:MAX_STEM] or "study"
        taken = {known.casefold() for known in stems}
        numbered = itertools.chain([stem], (f"{stem}_{i}" for i in itertools.count(2)))
        stems.append(next(candidate for candidate in numbered if candidate.casefold() not in taken))
    return stems


@contextlib.contextmanager
def _boxes_for_missing_glyphs() -> Iterator[None]:
    """Characters that no font has are no reason for a warning: a box stands for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file and close it."""
    true_colour, file = io.BytesIO(), io.BytesIO()
    with _boxes_for_missing_glyphs():
        figure.savefig(true_colour, format="png", pil_kwargs={"compress_level": 0})  # It is read again at once.
    plt.close(figure)
    with Image.open(true_colour) as picture:
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


def label_points(
    ax: Axes, points: Float[np.ndarray, "n 2"], words: Sequence[str], inside: bool = False, **style: Any
) -> None:
    """Write each word beside its point, where no word before it stands; one that finds no place goes unwritten.

    With `inside` no word leaves the axes. The figure must have been laid out (`figure.canvas.draw()`): labels are
    placed in pixels.
    """
    taken: list[Bbox] = []
    for word, point in zip(words, points, strict=True):
        for dx, dy, side, height in CORNERS:
            label = ax.annotate(
                word, point, (dx, dy), textcoords="offset points", ha=side, va=height, annotation_clip=False, **style
            )
            with _boxes_for_missing_glyphs():
                box = label.get_window_extent()
            fits = not inside or (ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1)
            if fits and not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()


def far_off(values: Sequence[float]) -> float:
    """The largest value to plot at its place, lower values being better; infinite where none is far off."""
    low, high = min(values), float(np.quantile(values, MOST))
    limit = low + REACH * (high - low)
    return limit if max(values) > limit > low else np.inf


def far_off_side_by_side(groups: Sequence[Sequence[float]]) -> float:
    """The same for groups that share an axis: far off within its own group, and beyond what the others need."""
    limit = max(min(far_off(values), max(values)) for values in groups)
    return limit if max(map(max, groups)) > limit else np.inf
