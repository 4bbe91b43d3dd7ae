"""Read some columns of a table: CSV or TSV, JSON lines, Parquet. Each message names the line."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signs_dist.data.images import IMAGE_SUFFIXES
from signs_dist.data.names import listed
from signs_dist.errors import UserError
from signs_dist.extras import require_extra
from signs_dist.files import explained

TEXT_SUFFIXES = (".csv", ".tsv")
LINES_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *LINES_SUFFIXES, *PARQUET_SUFFIXES)
"""Suffixes of the tables that are read, in any case."""
OTHER_TABLES = (".json", ".xlsx", ".xls", ".ods", ".feather", ".arrow", ".sqlite", ".db")
"""Suffixes of tables that are not read, so that a message says what to do."""

Choose = Callable[[Sequence[str]], Mapping[str, str]]
"""Names of columns → the column for each use, such as {"path": "file_name"}."""


@dataclass(frozen=True)
class Table:
    """Some columns of a table, as text without blanks around it. An empty cell is empty text."""

    columns: tuple[str, ...]
    """The names of all columns of the file."""
    chosen: Mapping[str, str]
    """Use → column."""
    cells: Mapping[str, Sequence[str]]
    """Use → the column's cells."""
    places: Sequence[int]
    """Where each row is in the file, from 1."""
    unit: str = "line"
    """What `places` counts: lines or rows."""

    def __len__(self) -> int:
        return len(self.places)


def is_table_name(path: Path) -> bool:
    """Whether a file is a table that is read, by its suffix."""
    return path.suffix.lower() in TABLE_SUFFIXES


def read_table(path: Path, choose: Choose) -> Table:
    """Read the columns that `choose` picks.

    Raises:
        UserError: the file cannot be read, is no table, or has a row that does not fit; what `choose` raises.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            return _read_parquet(path, choose)
        text = _read_text(path)
    except OSError as error:
        raise explained(error, path, "open") from error
    if suffix in LINES_SUFFIXES:
        return _read_json_lines(path, text, choose)
    return _read_csv(path, text, choose)


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"  # "Unicode text" of Excel
    else:
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 text. Save the table as UTF-8 (in Excel: CSV UTF-8), or type: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from None


def _read_csv(path: Path, text: str, choose: Choose) -> Table:
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max("\t,;|" if path.suffix.lower() == ".tsv" else ",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = _csv_rows(reader, path)
    header = next(rows, None)
    if header is None:
        raise UserError(f"{path} is empty. Write a line with names of columns, such as path,label, and the images.")
    columns = [name.strip() for name in header[1]]
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in columns):
        raise UserError(
            f"{path}:{header[0]}: the first line is an image ({listed(columns)}), not the names of columns. Write "
            f"{delimiter.join(['path', 'label', 'split'][: len(columns)])} above it."
        )
    _require_different(path, header[0], columns)
    chosen = choose(columns)
    numbers = {use: columns.index(column) for use, column in chosen.items()}
    cells: dict[str, list[str]] = {use: [] for use in numbers}
    pairs = [(cells[use].append, number) for use, number in numbers.items()]
    places: list[int] = []
    for line, row in rows:
        if len(row) != len(columns):
            raise UserError(_about_fields(path, line, row, columns, delimiter))
        for append, number in pairs:
            append(row[number].strip())
        places.append(line)
    return Table(tuple(columns), chosen, cells, places)


def _csv_rows(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the rows that are not blank; the line is that at which the row begins."""
    before = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}:{before + 1}: {error}. Look for a quotation mark without its pair; within a quoted field one "
                f'is written twice ("").'
            ) from None
        line, before = before + 1, reader.line_num
        if any(cell.strip() for cell in row):
            yield line, row


def _about_fields(path: Path, line: int, row: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    num_fields = f"{len(row)} field{'' if len(row) == 1 else 's'}"
    advice = (
        f'A field that holds {delimiter!r} stands between quotation marks: "a{delimiter}b".'
        if len(row) > len(columns)
        else "Write the missing ones, or leave them empty between delimiters."
    )
    return (
        f"{path}:{line}: {num_fields}, and line 1 names {len(columns)} columns ({listed(list(columns))}). "
        f"They are separated by {delimiter!r}. {advice}"
    )


def _require_different(path: Path, line: int, columns: Sequence[str]) -> None:
    twice = [name for number, name in enumerate(columns) if name and name in columns[:number]]
    if twice:
        raise UserError(f"{path}:{line}: two columns are called {twice[0]}. Rename one.")


def _read_json_lines(path: Path, text: str, choose: Choose) -> Table:
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f'{path}:{line}: not JSON ({error}). Each line is one object, such as {{"file_name": "a.jpg", "label": '
                f'"cat"}}.'
            ) from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{line}: {content.strip()[:40]} is no JSON object. Each line is one, with names.")
        rows.append(row)
        places.append(line)
    if not rows:
        raise UserError(f'{path} is empty. Write lines such as {{"file_name": "a.jpg", "label": "cat"}}.')
    columns = tuple(dict.fromkeys(name for row in rows[:1000] for name in row))
    chosen = choose(columns)
    cells = {
        use: [_cell(row.get(column), path, line, column) for row, line in zip(rows, places, strict=True)]
        for use, column in chosen.items()
    }
    return Table(columns, chosen, cells, places)


def _read_parquet(path: Path, choose: Choose) -> Table:
    require_extra("parquet", "pyarrow", str(path))
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns = tuple(file.schema_arrow.names)
        chosen = choose(columns)
        read = file.read(columns=list(dict.fromkeys(chosen.values())))
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not a Parquet file that can be read: {error}. Write it again.") from None
    places = range(1, read.num_rows + 1)
    cells = {
        use: [
            _cell(value, path, place, column, unit="row")
            for value, place in zip(read.column(column).to_pylist(), places, strict=True)
        ]
        for use, column in chosen.items()
    }
    return Table(columns, chosen, cells, places, "row")


def _cell(value: Any, path: Path, place: int, column: str, *, unit: str = "line") -> str:
    """A value of JSON or Parquet as the text that a CSV would have."""
    if type(value) is str:
        return value.strip()
    if value is None or value != value:  # not a number: pandas writes a missing value so
        return ""
    if isinstance(value, str | int | float):
        return str(value).strip()
    where = f"{path}:{place}" if unit == "line" else f"{path}, row {place}"
    raise UserError(
        f"{where}: {column} holds {type(value).__name__} values, not text or numbers. Choose other columns with "
        f"data.columns.path and data.columns.label."
    )
