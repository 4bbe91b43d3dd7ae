"""Tables with a column of zeros and ones for each class, as Roboflow writes them into _classes.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.sources.columns import choose_columns
from signs_dist.data.sources.table_file import Table, read_table
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.data_settings import ColumnsConfig

_YES = ("1", "1.0", "true", "True", "TRUE")
_NO = ("0", "0.0", "false", "False", "FALSE", "")


def read_one_hot(path: Path, columns: ColumnsConfig) -> Table | None:
    """The table with a cell for the class in each row; None if its columns do not hold zeros and ones alone.

    Args:
        path: a table without a column for the class.
        columns: data.columns.

    Raises:
        UserError: a row has no class, or two.
    """
    classes: list[str] = []

    def choose(names: Sequence[str]) -> dict[str, str]:
        chosen = choose_columns(names, columns, path, needs_label=False)
        chosen.pop("label", None)
        classes.extend(name for name in names if name not in chosen.values())
        return chosen | {_use(name): name for name in classes}

    table = read_table(path, choose)
    cells = [table.cells[_use(name)] for name in classes]
    if len(classes) < 2 or not all(cell in _YES or cell in _NO for column in cells for cell in column):
        return None
    labels = []
    for row, place in enumerate(table.places):
        yes = [name for name, column in zip(classes, cells, strict=True) if column[row] in _YES]
        if len(yes) != 1:
            has = f"the classes {', '.join(yes)}" if yes else "no class"
            raise UserError(
                f"{path}, {table.unit} {place}: {table.cells['path'][row]} has {has} in the columns of zeros and ones. "
                f"An image has one class: correct the row, or remove it (several classes for an image are not learned)."
            )
        labels.append(yes[0])
    kept = {use: column for use, column in table.chosen.items() if use in ("path", "split", "group")}
    return Table(
        table.columns,
        kept | {"label": f"{len(classes)} columns of zeros and ones"},
        {use: table.cells[use] for use in kept} | {"label": labels},
        table.places,
        table.unit,
    )


def _use(class_name: str) -> str:
    return f"class {class_name}"
