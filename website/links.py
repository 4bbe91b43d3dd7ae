"""Whether the links of the built site lead somewhere, within it: those to other sites are listed, and not opened."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
"""Elements that fetch a file when the page opens."""


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the attributes of an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADING and LOADING[tag] in values and not values[LOADING[tag]].startswith("data:"):
            self.loads.append(values[LOADING[tag]])


def check_site(folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """Look at all pages of a built site.

    Returns:
        The links that lead to no file or no anchor, and what a page would load from elsewhere, each as a line; and link
        to another site → the pages that have it.
    """
    pages = {file.resolve(): Page(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.html"))}
    lost: list[str] = []
    external: dict[str, set[str]] = {}
    for file, page in pages.items():
        name = file.relative_to(folder.resolve()).as_posix()
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                external.setdefault(target, set()).add(name)
                if target in page.loads:
                    lost.append(f"{name}: loads {target} from elsewhere")
                continue
            goal = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not goal.is_file():
                lost.append(f"{name}: {target}: there is no such file")
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in pages[goal].anchors:
                lost.append(f"{name}: {target}: there is no such anchor")
    return lost, external
