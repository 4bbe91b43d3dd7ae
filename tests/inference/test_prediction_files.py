from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.inference.prediction_files import csv_cell, csv_rows, json_lines, json_rows


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
    with csv_rows(tmp_path / "out.csv", ["=x", "b,c"], None) as write:
        for row in rows:
            write([row])
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))
    assert table == [
        ["path", "class", "probability", "p_=x", "p_b,c", "error"],
        ["a.jpg", "'=x", "0.750000", "0.750000", "0.250000", ""],
        ["\\udcff\\n.jpg", "", "", "", "", "truncated"],
    ]


ROWS = (
    {"path": "a.jpg", "class": "x", "probability": 0.75, "probabilities": {"x": 0.75, "y": 0.25}},
    {"path": os.fsdecode(b"\xff.jpg"), "error": "truncated"},
    {"path": "b.jpg", "class": "y", "probability": 0.5, "probabilities": {"y": 0.5, "x": 0.5}},
)


def test_the_table_of_the_most_probable_classes(tmp_path: Path) -> None:
    with csv_rows(tmp_path / "out.csv", ["x", "y", "z"], 2) as write:
        write(ROWS)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.reader(stream))
    assert table == [
        ["path", "class", "probability", "class_2", "probability_2", "error"],
        ["a.jpg", "x", "0.750000", "y", "0.250000", ""],
        ["\\udcff.jpg", "", "", "", "", "truncated"],
        ["b.jpg", "y", "0.500000", "x", "0.500000", ""],
    ]


@pytest.mark.parametrize("rows", [(), ROWS[:1], ROWS[1:2], ROWS])
def test_a_document_of_json(tmp_path: Path, rows: tuple[dict[str, object], ...]) -> None:
    with json_rows(tmp_path / "out.json", {"classes": ["x", "y"]}) as write:
        for row in rows:
            write([row])
            assert not (tmp_path / "out.json").exists(), "it appears whole"
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert content == {
        "classes": ["x", "y"],
        "predictions": [row for row in rows if "error" not in row],
        "skipped": [row for row in rows if "error" in row],
    }


def test_lines_of_json_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with json_lines(path) as write:
        for number in (1, 3):
            write(ROWS[:number] if number == 1 else ROWS[1:])
            text = path.read_text(encoding="utf-8")
            assert text.endswith("\n")
            assert [json.loads(line) for line in text.splitlines()] == list(ROWS[:number])


def test_the_lines_of_a_batch_are_one_call_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            calls.append(len(data))
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Counted(path, mode))
    with json_lines(tmp_path / "out.jsonl") as write:
        write(ROWS)
    assert calls == [(tmp_path / "out.jsonl").stat().st_size]


def test_lines_that_are_taken_in_pieces_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data[:7]))

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Narrow(path, mode))
    with json_lines(tmp_path / "out.jsonl") as write:
        write(ROWS)
    monkeypatch.undo()
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list(ROWS)


def test_a_full_disk_is_told() -> None:
    with (
        pytest.raises(UserError, match="no space left while writing /dev/full"),
        json_lines(Path("/dev/full")) as write,
    ):
        write(ROWS[:1])


def test_a_file_of_lines_that_another_prediction_writes_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with json_lines(path) as write:
        write(ROWS[:1])
        with pytest.raises(UserError, match=r"out\.jsonl: .* writes it\. Choose another file"), json_lines(path):
            pytest.fail("it began")
        write(ROWS[1:])
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(ROWS)
    with json_lines(path) as write:  # a later one begins the file again
        write(ROWS[:1])
    assert len(path.read_text().splitlines()) == 1


def test_of_two_predictions_to_one_table_the_later_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with csv_rows(path, ["x", "y"], None) as first, csv_rows(path, ["x", "y"], None) as second:
        first(ROWS[:1])
        second(ROWS[1:])
        first(ROWS[:1])
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert [row["path"] for row in rows] == ["a.jpg", "a.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_lines_go_into_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with json_lines(path) as write:
            write(ROWS)
        assert len(os.read(reader, 10_000).splitlines()) == 3
    finally:
        os.close(reader)
