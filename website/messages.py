"""Messages: each gets an anchor, and the search of the site finds it by the message as it was printed.

A message is in a table that explains messages, or it is an error in a block of what Python printed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HEADER = "message"
"""The first cell of the header of a table whose rows explain messages."""
FILE = "messages.js"
ERROR_CLASS = "printed-error"
"""Of a block that ends in an error: its lines wrap (site.css), so that a phone shows the whole message."""
LEAST_LETTERS = 8
"""An error with fewer letters beside its values would be found in too many other messages."""


def anchor_of(text: str, taken: set[str]) -> str:
    """An anchor that is in no other row: `message-has-a-job-already`."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "row"
    anchor, number = f"message-{words}", 1
    while anchor in taken:
        number += 1
        anchor = f"message-{words}-{number}"
    taken.add(anchor)
    return anchor


def printed_errors(text: str) -> list[str]:
    """The messages of the errors in what Python printed, without their types: `RuntimeError: grad can be …`."""
    found = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Warning): (.+)$", text, re.MULTILINE)
    return [message for message in found if sum(map(str.isalpha, message)) >= LEAST_LETTERS]


def add_anchors(app: Any, doctree: Any) -> None:
    """Sphinx calls this with each page that it has read: messages get anchors, and are noted."""
    from docutils import nodes

    page, taken = app.env.docname, set[str]()
    found: list[dict[str, str]] = []

    def note(node: Any, texts: list[str]) -> None:
        anchor = anchor_of(texts[0], taken)
        node["ids"].append(anchor)
        found.extend({"page": page, "anchor": anchor, "text": text} for text in texts)

    for table in doctree.findall(nodes.table):
        header = next(iter(table.findall(nodes.thead)), None)
        if header is None or next(header.findall(nodes.entry)).astext().strip() != HEADER:
            continue
        for row in next(table.findall(nodes.tbody)).findall(nodes.row):
            quoted = [span.astext() for span in next(row.findall(nodes.entry)).findall(nodes.literal)]
            if quoted:
                note(row, quoted)
    for block in doctree.findall(nodes.literal_block):
        errors = printed_errors(block.astext()) if block.get("language") == "text" else []
        if errors:
            note(block, errors)
            block["classes"].append(ERROR_CLASS)
    if not hasattr(app.env, "signs_messages"):
        app.env.signs_messages = {}
    app.env.signs_messages[page] = found


def write_messages(app: Any) -> None:
    """Write the rows of all pages for the search page, as `const MESSAGES`."""
    rows = [row for page in sorted(app.env.signs_messages) for row in app.env.signs_messages[page]]
    text = f"const MESSAGES = {json.dumps(rows, ensure_ascii=False)};\n"
    (Path(app.outdir) / "_static" / FILE).write_text(text, encoding="utf-8")


def load_messages(app: Any, page: str, template: str, context: Any, doctree: Any) -> None:
    """Sphinx calls this before it writes a page: the search page loads the rows."""
    if page == "search":
        app.add_js_file(FILE)
