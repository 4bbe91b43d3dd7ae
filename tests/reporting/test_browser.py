"""Reports in a real browser: no error, the figures of result.json, sorting, hiding, dark, without scripts, by keyboard.

It opens what signs_dist.reporting.page and its templates make.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from signs_dist.reporting.writing import write_report
from tests.reporting.browser import SCREENSHOTS, chromium
from tests.reporting.run_folders import write_run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def sweep_page(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "sweep.html"
    write_report(sorted((sweep / "trials").iterdir()), page)
    return page


@contextlib.contextmanager
def opened(browser: Any, page: Path, *, width: int = 1400, theme: str = "light", scripts: bool = True) -> Iterator[Any]:
    """The page in a window. At the end, it has reported no error."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, java_script_enabled=scripts
    )
    troubles: list[str] = []
    try:
        window = context.new_page()
        window.on("console", lambda message: troubles.append(message.text))
        window.on("pageerror", lambda error: troubles.append(str(error)))
        window.goto(page.as_uri())
        yield window
        assert troubles == []
    finally:
        context.close()


def wait_for_charts(window: Any) -> None:
    """Scroll through the page, so that every chart becomes interactive."""
    for chart in window.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        chart.locator("xpath=self::*[@data-ready]").wait_for(timeout=60_000)


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 400)])
@pytest.mark.parametrize("kind", ["one", "sweep", "hostile"])
def test_every_page_opens_without_an_error_and_fits_the_window(
    browser: Any, one_page: Path, sweep_page: Path, hostile_page: Path, kind: str, theme: str, width: int
) -> None:
    page = {"one": one_page, "sweep": sweep_page, "hostile": hostile_page}[kind]
    with opened(browser, page, width=width, theme=theme) as window:
        wait_for_charts(window)
        assert window.evaluate("document.documentElement.scrollWidth") == width
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        window.evaluate("window.scrollTo(0, 0)")
        window.screenshot(path=SCREENSHOTS / f"{kind}-{theme}-{width}.png", full_page=True)
        ground = window.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[theme]


def test_the_figures_are_those_of_result_json(browser: Any, one_run: Path, one_page: Path) -> None:
    result = json.loads((one_run / "result.json").read_text())
    with opened(browser, one_page) as window:
        tiles = window.locator(".tiles").inner_text()
        assert f"{100 * result['val_accuracy']:.1f} %" in tiles
        assert f"{result['val_correct']} of {result['val_images']} images" in tiles
        cells = [
            [0 if text == "·" else int(text) for text in row.locator("td").all_inner_texts()]
            for row in window.locator(".matrix tbody tr").all()
        ]
        assert cells == result["val_confusion"]
        wrong = result["val_images"] - result["val_correct"]
        assert window.locator("[aria-label='Worst mistakes of val'] img").count() == min(24, wrong)


def test_a_table_is_sorted_by_its_buttons(browser: Any, sweep_page: Path) -> None:
    with opened(browser, sweep_page) as window:
        table = window.locator("#table-of-runs")
        header = table.locator("th", has_text=re.compile(r"^\s*val accuracy"))

        def accuracies() -> list[float]:
            cells = table.locator(f"tbody td:nth-child({header.evaluate('cell => cell.cellIndex + 1')})")
            return [float(text.split()[0]) for text in cells.all_inner_texts()]

        header.locator("button").focus()
        window.keyboard.press("Enter")
        assert header.get_attribute("aria-sort") == "descending"
        assert accuracies() == sorted(accuracies(), reverse=True)
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
        assert accuracies() == sorted(accuracies())
        table.locator("th", has_text="optim.lr").locator("button").click()
        assert header.get_attribute("aria-sort") is None
        # A missing value stays at the end, whatever the direction.
        time = table.locator("th", has_text="training time")
        for _ in range(2):
            time.locator("button").click()
            assert "failed" in table.locator("tbody tr").last.inner_text()


def test_a_table_that_is_wider_than_a_phone_has_a_shadow_at_the_edge_that_hides_more(
    browser: Any, sweep_page: Path
) -> None:
    with opened(browser, sweep_page, width=400) as window:
        table = window.locator("#runs .scroll")

        def brightness() -> int:
            """Of the background between the lines of the table, at its right edge."""
            picture = Image.open(io.BytesIO(table.screenshot())).convert("L")
            column = sorted(picture.getpixel((picture.width - 4, y)) for y in range(150, 450))
            return column[len(column) // 2]

        assert brightness() < 230
        name = table.locator("tbody th").first
        place = name.bounding_box()
        table.evaluate("place => { place.scrollLeft = place.scrollWidth; }")
        assert brightness() > 250
        assert name.bounding_box() == place  # the names stay in sight


def test_a_button_hides_its_run_in_all_charts(browser: Any, sweep_page: Path) -> None:
    with opened(browser, sweep_page) as window:
        wait_for_charts(window)
        lines = "#curves .chart path[aria-roledescription='line mark']"
        before = window.locator(lines).count()
        num_charts = window.locator("#curves .chart").count()
        button = window.locator(".legend button").first
        button.focus()
        window.keyboard.press("Space")
        assert button.get_attribute("aria-pressed") == "false"
        window.wait_for_function(
            "([lines, count]) => document.querySelectorAll(lines).length === count", arg=[lines, before - num_charts]
        )
        window.keyboard.press("Space")
        window.wait_for_function(
            "([lines, count]) => document.querySelectorAll(lines).length === count", arg=[lines, before]
        )


def test_pointing_at_a_chart_shows_its_values_as_text(browser: Any, hostile_page: Path) -> None:
    with opened(browser, hostile_page) as window:
        wait_for_charts(window)
        chart = window.locator("[data-chart='spec-loss']")
        chart.hover()
        tooltip = window.locator("#tooltip")
        tooltip.wait_for(state="visible")
        lines = tooltip.inner_text().splitlines()
        assert lines[0] == "series"
        assert lines[1] in ("train", "val")
        assert lines[2] == "step"


def test_light_and_dark_by_button(browser: Any, one_page: Path) -> None:
    with opened(browser, one_page) as window:
        button = window.locator("#theme")
        assert button.inner_text() == "Dark"
        button.focus()
        window.keyboard.press("Enter")
        assert button.inner_text() == "Light"
        assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        wait_for_charts(window)
        line = window.locator("[data-chart='spec-loss'] path[aria-roledescription='line mark']").first
        assert line.evaluate("mark => getComputedStyle(mark).stroke") == "rgb(98, 183, 238)"


def test_without_scripts_there_are_pictures_and_no_dead_buttons(browser: Any, one_page: Path) -> None:
    with opened(browser, one_page, scripts=False) as window:
        assert window.locator(".chart > svg").count() == window.locator(".chart").count() == 6
        assert not window.locator("#theme").is_visible()
        assert window.locator(".matrix").is_visible()


def test_the_keyboard_reaches_the_content_first_and_scrolls_tables(browser: Any, one_page: Path) -> None:
    with opened(browser, one_page) as window:
        window.keyboard.press("Tab")
        assert window.evaluate("document.activeElement.textContent") == "Skip to the content"
        window.keyboard.press("Enter")
        assert window.evaluate("document.activeElement.id") == "content"
        assert window.locator(".scroll:not([tabindex='0'])").count() == 0
        header = window.locator("th", has_text="recall")
        header.locator("button").click()
        # A screen reader says the direction by aria-sort, and no arrow.
        assert header.aria_snapshot() == '- columnheader "recall":\n  - button "recall"'


def test_a_browser_reads_no_name_as_html(browser: Any, hostile_page: Path) -> None:
    with opened(browser, hostile_page) as window:
        wait_for_charts(window)
        assert window.locator("h1").inner_text() == "<img src=x onerror=alert(1)>"
        assert window.locator("img[src='x']").count() == 0
        assert window.locator(".matrix tbody th").all_inner_texts()[2:4] == ["<!--", "{{ 7 * 7 }}"]


def test_a_page_prints_in_dark_on_white(browser: Any, one_page: Path) -> None:
    with opened(browser, one_page, theme="dark") as window:
        window.emulate_media(media="print")
        assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not window.locator("nav").is_visible()
        assert not window.locator("summary").first.is_visible()  # nothing opens on paper


def test_no_column_is_beyond_the_edge_of_the_paper(browser: Any, sweep_page: Path) -> None:
    with opened(browser, sweep_page, width=1043) as window:  # A4 across, less the margins of a browser
        tables = "[...document.querySelectorAll('.scroll > table')].map(table => table.offsetWidth)"
        assert max(window.evaluate(tables)) > 1043
        window.emulate_media(media="print")
        assert max(window.evaluate(tables)) <= 1043


@pytest.mark.slow
def test_1000_classes_and_10_000_epochs_stay_usable(browser: Any, tmp_path: Path) -> None:
    classes = [f"n{number:08d}" for number in range(1000)]
    run = write_run(tmp_path / "a", epochs=10_000, classes=classes, num_images=10_000, accuracy=0.7)
    write_report([run], tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 3_000_000
    with opened(browser, tmp_path / "a.html") as window:
        wait_for_charts(window)
        header = window.locator("#split-val th", has_text="F1")
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == "ascending"
