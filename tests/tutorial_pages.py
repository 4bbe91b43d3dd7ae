"""The pages of the tutorial as cells: text, and Python with what it prints. Writes the notebooks from them.

python -m tests.tutorial_pages        # docs/tutorial/notebooks/*.ipynb from docs/tutorial/*.md
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TUTORIAL = Path(__file__).resolve().parent.parent / "docs" / "tutorial"
NOTEBOOKS = TUTORIAL / "notebooks"
ERROR = re.compile(r"^[A-Z]\w*(Error|Exception): ", re.MULTILINE)
"""How the last line begins of what a cell prints that raises."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A part of a page.

    Attributes:
        line: of its first line in the page, from 1.
        source: Markdown, or Python.
        is_code: whether it is Python.
        printed: what the Python prints, `…` for what differs; None where the page does not show it.
    """

    line: int
    source: str
    is_code: bool
    printed: str | None = None

    @property
    def raises(self) -> bool:
        """Whether the Python ends with an error, which is the last that it prints."""
        return self.printed is not None and ERROR.match(self.printed.splitlines()[-1]) is not None


def pages() -> list[Path]:
    """The pages with code, in their order."""
    return sorted(TUTORIAL.glob("[0-9]-*.md"))


def cells(text: str) -> list[Cell]:
    """The cells of a page."""
    found: list[Cell] = []
    prose: list[str] = []
    first = 1
    for line, fence, lines in _parts(text):
        follows_code = bool(found) and found[-1].is_code and found[-1].printed is None and not "".join(prose).strip()
        if fence == "text" and follows_code:
            found[-1] = dataclasses.replace(found[-1], printed="\n".join(lines))
            prose = []
        elif fence == "python":
            if "".join(prose).strip():
                found.append(Cell(first, "\n".join(prose).strip("\n"), is_code=False))
            found.append(Cell(line, "\n".join(lines), is_code=True))
            prose = []
        else:
            first = first if prose else line
            prose += [f"```{fence}", *lines, "```"] if fence is not None else lines
    if "".join(prose).strip():
        found.append(Cell(first, "\n".join(prose).strip("\n"), is_code=False))
    return found


def _parts(text: str) -> Iterator[tuple[int, str | None, Sequence[str]]]:
    """(number of the first line, language of a fence or None for prose, lines)."""
    lines, place = text.splitlines(), 0
    while place < len(lines):
        if lines[place].startswith("```"):
            end = lines.index("```", place + 1)
            yield place + 2, lines[place][3:], lines[place + 1 : end]
            place = end + 1
        else:
            yield place + 1, None, [lines[place]]
            place += 1


def is_printed(expected: str, printed: str) -> bool:
    """Whether a cell has printed what its page shows; `…` stands for anything, on several lines too."""
    parts = [re.escape(part) for part in expected.strip().split("…")]
    return re.fullmatch(".*".join(parts), printed.strip(), re.DOTALL) is not None


def notebook(text: str) -> dict[str, Any]:
    """A page as a notebook, in the format nbformat 4.5."""
    return {
        "cells": [_notebook_cell(number, cell) for number, cell in enumerate(cells(text))],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _notebook_cell(number: int, cell: Cell) -> dict[str, Any]:
    common = {"id": f"cell-{number}", "source": _to_notebook(cell.source).splitlines(keepends=True)}
    if not cell.is_code:
        return {"cell_type": "markdown", "metadata": {}, **common}
    outputs: list[dict[str, Any]] = []
    if cell.printed is not None:
        outputs = [{"output_type": "stream", "name": "stdout", "text": f"{cell.printed}\n".splitlines(keepends=True)}]
    # With the tag, Jupyter runs the cells that follow the error.
    metadata = {"tags": ["raises-exception"]} if cell.raises else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": outputs, **common}


def _to_notebook(source: str) -> str:
    """Links and pictures of a page, seen from the folder of the notebooks."""
    source = re.sub(r"\]\(([1-8]-[\w-]+)\.md", r"](\1.ipynb", source)
    return re.sub(r"\]\((?![a-z]+:|#)(?!\d-[\w-]+\.ipynb)", "](../", source)


def main() -> None:
    """Write the notebooks."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for page in pages():
        text = json.dumps(notebook(page.read_text(encoding="utf-8")), indent=1, ensure_ascii=False)
        (NOTEBOOKS / f"{page.stem}.ipynb").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
