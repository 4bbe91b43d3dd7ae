"""The photos that a table names, with their classes, read where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.listing import list_images
from signs_dist.data.names import check_class_names, class_notes, is_printable, listed, printable, same_class
from signs_dist.data.names import split_of_folder as split_of_word
from signs_dist.data.sources.collection import Collection, Photo, group_of, require_found, whole_path
from signs_dist.data.sources.columns import MissingColumnError, choose_columns, group_hint
from signs_dist.data.sources.finding import Found, found_note, match_files, missing_rows, places_advice
from signs_dist.data.sources.one_hot import read_one_hot
from signs_dist.data.sources.table_file import Table, read_table
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.settings import DataConfig

NUM_SHOWN = 5
"""So many bad rows are named."""
_WHOLE = re.compile(r"[-+]?[0-9]+\.0*")
_FRACTION = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://")


class _Problems:
    """Bad rows of a table, of which the first are named."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path, self._table = path, table

    def place(self, row: int) -> str:
        """Where a row is in the file."""
        place = self._table.places[row]
        return f"{self._path}:{place}" if self._table.unit == "line" else f"{self._path}, row {place}"

    def other(self, row: int) -> str:
        """Where another row of the same file is."""
        return f"{self._table.unit} {self._table.places[row]}"

    def refuse(self, rows: Sequence[int], what: Callable[[int], str], advice: str) -> None:
        """Raise `UserError` if there are such rows."""
        if not rows:
            return
        if len(rows) == 1:
            raise UserError(f"{self.place(rows[0])}: {what(rows[0])}. {advice}")
        lines = [f"  {self.place(row)}: {what(row)}" for row in rows[:NUM_SHOWN]]
        more = [f"  and {len(rows) - NUM_SHOWN:,} more"] if len(rows) > NUM_SHOWN else []
        raise UserError("\n".join([f"{self._path}: {len(rows):,} rows cannot be used. {advice}", *lines, *more]))


def read_photos(path: Path, config: DataConfig, *, split: str | None = None) -> Collection:
    """The photos of a table.

    Args:
        path: the table. Paths in it are absolute, or relative to its folder.
        config: the data section: `columns`, `label_pattern`, `group_pattern`.
        split: all its photos are in this split; None: as the table says, if it does.

    Raises:
        UserError: a column is missing, or rows cannot be used; the message names their lines.
    """
    table = _read(path, config)
    if not len(table):
        raise UserError(f"{path} names no image: it has no row below the names of its columns.")
    problems, folder = _Problems(path, table), path.parent
    names, notes = _normal_paths(table.cells["path"], folder, problems)
    _require_once(names, table.cells.get("label"), problems)
    names = _with_files(names, folder, table.cells["path"], problems, notes)
    _require_once(names, table.cells.get("label"), problems)
    classes = _classes(table, names, config, problems, notes, path)
    splits = _splits(table, names, problems, notes) if split is None else [split] * len(names)
    groups = _groups(table, names, config, problems, path)
    uses = ", ".join(f"{use} from {printable(column)}" for use, column in table.chosen.items())
    hint = group_hint(table.columns, table.chosen) if config.group_pattern is None else None
    root = _common_root(folder, names)
    photos = [
        Photo(name if root == folder else _below(root, folder, name), class_name, in_split, group, name)
        for name, class_name, in_split, group in zip(names, classes, splits, groups, strict=True)
    ]
    photos.sort(key=itemgetter(0))
    return Collection(root, photos, (f"{path.name}: {uses}", *notes, *([hint] if hint else [])), is_from_table=True)


def _read(path: Path, config: DataConfig) -> Table:
    needs_label = config.label_pattern is None
    try:
        return read_table(path, lambda names: choose_columns(names, config.columns, path, needs_label=needs_label))
    except MissingColumnError:
        if needs_label and (table := read_one_hot(path, config.columns)) is not None:
            return table
        raise


def _normal_paths(cells: Sequence[str], folder: Path, problems: _Problems) -> tuple[list[str], list[str]]:
    """(each path relative to the folder, or absolute where it lies elsewhere; notes)."""
    empty = [row for row, cell in enumerate(cells) if not cell]
    problems.refuse(empty, lambda row: "no path", "Write the image's path, or remove the row.")
    odd = [row for row, cell in enumerate(cells) if not is_printable(cell)]
    problems.refuse(odd, lambda row: printable(cells[row]), "The path has control characters. Rename the file.")
    addresses = [row for row, cell in enumerate(cells) if "://" in cell and _ADDRESS.match(cell)]
    advice = "An address is not read. Fetch the files, and write their paths."
    problems.refuse(addresses, lambda row: cells[row], advice)
    base = whole_path(folder).rstrip("/") + "/"
    names: list[str] = []
    num_backslashes = 0
    for cell in cells:
        name = cell
        if "\\" in name and not os.path.lexists(folder / name):
            name, num_backslashes = name.replace("\\", "/"), num_backslashes + 1
        if name[0] in "/." or "//" in name or "/." in name or name[-1] == "/":
            name = os.path.normpath(name)
            if name.startswith(base):
                name = name[len(base) :]
            elif name.startswith(".."):
                name = _outside(base, name)
        names.append(name)
    plural = "" if num_backslashes == 1 else "s"
    return names, [f"{num_backslashes:,} path{plural} with \\ read with / between folders"] if num_backslashes else []


def _outside(base: str, name: str) -> str:
    """A path that begins with .. as one relative to the folder where it leads back there, else as it is."""
    whole = os.path.normpath(base + name)
    return whole[len(base) :] if whole.startswith(base) else name


def _require_once(names: Sequence[str], labels: Sequence[str] | None, problems: _Problems) -> None:
    if len(set(names)) == len(names):
        return
    first: dict[str, int] = {}
    again = [row for row, name in enumerate(names) if first.setdefault(name, row) != row]
    other = [row for row in again if labels is not None and labels[row] != labels[first[names[row]]]]

    def two_labels(row: int) -> str:
        assert labels is not None
        before = first[names[row]]
        return (
            f"{printable(names[row])} has class {printable(labels[row])}, and {printable(labels[before])} on "
            f"{problems.other(before)}"
        )

    problems.refuse(
        other,
        two_labels,
        "An image has one class: keep one of the rows (several classes for an image are not learned).",
    )
    problems.refuse(
        again,
        lambda row: f"{printable(names[row])} is on {problems.other(first[names[row]])} too",
        "Keep one of the rows.",
    )


def _with_files(
    names: list[str], folder: Path, given: Sequence[str], problems: _Problems, notes: list[str]
) -> list[str]:
    """The paths, each with a file. If none has one, they are looked for by the names of files; adds to `notes`."""
    missing = missing_rows(names, folder)
    if not missing:
        return names
    near = [names[row] for row in missing if not names[row].startswith(("/", "../")) and not _DRIVE.match(given[row])]
    found = match_files(near, list_images(folder).images if near else ())
    if len(missing) == len(names) == len(found.place_of):
        notes.append(found_note(found.place_of))
        return [found.place_of[name] for name in names]
    # Some are where the table says: another file of the same name may be another photo.
    missing.sort(key=lambda row: names[row] in found.place_of)
    advice = _where_it_may_be(names[missing[0]], given[missing[0]], found)
    problems.refuse(missing, lambda row: f"there is no file {printable(str(folder / names[row]))}", advice)
    return names


def _where_it_may_be(name: str, given: str, found: Found) -> str:
    """What to do about a path that leads to no file."""
    if _DRIVE.match(given):
        return "This is a path of Windows on another machine. Write paths that are relative to the table's folder."
    if name in found.several or name in found.place_of:
        return places_advice(found.several.get(name) or (found.place_of[name],))
    if not name.startswith("/") and os.path.lexists(name):
        return "It is there from the current folder, but paths begin at the table's folder: move the table here."
    return "Paths are absolute, or relative to the table's folder. Correct them, or remove the rows."


def _classes(
    table: Table, names: Sequence[str], config: DataConfig, problems: _Problems, notes: list[str], where: Path
) -> list[str]:
    """The class of each image; adds to `notes`."""
    if config.label_pattern is not None:
        pattern = re.compile(config.label_pattern)
        found = [group_of(name, pattern) for name in names]
        require_found(found, names, "label_pattern", config.label_pattern, where)
        cells: Sequence[str] = [label for label in found if label is not None]
    else:
        cells = table.cells["label"]
        column = table.chosen["label"]
        empty = [row for row, cell in enumerate(cells) if not cell]
        advice = f"Write a class into column {printable(column)}, or remove the row; data.columns.label names another."
        problems.refuse(empty, lambda row: f"{printable(names[row])} has no class", advice)
        cells = _without_fractions(cells, column, problems)
    different = set(cells)
    if len(different) == len(cells) > 2:
        raise UserError(
            f"{where}: each of {len(cells):,} images has a class of its own, such as {listed(list(cells), 3)}. Choose "
            f"the column with the classes: data.columns.label=NAME. It has {listed(list(table.columns), 12)}."
        )
    check_class_names(different, where, kind="class")
    notes += class_notes(different, kind="label")
    class_of = same_class(different)
    return [class_of[cell] for cell in cells]


def _without_fractions(cells: Sequence[str], column: str, problems: _Problems) -> Sequence[str]:
    """The classes, with 3 for 3.0, as pandas writes whole numbers of a column that misses one. Refuses 3.7."""
    numbers = {cell for cell in set(cells) if _FRACTION.fullmatch(cell)}
    if not numbers:
        return cells
    fractions = {cell for cell in numbers if not _WHOLE.fullmatch(cell)}
    rows = [row for row, cell in enumerate(cells) if cell in fractions]
    problems.refuse(
        rows,
        lambda row: f"{printable(column)} is {cells[row]}",
        "Numbers with a fraction are no classes. Choose another column with data.columns.label, or write the classes "
        "as words.",
    )
    whole = {cell: str(int(cell.partition(".")[0])) for cell in numbers}
    return [whole.get(cell, cell) for cell in cells]


def _splits(table: Table, names: Sequence[str], problems: _Problems, notes: list[str]) -> list[str | None]:
    """The split of each image: from its column, or from the first folder of its path where all have one."""
    if "split" in table.chosen:
        cells, column = table.cells["split"], table.chosen["split"]
        split_of = {cell: split_of_word(cell) for cell in set(cells)}
        unknown = [row for row, cell in enumerate(cells) if split_of[cell] is None]
        problems.refuse(
            unknown,
            lambda row: f"{printable(column)} is {printable(cells[row]) or 'empty'}, not train, val or test",
            "Correct it, or choose another column with data.columns.split. To divide the images again: "
            """data.columns.split="''".""",
        )
        return [split_of[cell] for cell in cells]
    tops = {name: split_of_word(name) for name in {name.partition("/")[0] for name in names if "/" in name}}
    found = {split for split in tops.values() if split is not None}
    if len(found) > 1 and all(tops.get(name.partition("/")[0]) for name in names):
        notes.append(f"splits from the first folder of the paths: {listed(sorted(tops))}")
        return [tops[name.partition("/")[0]] for name in names]
    return [None] * len(names)


def _groups(
    table: Table, names: Sequence[str], config: DataConfig, problems: _Problems, where: Path
) -> Sequence[str | None]:
    if "group" in table.chosen:
        cells = table.cells["group"]
        empty = [row for row, cell in enumerate(cells) if not cell]
        advice = f"Write one into column {printable(table.chosen['group'])}, or remove the row."
        problems.refuse(empty, lambda row: f"{printable(names[row])} has no group", advice)
        return cells
    if config.group_pattern is not None:
        pattern = re.compile(config.group_pattern)
        found = [group_of(name, pattern) for name in names]
        require_found(found, names, "group_pattern", config.group_pattern, where)
        return found
    return [None] * len(names)


def _common_root(folder: Path, names: Iterable[str]) -> Path:
    """The folder that holds all files: that of the table where they are below it."""
    outside = {name.rpartition("/")[0] or "/" for name in names if name.startswith(("/", "../"))}
    if not outside:
        return folder
    return Path(os.path.commonpath([whole_path(folder), *(whole_path(folder / each) for each in outside)]))


def _below(root: Path, folder: Path, name: str) -> str:
    return os.path.relpath(whole_path(folder / name), root)
