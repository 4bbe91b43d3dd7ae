"""Links of a built site: what is lost is named, and what a page loads is beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from website.links import check_site


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        ('<a href="b.html#here">b</a> <a href="#top">top</a> <p id="top">', []),
        ('<a href="c.html">c</a>', ["a.html: c.html: there is no such file"]),
        ('<a href="b.html#there">b</a>', ["a.html: b.html#there: there is no such anchor"]),
        ('<a href="#there">a</a>', ["a.html: #there: there is no such anchor"]),
        ('<img src="lost.png">', ["a.html: lost.png: there is no such file"]),
        ('<img src="data:image/png;base64,AA">', []),
        ('<script src="https://x.org/a.js"></script>', ["a.html: loads https://x.org/a.js from elsewhere"]),
        ('<link href="//fonts.org/a.css">', ["a.html: loads //fonts.org/a.css from elsewhere"]),
    ],
)
def test_what_is_lost(body: str, lost: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<p id="here">')
    assert check_site(tmp_path)[0] == lost


def test_links_to_other_sites_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="https://x.org/page">x</a>')
    assert check_site(tmp_path) == ([], {"https://x.org/page": {"a.html"}})
