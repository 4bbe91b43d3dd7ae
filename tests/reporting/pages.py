"""Reading a report in tests: its text, its tables, and what two runs with the same result have in common."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "line", "hr", "input"}


class _Kept(HTMLParser):
    """The page without the elements that have the attribute data-varies."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.text: list[str] = []
        self._open = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if self._open or any(name == "data-varies" for name, _ in attributes):
            self._open += tag not in VOID
            return
        self.text.append(self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if not self._open:
            self.text.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open -= tag not in VOID
            return
        self.text.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text.append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


def without_what_varies(page: str) -> str:
    """The page without attempts, times, throughput and host, and without the marks of attempts in the charts."""
    kept = _Kept()
    kept.feed(page)
    text = "".join(kept.text)
    text = re.sub(r'<g class="mark-rule role-mark attempts_marks"[^>]*?(/>|>.*?</g>)', "", text)
    return re.sub(r'(\{"name": "attempts", "values": )\[[^]]*\]', r"\1[]", text)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """(name, attributes) of each tag, as a browser reads them."""
    reader = _Tags()
    reader.feed(page)
    return reader.tags
