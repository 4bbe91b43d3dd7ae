"""The site as website.build makes it, in a real browser: no warning, good links, search, phones, dark, no network.

Sphinx reads website/conf.py.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment
from tests.reporting.browser import SCREENSHOTS, chromium
from tests.shared import shared_folder
from tests.test_docs import messages_of
from tests.website.site_folder import REPOSITORY, python

pytestmark = pytest.mark.slow
TROUBLES = REPOSITORY / "docs" / "troubleshooting.md"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made once for all workers of pytest."""
    program = python()
    with shared_folder(tmp_path_factory, "site") as folder:
        if not (folder / "html" / "index.html").exists():
            command = [program, "-m", "website.build", str(folder / "html")]
            made = subprocess.run(
                command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
            assert made.stderr == ""
            assert made.stdout.endswith("index.html\n")
    return folder / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@contextlib.contextmanager
def opened(browser: Any, page: str, *, width: int = 1400, theme: str = "light") -> Iterator[Any]:
    """A page in a window. At the end, it has reported no error, and asked nobody but the disk."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    troubles: list[str] = []
    try:
        window = context.new_page()
        window.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        window.on("pageerror", lambda error: troubles.append(str(error)))
        window.on("requestfailed", lambda request: troubles.append(request.url))
        window.goto(page)
        yield window
        assert troubles == []
    finally:
        context.close()


def test_the_front_page_leads_to_every_page(site: Path, browser: Any) -> None:
    with opened(browser, (site / "index.html").as_uri()) as window:
        assert window.locator("h1").inner_text().startswith("signs_dist")
        links = window.eval_on_selector_all(".sidebar-tree a", "links => links.map(link => link.href)")
        pages = {path.stem for path in (REPOSITORY / "docs").rglob("*.md")}
        assert pages <= {Path(link.partition("#")[0]).stem for link in links}


PICTURED = ("settings", "inside", "troubleshooting", "api")
"""Pages with wide tables, drawings, long lines and signatures: the test leaves screenshots of them."""


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1000), ("dark", 1400)])
def test_every_page_fits_the_window(site: Path, browser: Any, theme: str, width: int) -> None:
    grounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 20, 22)"}
    (SCREENSHOTS / "site").mkdir(parents=True, exist_ok=True)
    with opened(browser, (site / "index.html").as_uri(), width=width, theme=theme) as window:
        for page in sorted(site.rglob("*.html")):
            if width > 390 and page.stem not in PICTURED:
                continue
            window.goto(page.as_uri())
            assert window.evaluate("document.documentElement.scrollWidth") == width, page.name
            assert window.evaluate("getComputedStyle(document.body).backgroundColor") == grounds[theme]
            if page.stem in PICTURED:
                window.screenshot(path=SCREENSHOTS / "site" / f"{page.stem}-{theme}-{width}.png")


def test_a_table_that_does_not_fit_a_phone_is_a_list(site: Path, browser: Any) -> None:
    page = (site / "docs" / "settings.html").as_uri()
    with opened(browser, page, width=390) as window:
        cell = window.locator("td", has_text="Peak learning rate")
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"what it does: "'
        assert cell.evaluate("cell => cell.getBoundingClientRect().right") <= 390
    with opened(browser, page) as window:
        assert window.locator("table.stacked").count() == 0


def test_a_phone_shows_no_name_of_a_column_that_is_empty(site: Path, browser: Any) -> None:
    with opened(browser, (site / "docs" / "doctor.html").as_uri(), width=390) as window:
        row = window.locator("table.stacked tr", has_text="a name without an address")
        assert "warn:" in row.locator("td").last.evaluate("cell => getComputedStyle(cell, '::before').content")
        assert not row.locator("td").last.is_visible()


def test_a_phone_shows_the_whole_of_an_error(site: Path, browser: Any) -> None:
    with opened(browser, (site / "docs" / "tutorial" / "1-tensors.html").as_uri(), width=390) as window:
        block = window.locator("pre", has_text="Inference tensors cannot be saved")
        assert block.evaluate("block => block.scrollWidth <= block.clientWidth")


def test_drawings_follow_the_button_for_dark(site: Path, browser: Any) -> None:
    with opened(browser, (site / "docs" / "inside.html").as_uri()) as window:
        drawing = window.locator(".drawing").first
        ink = "drawing => getComputedStyle(drawing.querySelector('text')).fill"
        assert drawing.evaluate(ink) == "rgb(31, 35, 40)"
        while window.evaluate("document.body.dataset.theme") != "dark":
            window.locator(".theme-toggle:visible").first.click()
        assert drawing.evaluate(ink) == "rgb(230, 237, 243)"
        assert window.locator(".drawing").count() == 4


@pytest.mark.parametrize(
    ("query", "first", "is_on_page"),
    [
        ("exact mode", "Exact mode", "in exact mode a config gives"),
        (
            "error: train.global_batch=100 does not divide into micro-batches of 8. Nearest: 96 or 104.",
            "Troubleshooting",
            "does not divide into micro-batches of",
        ),
        ("runs/a has a job already, and it is 4711", "Troubleshooting", "has a job already"),
    ],
)
def test_typing_into_the_search_finds_the_page(
    site: Path, browser: Any, query: str, first: str, is_on_page: str
) -> None:
    with opened(browser, (site / "index.html").as_uri()) as window:
        window.locator(".sidebar-search").fill(query)
        window.keyboard.press("Enter")
        window.locator("ul.search li").first.wait_for()
        found = window.locator("ul.search li a").first
        assert found.inner_text().startswith(first)
        found.click()
        place = window.locator(
            "[role=main] :is(p, td)", has_text=re.compile(re.escape(is_on_page), re.IGNORECASE)
        ).first
        box = place.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 900, "the place is in view"


def test_every_message_is_found_as_it_is_printed(site: Path, browser: Any) -> None:
    """With values for …, and other words around it, the row comes first, or after rows that the message quotes too."""
    messages = [message for _, message in messages_of(TROUBLES)]
    with opened(browser, (site / "search.html").as_uri()) as window:
        find = "texts => texts.map(text => findMessages(text, MESSAGES).map(row => row.text))"
        printed = [f"error: {message.replace('…', 'runs/a 12')}. Type --run-dir" for message in messages]
        found = window.evaluate(find, printed)
    assert len(messages) > 100
    lost = [message for message, rows in zip(messages, found, strict=True) if message not in rows[:3]]
    assert lost == []
