"""Predictions as a CSV that is safe to open in a spreadsheet and to show in a terminal."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from signs_dist.files import written_aside
from signs_dist.inference.predicting import Prediction
from signs_dist.monitoring.plain_text import one_line

_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")


def write_csv(path: Path, classes: Sequence[str], predictions: Sequence[Prediction]) -> None:
    """Write predictions as a table: path, class, probability, a column for each class, and error.

    A photo without a prediction has a row with its path and its error. See `csv_cell` for names.
    """
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        columns = ["path", "class", "probability", *(f"p_{name}" for name in classes), "error"]
        writer.writerow([csv_cell(column) for column in columns])
        for row in predictions:
            if "error" in row:
                writer.writerow([csv_cell(row["path"]), "", "", *("" for _ in classes), csv_cell(row["error"])])
                continue
            shares = [f"{share:.6f}" for share in row["probabilities"].values()]
            writer.writerow([csv_cell(row["path"]), csv_cell(row["class"]), f"{row['probability']:.6f}", *shares, ""])


def csv_cell(text: str) -> str:
    """A name for a cell. Most names stay as they are.

    Control characters and bytes that are not UTF-8 become escapes such as `\\x1b` and `\\udcff`. Before `=`, `+`, `-`
    and `@` at the start comes an apostrophe, which keeps a spreadsheet from computing a formula; numbers need none.
    (OWASP, "CSV Injection".)
    """
    # Leading spaces do not stop some spreadsheets.
    is_formula = text.lstrip()[:1] in ("=", "+", "-", "@") and _NUMBER.fullmatch(text) is None
    return f"'{one_line(text)}" if is_formula or text[:1] in ("\t", "\r", "\n") else one_line(text)
