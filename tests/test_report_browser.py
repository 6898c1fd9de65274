"""The page of a sweep in a real browser: nothing is fetched, nothing fails, everything works and fits."""

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis.ensembles import EnsembleRow
from experiments.analysis.trained_models import Samples, write_samples
from experiments.report.build import write_report
from experiments.store.small_files import write_small
from mlp_lm.config import RunConfig
from tests.synthetic import synthetic_folder, synthetic_row, synthetic_rows

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (the extra [dev])")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="no chromium with chromedriver is installed, so the report is not opened"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDTHS = (390, 1280)
COMMITTED = sorted((Path(__file__).parents[1] / "results").glob("*/report.html"))
HOSTILE = [
    "<script>alert(1)</script>",
    "]]>",
    '"><img src=x onerror=alert(1)>',
    r"$\badcmd$",
    "עברית\u202eabc",
    "👩‍👩‍👧",
]


class Page:
    """A report in a browser."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path: Path, width: int = 1280, dark: bool = False) -> None:
        self.resize(width, 900)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(path.as_uri())
        if "<script" in path.read_text("utf-8"):
            self.wait(lambda _: self.run("return document.documentElement.dataset.ready") == "yes")

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def draw_all(self) -> None:
        """Make the window as tall as the page, so that every chart is drawn."""
        width = self.run("return innerWidth")
        self.resize(width, self.run("return document.documentElement.scrollHeight"))
        undrawn = "return document.querySelectorAll('.chart:not(.drawn)').length"
        self.wait(lambda _: self.run(undrawn) == 0)

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition) -> None:
        WebDriverWait(self.driver, 60).until(condition)

    def all(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = (m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent")
        return [url for url in sent if not url.startswith(("data:", "blob:", "about:"))]

    def column(self, title: str) -> list[str]:
        """The texts of a column of the first ranked table, baselines left out."""
        heads = [head.text.split(" ↕")[0].strip(" ▲▼\n↕") for head in self.all("#study-0 .ranked thead th")]
        rows = self.run(
            "return [...document.querySelectorAll('#study-0 .ranked tbody tr:not(.baseline)')]"
            ".map((row) => [...row.children].map((cell) => cell.textContent))"
        )
        return [row[heads.index(title)] for row in rows]


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield Page(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def embedding_history(row: dict) -> None:
    """Embeddings at every evaluation, moving along a line."""
    start = np.random.default_rng(row["seed"]).standard_normal(27 * row["embedding_dim"])
    row["history_embedding"] = [list(start * (1 + i)) for i in range(len(row["history_step"]))]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    axes = {"hidden_size": (50, 100, 200), "embedding_dim": (2, 10), "block_size": (3, 8), "batch_size": (32, 128)}
    sizes = synthetic_rows(axes, 3, lambda hidden_size, **_: 2 + 10 / hidden_size, 0.01)
    schemes = synthetic_rows({"init": ("normal", "uniform"), "batch_norm": (False, True)}, 2, lambda **_: 2.1, 0.1)
    schemes = [row for row in schemes if row["init"] == "uniform" or not row["batch_norm"]]
    for row in sizes[:3]:
        embedding_history(row)
    folder = synthetic_folder(tmp_path_factory.mktemp("sweep"), {"size": sizes, "initialisation": schemes})
    best = min(sizes, key=lambda row: row["dev_loss"])
    write_samples(folder, [Samples(best["run_id"], 0, 1.0, ["ann", "zed"], [False, True])])
    row = EnsembleRow("5 best runs", "", None, 5, 100, 1.95, 1.96, None, [row["run_id"] for row in sizes[:5]])
    write_small(folder, "ensembles.json", [asdict(row)])
    return write_report(folder)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_loads_without_an_error_and_fetches_nothing(page, report, width, dark):
    page.open(report, width, dark)
    page.draw_all()
    assert page.errors() == []
    assert page.requests() == [report.as_uri()]


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda path: path.parent.name)
def test_a_report_that_is_kept_here_opens_and_is_small(page, committed):
    page.open(committed)
    page.draw_all()
    assert page.errors() == []
    assert page.requests() == [committed.as_uri()]
    is_of_a_sweep = "Sweep report" in committed.read_text("utf-8")
    assert len(page.all(".chart .marks")) == len(page.all(".chart")) >= (3 if is_of_a_sweep else 0)
    assert page.run("return document.querySelectorAll('table tbody tr').length") > 3
    assert committed.stat().st_size < 2_000_000


def test_a_small_page_has_all_its_charts(page, report):
    assert report.stat().st_size < 300_000
    page.open(report)
    page.draw_all()
    assert len(page.all(".chart .marks")) == len(page.all(".chart")) > 10
    empty = "return [...document.querySelectorAll('.marks')].filter((field) => field.children.length < 2).length"
    assert page.run(empty) == 0  # Each has the ring of the pointer, and more.
    assert page.errors() == []


def test_no_script_runs_but_the_page_s_own(page, report):
    page.open(report)
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.strange = 1'; document.body.append(s)"
    )
    assert page.run("return window.strange") is None
    assert any("Content Security Policy" in message for message in page.errors())


OUTSIDE = """
const page = document.documentElement, width = page.clientWidth, found = [];
if (page.scrollWidth > width) found.push(`the page is ${page.scrollWidth} wide`);
const beyond = (own, left, right) => own.width > 0 && (own.right > right + 1 || own.left < left - 1);
for (const box of document.querySelectorAll("body *")) {
  if (box.closest(".scroll table, .skip, .hidden, svg *")) continue;  // Scroll, unseen, or clipped.
  if (beyond(box.getBoundingClientRect(), 0, width)) found.push(`${box.tagName} ${box.className}`);
}
for (const text of document.querySelectorAll(".chart text")) {
  const frame = text.closest(".chart").getBoundingClientRect();
  if (beyond(text.getBoundingClientRect(), frame.left, frame.right)) found.push(`label ${text.textContent}`);
}
return found;
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(page, report, width):
    page.open(report, width)
    page.draw_all()
    assert page.run(OUTSIDE) == []
    picture = page.driver.get_screenshot_as_png()
    assert picture.startswith(b"\x89PNG") and int.from_bytes(picture[16:20]) == width


def test_the_pointer_is_told_what_is_nearest_to_it(page, report):
    page.open(report)
    drawing = page.one("#study-0 .fitting .chart")
    page.run("arguments[0].scrollIntoView({block: 'center'})", drawing)
    page.wait(lambda _: page.all("#study-0 .fitting .star"))
    ActionChains(page.driver).move_to_element(page.one("#study-0 .fitting .star")).perform()
    tip = page.one("#study-0 .fitting .tip")
    assert tip.text.startswith("hidden size 200") and tip.text.endswith("best")
    ActionChains(page.driver).move_to_element(page.one("#study-0-title")).perform()
    assert not tip.is_displayed()


def test_what_is_far_off_stands_at_the_edge_in_words(page, tmp_path):
    losses = {10: 2.10, 20: 2.11, 30: 2.12, 40: 2.13, 50: 2.14, 60: 9.5}
    rows = synthetic_rows({"hidden_size": tuple(losses)}, 2, lambda hidden_size: losses[hidden_size])
    page.open(write_report(synthetic_folder(tmp_path, {"size": rows})))
    page.draw_all()
    texts = "return [...document.querySelectorAll(`#study-0 ${arguments[0]} text`)].map((text) => text.textContent)"
    assert "7.400 →" in page.run(texts, ".differences") and "7.400 →" in page.run(texts, ".effects")
    labels = [float(text) for text in page.run(texts, ".effects") if text.count(".") == 1 and "→" not in text]
    assert labels and max(labels) < 2.3


def test_an_axis_that_matters_most_is_not_far_off(page, tmp_path):
    axes = {"hidden_size": (50, 100, 200, 300), "block_size": (2, 3, 4, 5, 8), "embedding_dim": (2, 3, 10, 24)}
    rows = synthetic_rows(axes, 2, lambda hidden_size, **_: 2 + 10 / hidden_size, 0.001)
    page.open(write_report(synthetic_folder(tmp_path, {"size": rows})))
    page.draw_all()
    assert page.all("#study-0 .effects .chart.drawn") and not page.all("#study-0 .effects .far")


def test_runs_without_a_loss_leave_no_error(page, tmp_path):
    rows = [
        synthetic_row(RunConfig(hidden_size=size, seed=seed), 2.0, diverged=True) for size in (5, 6) for seed in (0, 1)
    ]
    for row in rows:
        row |= {"dev_loss": None, "train_loss": None, "dev_unseen_loss": None, "history_dev_loss": [None] * 5}
    exploding = synthetic_rows({"init": ("normal", "uniform")}, 2, lambda **_: 2.1, 0.1)
    for row in exploding[:2]:
        row["history_dev_loss"] = [None, *row["history_dev_loss"][1:]]
    page.open(write_report(synthetic_folder(tmp_path, {"lost": rows, "found": exploding})))
    page.draw_all()
    assert page.errors() == []
    assert "diverged" in page.one("#study-0 .ranked tbody").text
    assert len(page.all("#study-1 .schemes .marks rect")) == 1


def test_charts_follow_the_width_of_the_window(page, report):
    page.open(report)
    page.draw_all()
    page.resize(500, 900)
    widest = "return Math.max(...[...document.querySelectorAll('.chart > svg')].map((drawing) => drawing.clientWidth))"
    page.wait(lambda _: page.run(widest) <= 500)


def test_a_column_is_sorted_by_its_head_and_again_the_other_way(page, report):
    page.open(report)
    assert page.column("rank") == [str(i + 1) for i in range(24)]
    button = next(b for b in page.all("#study-0 .ranked thead button") if b.text.startswith("hidden"))
    button.click()
    values = [int(text) for text in page.column("hidden size")]
    assert values == sorted(values) and len(set(values)) == 3
    assert page.one("#study-0 th[aria-sort='ascending']").text.startswith("hidden")
    button.send_keys(Keys.ENTER)  # By keyboard as well.
    assert [int(text) for text in page.column("hidden size")] == sorted(values, reverse=True)
    assert page.one("#study-0 th[aria-sort='descending']").text.startswith("hidden")


def test_the_search_keeps_what_holds_all_its_words(page, report):
    page.open(report)
    page.one("#study-0 .search").send_keys("hidden size 200, batch size 128")
    assert set(page.column("hidden size")) == {"200"}
    assert page.one("#study-0 .count").text.startswith("4 of 24")
    page.one("#study-0 .search").clear()
    page.one("#study-0 .search").send_keys("absolute discount tokens")
    assert page.column("rank") == [] and len(page.all("#study-0 tr.baseline")) == 1


def test_brushing_an_axis_narrows_the_table_and_a_tap_lets_go(page, report):
    page.open(report)
    canvas = page.one("#study-0 .parallel canvas")
    page.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
    page.wait(lambda _: canvas.size["height"] > 200)
    left, top = -canvas.size["width"] // 2 + 64, -canvas.size["height"] // 2
    drag = ActionChains(page.driver).move_to_element_with_offset(canvas, left, top + 45).click_and_hold()
    drag.move_by_offset(0, 40).release().perform()  # The upper end of the first axis: 200 hidden units.
    assert page.one("#study-0 .parallel .count").text == "24 of 72 runs pass"
    assert set(page.column("hidden size")) == {"200"} and len(page.column("rank")) == 8
    ActionChains(page.driver).move_to_element_with_offset(canvas, left, 0).click().perform()
    assert len(page.column("rank")) == 24


def test_axes_are_limited_by_keyboard_too(page, report):
    page.open(report)
    page.one("#study-0 .parallel summary").send_keys(Keys.ENTER)
    Select(page.one("#study-0 select[aria-label='block size, from']")).select_by_visible_text("8")
    assert set(page.column("block size")) == {"8"}
    page.one("#study-0 .clear").send_keys(Keys.ENTER)
    assert set(page.column("block size")) == {"3", "8"}


def test_a_run_s_own_detail_is_linked_from_the_table(page, report):
    page.open(report)
    link = page.one("#study-0 .ranked td.runs a")
    page.run("arguments[0].click()", link)
    run_id = link.get_attribute("href").split("#run-")[1]
    page.wait(lambda _: run_id in page.one("#detail .settings").text)
    page.wait(lambda _: len(page.all("#detail .chart.drawn")) == 2)  # Curve and embedding.
    assert page.run("return document.activeElement.id") == "detail"


def test_the_slider_moves_tokens_through_training(page, report):
    page.open(report)
    link = next(
        a for a in page.all("#study-0 .ranked td.runs a") if has_history(page, a.get_attribute("href").split("-")[-1])
    )
    page.run("arguments[0].click()", link)
    page.wait(lambda _: page.all("#detail .step"))
    page.wait(lambda _: len(page.all("#detail .chart.drawn")) == 2)
    between = (  # Two tokens, in pixels.
        "const x = [...document.querySelectorAll('#detail .chart')].at(-1).querySelectorAll('.marks text');"
        "return x[3].getAttribute('x') - x[5].getAttribute('x')"
    )
    last = page.run(between)
    page.one("#detail .step").send_keys(Keys.HOME)
    assert page.one("#detail output").text == "step 0"
    # Five evaluations, moving away from the origin.
    assert abs(last) > 5 and page.run(between) == pytest.approx(last / 5, abs=0.2)


def has_history(page: Page, run_id: str) -> bool:
    script = "const d = JSON.parse(document.getElementById('data').textContent);"
    return page.run(f"{script} return d.embeddings[d.runs.id.indexOf('{run_id}')].steps.length > 1")


def test_everything_that_can_be_worked_has_a_name_and_is_reached_by_keyboard(page, report):
    page.open(report)
    unnamed = page.run(
        "return [...document.querySelectorAll('input, select, button, [role=img], [role=region]')].filter((box) =>"
        "!box.getAttribute('aria-label') && !box.textContent.trim() && !box.closest('label')).map((b) => b.outerHTML)"
    )
    assert unnamed == []
    assert page.run("return document.documentElement.lang") == "en"
    levels = page.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map((head) => Number(head.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    scrollable = page.run("return [...document.querySelectorAll('.scroll')].every((box) => box.tabIndex === 0)")
    assert scrollable


def test_hostile_names_open_no_dialog_and_make_no_element(page, tmp_path):
    rows = synthetic_rows({"hidden_size": (50, 100)}, 2, lambda hidden_size: 2 + 1 / hidden_size)
    for row in rows:
        row["device"] = HOSTILE[2]
    folder = synthetic_folder(tmp_path, {HOSTILE[0]: rows, HOSTILE[2]: rows[:2]}, [".", *HOSTILE], title=HOSTILE[2])
    best = min(rows, key=lambda row: row["dev_loss"])
    write_samples(folder, [Samples(best["run_id"], 0, 1.0, HOSTILE, [True] * len(HOSTILE))])
    page.open(write_report(folder))
    page.draw_all()
    page.run("location.hash = arguments[0]", f"run-{best['run_id']}")
    page.draw_all()
    assert page.errors() == []
    assert page.all("img") == [] and len(page.all("script")) == 2
    assert HOSTILE[0] in page.one("#study-0-title").text
    labels = page.run("return [...document.querySelectorAll('#detail .chart text')].map((t) => t.textContent)")
    assert set(HOSTILE[:4]) <= set(labels)


def test_five_thousand_runs_can_be_searched_and_brushed(page, tmp_path):
    axes = {"hidden_size": tuple(range(10, 210, 10)), "embedding_dim": (2, 3, 10, 24), "block_size": (2, 3, 4, 5, 8)}
    axes["learning_rate"] = (0.05, 0.1, 0.2, 0.4)
    rows = synthetic_rows(axes, 3, lambda hidden_size, **_: 2 + 10 / hidden_size, 0.01)
    page.open(write_report(synthetic_folder(tmp_path, {"grid": rows})))
    page.draw_all()
    assert page.errors() == []
    page.one("#study-0 .search").send_keys("hidden size 200,")
    assert page.one("#study-0 .count").text.startswith("80 of 1600")
    page.one("#study-0 .search").clear()
    page.one("#study-0 .parallel summary").click()
    Select(page.one("#study-0 select[aria-label='learning rate, from']")).select_by_visible_text("0.4")
    assert page.one("#study-0 .parallel .count").text == "1,200 of 4,800 runs pass"


def test_it_prints_on_several_pages_with_its_charts(page, report):
    page.open(report, dark=True)
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    assert len(printed) > 50_000
    page.wait(lambda _: page.run("return document.querySelectorAll('.chart:not(.drawn)').length") == 0)
