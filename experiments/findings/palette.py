"""One look for every figure: colours that colour-blind readers tell apart, the same ones for a scheme throughout."""

from typing import Any

# Okabe and Ito's colours; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
LINE_COLOURS = tuple(colour for colour in COLOURS if colour != "#F0E442")  # Yellow is too weak for a line on white.

# Tol's muted scheme with black and grey (Tol 2021, Colour schemes, SRON/EPS/TN/09-002). Markers tell schemes apart too.
_SCHEMES = {
    "normal": ("#000000", "o"),
    "uniform": ("#888888", "s"),
    "scaled_output": ("#CC6677", "^"),
    "scaled_hidden": ("#332288", "D"),
    "kaiming_tanh": ("#117733", "v"),
    "kaiming_relu": ("#999933", "<"),
    "fan_in": ("#44AA99", ">"),
    "xavier": ("#88CCEE", "P"),
    "orthogonal": ("#AA4499", "X"),
    "bengio2003": ("#882255", "p"),
    "zeros": ("#DDAA33", "*"),
}
SCHEME_COLOURS = {name: colour for name, (colour, _) in _SCHEMES.items()}
SCHEME_MARKERS = {name: marker for name, (_, marker) in _SCHEMES.items()}

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
    colour = SCHEME_COLOURS[init]
    return {
        "color": colour,
        "marker": SCHEME_MARKERS[init],
        "linestyle": "--" if batch_norm else "-",
        "markerfacecolor": "white" if batch_norm else colour,
    }


def scheme_label(init: str, batch_norm: bool = False) -> str:
    """A scheme in words, for legends."""
    return f"{init} + batch norm" if batch_norm else init
