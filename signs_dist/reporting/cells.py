"""The cells of tables that a click on a column sorts."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a sortable table: its text, what it is sorted by ("" for a missing value), whether it is a number."""

    text: str
    value: float | str = ""
    is_number: bool = True


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a sortable table: whether it holds numbers, and the direction of its first sort."""

    name: str
    is_number: bool
    first: str = "ascending"


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A run or a trial in its table; `state` is the class of its state's color."""

    name: str
    state: str
    cells: list[Cell]


def number_cell(text: str, value: float | None) -> Cell:
    """The cell of a number."""
    return Cell(text, "" if value is None else value)
