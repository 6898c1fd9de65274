"""The scripts of the page: its own, plotly's compressed, and the policy that lets these two run and no other."""

import base64
import gzip
from functools import cache
from hashlib import sha256
from importlib import resources

import plotly.offline
from markupsafe import Markup

OWN = ("dom", "theme", "table", "parallel", "charts", "embedding", "detail", "plotly", "main")


def asset(name: str) -> str:
    """The text of a file of the page."""
    return resources.files("experiments.report").joinpath("page", name).read_text("utf-8")


@cache
def own_script() -> Markup:
    """The page's own script."""
    return Markup('\n(() => {\n"use strict";\n' + "\n".join(asset(f"{name}.js") for name in OWN) + "\n})();\n")


@cache
def packed_plotly() -> Markup:
    """plotly as gzip in Ascii85 (1.8 MB of 4.8), with `v` for `<`, so that it cannot end its element."""
    packed = gzip.compress(plotly.offline.get_plotlyjs().encode(), mtime=0)
    return Markup(base64.a85encode(packed).decode().replace("<", "v"))


@cache
def security_policy() -> Markup:
    """Nothing may be fetched, and only the two scripts, known by their hashes, may run."""
    hashes = " ".join(f"'{_digest(script)}'" for script in (own_script(), plotly.offline.get_plotlyjs()))
    return Markup(f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:")


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(sha256(script.encode()).digest()).decode()
