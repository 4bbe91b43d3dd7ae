"""Rows of messages: each gets an anchor, and the search of the site finds it by the message as it was printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HEADER = "message"
"""The first cell of the header of a table whose rows explain messages."""
FILE = "messages.js"


def anchor_of(text: str, taken: set[str]) -> str:
    """An anchor that is in no other row: `message-has-a-job-already`."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or "row"
    anchor, number = f"message-{words}", 1
    while anchor in taken:
        number += 1
        anchor = f"message-{words}-{number}"
    taken.add(anchor)
    return anchor


def add_anchors(app: Any, doctree: Any) -> None:
    """Sphinx calls this with each page that it has read: rows of messages get anchors, and are noted."""
    from docutils import nodes

    page, taken, found = app.env.docname, set[str](), []
    for table in doctree.findall(nodes.table):
        header = next(iter(table.findall(nodes.thead)), None)
        if header is None or next(header.findall(nodes.entry)).astext().strip() != HEADER:
            continue
        for row in next(table.findall(nodes.tbody)).findall(nodes.row):
            quoted = [span.astext() for span in next(row.findall(nodes.entry)).findall(nodes.literal)]
            if quoted:
                anchor = anchor_of(quoted[0], taken)
                row["ids"].append(anchor)
                found += [{"page": page, "anchor": anchor, "text": text} for text in quoted]
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
