from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from signs_dist.inference.prediction_files import csv_cell, write_csv


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("photos/cat/1.jpg", "photos/cat/1.jpg"),
        ("cat", "cat"),
        ("a=b", "a=b"),
        ("", ""),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        (" =1+1", "' =1+1"),
        ("-1", "-1"),
        ("+1.5", "+1.5"),
        ("-1e5", "-1e5"),
        ("-", "'-"),
        ("-x.jpg", "'-x.jpg"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\x0d=1"),
        ("\n=1", "'\\n=1"),
        ("a\nb.jpg", "a\\nb.jpg"),
        ("\x1b[31mred.jpg", "\\x1b[31mred.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\udce9.jpg"),
        ("été.jpg", "été.jpg"),
    ],
)
def test_a_name_in_a_cell(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    cell.encode()


def test_the_table(tmp_path: Path) -> None:
    rows = [
        {"path": "a.jpg", "class": "=x", "probability": 0.75, "probabilities": {"=x": 0.75, "b,c": 0.25}},
        {"path": os.fsdecode(b"\xff\n.jpg"), "error": "truncated"},
    ]
    write_csv(tmp_path / "out.csv", ["=x", "b,c"], rows)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))
    assert table == [
        ["path", "class", "probability", "p_=x", "p_b,c", "error"],
        ["a.jpg", "'=x", "0.750000", "0.750000", "0.250000", ""],
        ["\\udcff\\n.jpg", "", "", "", "", "truncated"],
    ]
