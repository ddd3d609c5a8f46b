"""The page of runs in a browser: chart, choice, comparison and one run whole; it fits and is accessible."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Live, Watched, eventually, serious_faults
from .run_files import make_runs

pytestmark = pytest.mark.browser
PLOT = "[data-testid=plot][data-lines]"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Live]) -> Live:
    root: Path = tmp_path_factory.mktemp("runs")
    make_runs(root)
    return start(root)


def drawn(page: Any) -> tuple[int, int]:
    """Return how many lines and points the first chart has."""
    data = page.wait_for_selector(PLOT).evaluate("node => [node.dataset.lines, node.dataset.points]")
    return int(data[0]), int(data[1])


def until(page: Any, condition: str) -> None:
    """Wait until something holds in a page; its policy forbids Playwright's own way, which evaluates a text."""
    assert eventually(lambda: bool(page.evaluate(condition)), seconds=30), condition


def settled(page: Any, lines: int) -> None:
    """Wait until the first chart has so many lines."""
    until(page, f"document.querySelector('[data-testid=plot]')?.dataset.lines === '{lines}'")


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1440, "light")])
@pytest.mark.parametrize("path", ["/runs", "/runs?view=differences", "/runs/runs%2Fone", "/runs/runs%2Fone?tab=report"])
def test_each_view_fits_and_is_accessible(
    studio: Live, open_page: Callable[..., Watched], axe: str, path: str, width: int, theme: str
) -> None:
    page = open_page(studio, path, width=width, theme=theme).page
    page.wait_for_selector(
        "[data-testid=differences]" if "view" in path else "[data-testid=report] img" if "tab" in path else PLOT
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page, axe) == []


def test_runs_are_chosen_sorted_and_smoothed_and_a_reload_keeps_it(
    studio: Live, open_page: Callable[..., Watched]
) -> None:
    page = open_page(studio, "/runs").page
    settled(page, 5)  # three curves, and the validations of the two whose steps are in sight
    assert 1 + 100 + 2 + 1990 < drawn(page)[1] <= 1 + 100 + 2 + 2000 + 2  # the long one is cut to 2,000
    assert "line 2 of metrics.jsonl cannot be read" in page.inner_text("main")
    page.click("text=None")
    page.wait_for_selector("text=Choose runs in the list below")
    page.check("[aria-label='Show runs/one in the chart']")
    settled(page, 2)
    assert page.inner_text("[data-testid=chosen]") == "1 of 3 runs"
    page.fill("input[type=range]", "0.9")
    settled(page, 3)
    page.click("th button:has-text('Step')")
    assert page.inner_text("[data-testid=run] >> nth=0").split()[0] == "runs/long"
    page.fill("input[type=search]", "one")
    until(page, "document.querySelectorAll('[data-testid=run]').length === 1")
    page.select_option("select >> nth=1", "tokens")
    until(page, "location.search.includes('x=tokens')")
    page.reload()
    settled(page, 3)
    assert page.input_value("input[type=range]") == "0.9" and page.input_value("input[type=search]") == "one"
    assert page.get_attribute(PLOT, "aria-label") == "loss of 1 runs along Tokens"


def test_a_drag_over_the_chart_shows_a_part_with_all_its_points(
    studio: Live, open_page: Callable[..., Watched]
) -> None:
    page = open_page(studio, "/runs?runs=runs%2Flong").page
    settled(page, 2)
    box = page.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 60, steps=4)
    page.mouse.up()
    until(page, "location.search.includes('from=')")
    settled(page, 1)  # no validation is in this part
    assert 495 <= drawn(page)[1] <= 510  # every step of a tenth of 5,000, and one on each side
    page.click("text=Show all of it")
    settled(page, 2)


def test_one_run_is_shown_whole_and_its_texts_run_nothing(studio: Live, open_page: Callable[..., Watched]) -> None:
    page = open_page(studio, "/runs").page
    page.click("table >> text=runs/one")
    until(page, "document.querySelectorAll('[data-testid=plot][data-lines]').length === 5")
    page.click("[role=tab]:has-text('Report')")
    until(page, "document.querySelector('[data-testid=report] img')?.naturalWidth === 1")
    assert page.evaluate("window.broken") is None and page.query_selector("[data-testid=report] script") is None
    page.click("[role=tab]:has-text('Samples')")
    assert page.inner_text("[data-testid=sample] p >> nth=1") == " <b>upon</b> a time"
    page.keyboard.press("Shift+Tab")
    page.click("[role=tab]:has-text('Recipe')")
    page.keyboard.press("ArrowRight")
    until(page, "location.search.includes('tab=samples')")
    with page.expect_download() as saved:
        page.click("[data-testid=export-csv]")
    assert saved.value.path().read_text().count("\n") == 101
