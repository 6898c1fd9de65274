"""The folder's `report.html`: one page that opens offline and runs no script."""

import base64
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from experiments.report.scripts import asset


def render(summary: Any, header: list[str], picture: Path) -> str:
    """The page as HTML; every value that is not Markup is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(
        resources.files("experiments.bengio2003").joinpath("page.html").read_text("utf-8")
    ).render(
        summary=summary,
        header=header,
        answer=answer(summary.lines),
        style=Markup(asset("report.css")),
        picture=base64.b64encode(picture.read_bytes()).decode(),
    )


def answer(lines: list[Any]) -> str:
    """The best network and the best count model in one sentence."""
    networks = [line for line in lines if line.recipe not in ("", "counting")]
    counted = [line for line in lines if line.recipe == "counting"]
    best, rival = (min(found, key=lambda line: line.values["valid"]) for found in (networks, counted))
    single = min((line for line in networks if line.n_params and line.train), key=lambda line: line.values["valid"])
    return (
        f"One network alone reaches a test perplexity of {single.test} ({single.name}, {single.recipe} training), the "
        f"best count model {rival.test} ({rival.name}), and the best of all {best.test} ({best.name}); each is chosen "
        "on the validation part."
    )
