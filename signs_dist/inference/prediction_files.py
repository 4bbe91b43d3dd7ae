"""Predictions in files: CSV that is safe to open in a spreadsheet, JSON, and JSON lines.

The rows of a batch are written as they come. CSV and JSON appear whole, when the last row is in them. A file of JSON
lines grows with each batch.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from signs_dist.data.locks import describe_holder
from signs_dist.errors import UserError
from signs_dist.files import explained, written_aside
from signs_dist.inference.predicting import Prediction
from signs_dist.monitoring.plain_text import one_line
from signs_dist.run_folder.lines import to_line

Write = Callable[[Sequence[Prediction]], None]
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")


@contextlib.contextmanager
def csv_rows(path: Path, classes: Sequence[str], top: int | None) -> Iterator[Write]:
    """Yield a function that writes rows of a table: path, class, probability, a column for each class, and error.

    With `top`, the columns of the classes are `class_2`, `probability_2` and so on, up to that number. A photo without
    a prediction has a row with its path and its error. See `csv_cell` for names.
    """
    further = range(2, (top or 1) + 1)
    of_classes = [f"p_{name}" for name in classes] if top is None else []
    of_ranks = [f"{what}_{rank}" for rank in further for what in ("class", "probability")]
    columns = ["path", "class", "probability", *of_classes, *of_ranks, "error"]
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([csv_cell(column) for column in columns])

        def cells_of(row: Prediction) -> list[str]:
            if "error" in row:
                return [csv_cell(row["path"]), *[""] * (len(columns) - 2), csv_cell(row["error"])]
            shares = row["probabilities"]
            cells = [f"{share:.6f}" for share in shares.values()] if top is None else []
            for name, share in list(shares.items())[1:] if top is not None else ():
                cells += [csv_cell(name), f"{share:.6f}"]
            return [csv_cell(row["path"]), csv_cell(row["class"]), f"{row['probability']:.6f}", *cells, ""]

        def write(rows: Sequence[Prediction]) -> None:
            writer.writerows(map(cells_of, rows))

        yield write


@contextlib.contextmanager
def json_rows(path: Path, about: Mapping[str, Any]) -> Iterator[Write]:
    """Yield a function that adds predictions to a JSON document: `about`, `predictions` and `skipped`."""
    with written_aside(path) as aside, aside.open("wb") as stream, tempfile.TemporaryFile() as skipped:
        head = to_line(dict(about)).rstrip().removesuffix(b"}")
        stream.write(head + b', "predictions": [')
        counts = {"stream": 0, "skipped": 0}

        def write(rows: Sequence[Prediction]) -> None:
            for row in rows:
                name, file = ("skipped", skipped) if "error" in row else ("stream", stream)
                file.write((b",\n" if counts[name] else b"\n") + to_line(row).rstrip())
                counts[name] += 1

        yield write
        stream.write(b'\n], "skipped": [')
        skipped.seek(0)
        while block := skipped.read(2**20):
            stream.write(block)
        stream.write(b"\n]}\n")


@contextlib.contextmanager
def json_lines(path: Path) -> Iterator[Write]:
    """Yield a function that writes a line of JSON for each row, all of them at once, in one call of the system.

    After a kill the file has the lines of all batches before. A kill in the middle of a write, or a full disk, may
    leave a last line without its end.

    Raises:
        UserError: the disk is full, the file cannot be written, or another process writes it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            _empty(stream, path)

            def write(rows: Sequence[Prediction]) -> None:
                rest = memoryview(b"".join(map(to_line, rows)))
                while rest:
                    rest = rest[stream.write(rest) or 0 :]

            yield write
    except OSError as error:
        raise explained(error, path) from error


def _empty(stream: IO[bytes], path: Path) -> None:
    """Empty the file of a stream, and hold it until the stream is closed. A device or a pipe is left as it is.

    Raises:
        UserError: another process holds it.
    """
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"cannot write {path}: {describe_holder(path)} writes it. Choose another file, or wait until it ends."
        ) from None
    except OSError:
        pass  # some network file systems know no locks
    stream.truncate(0)


def csv_cell(text: str) -> str:
    """A name for a cell. Most names stay as they are.

    Control characters and bytes that are not UTF-8 become escapes such as `\\x1b` and `\\udcff`. Before `=`, `+`, `-`
    and `@` at the start comes an apostrophe, which keeps a spreadsheet from computing a formula; numbers need none.
    (OWASP, "CSV Injection".)
    """
    # Leading spaces do not stop some spreadsheets.
    is_formula = text.lstrip()[:1] in ("=", "+", "-", "@") and _NUMBER.fullmatch(text) is None
    return f"'{one_line(text)}" if is_formula or text[:1] in ("\t", "\r", "\n") else one_line(text)
