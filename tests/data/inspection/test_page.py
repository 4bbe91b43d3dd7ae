"""The page has each class with a picture, what is odd, and the settings; in a browser it fits the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.inspection.choices import Choice
from signs_dist.data.inspection.findings import find_oddities
from signs_dist.data.inspection.inspecting import inspect_photos
from signs_dist.data.inspection.page import first_of_each_class, page_html, view
from tests.data.inspection.made import counted, made
from tests.odd_photos import CLASSES, write_odd_photos
from tests.reporting.browser import SCREENSHOTS, chromium

CHOICES = [Choice("data.root", "<photos>", "where they lie"), Choice("loss.class_weights", None, "equal")]


def test_the_values_of_the_page() -> None:
    found = made(
        {path: {} for path in counted(cat=40, dog=10)} | {"cat/0.jpg": {"is_grey": True}, "dog/x": {"reason": "y"}}
    )
    pictures = {"cat/1.jpg": "data:cat", "dog/0.jpg": "data:dog", "cat/0.jpg": "data:grey"}
    page = view(found, find_oddities(found), CHOICES, pictures, "type this")
    assert [(row.name, row.picture, row.total, row.share) for row in page.classes] == [
        ("cat", "data:cat", 40, 100.0),
        ("dog", "data:dog", 10, 25.0),
    ]
    assert [fact.text for fact in page.headline] == ["50", "2", "1", "1"]
    grey = next(oddity for oddity in page.oddities if "grey" in oddity.what)
    assert grey.pictures == [("cat/0.jpg", "data:grey")]
    assert page.choices == [("data.root", "<photos>", "where they lie"), ("loss.class_weights", "not set", "equal")]


def test_a_plain_photo_stands_for_its_class() -> None:
    found = made({"cat/0.jpg": {"is_grey": True}, "cat/1.jpg": {}, "dog/0.jpg": {"is_animated": True}})
    assert first_of_each_class(found) == {"cat": "cat/1.jpg", "dog": "dog/0.jpg"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    photos = write_odd_photos(folder / "my <b>photos", num_files=240)
    long_name = "a" * 200
    (photos.root / long_name).mkdir()
    (photos.root / long_name / "1.jpg").write_bytes((photos.root / photos.copies[0][0]).read_bytes())
    found = inspect_photos(photos.root, processes=1)
    text = page_html(found, find_oddities(found), CHOICES, command="type this", processes=1)
    (folder / "page.html").write_text(text, encoding="utf-8")
    return folder / "page.html"


def test_names_are_text_and_the_page_is_small(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<b>photos" not in text
    assert "my &lt;b&gt;photos" in text
    assert all(name in text for name in CLASSES)
    assert text.count("data:image/jpeg") > len(CLASSES)
    assert len(text) < 400_000
    assert 'id="runtime"' not in text  # what draws charts, of which the page has none


def test_it_opens_in_a_browser_and_fits_the_window(page: Path) -> None:
    with chromium() as browser:
        for theme, width in (("light", 1400), ("dark", 400)):
            window = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            troubles: list[str] = []
            window.on("console", lambda message, told=troubles: told.append(message.text))
            window.on("pageerror", lambda error, told=troubles: told.append(str(error)))
            window.goto(page.as_uri())
            assert window.evaluate("document.documentElement.scrollWidth") == width
            window.locator("#classes th button").last.click()
            counts = [int(text) for text in window.locator("#classes td.number").all_inner_texts()]
            assert counts == sorted(counts, reverse=True)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            window.screenshot(path=SCREENSHOTS / f"inspection-{theme}-{width}.png", full_page=True)
            assert troubles == []
            window.close()
