"""The script of the page, and the policy that lets it run and no other."""

import base64
from functools import cache
from hashlib import sha256
from importlib import resources

from markupsafe import Markup

OWN = ("dom", "theme", "plot", "table", "parallel", "charts", "embedding", "detail", "main")


def asset(name: str) -> str:
    """The text of a file of the page."""
    return resources.files("experiments.report").joinpath("page", name).read_text("utf-8")


@cache
def own_script() -> Markup:
    """The page's own script."""
    return Markup('\n(() => {\n"use strict";\n' + "\n".join(asset(f"{name}.js") for name in OWN) + "\n})();\n")


@cache
def security_policy() -> Markup:
    """Nothing may be fetched, and only the page's own script, known by its hash, may run."""
    digest = base64.b64encode(sha256(own_script().encode()).digest()).decode()
    return Markup(f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:")
