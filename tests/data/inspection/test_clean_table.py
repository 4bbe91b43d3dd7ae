"""The table lists what can be used, where the photos lie, and keeps together what belongs together."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from signs_dist.data.inspection.clean_table import TableRow, clean_rows, path_from, reasons_for_table, table_text
from tests.data.inspection.made import counted, made

PLAIN = counted(cat=3, dog=3)
NEAR = {"difference_hash": 5, "thumb": bytes(range(256))}


def test_plain_photos_need_no_table() -> None:
    assert reasons_for_table(made(PLAIN)) == []
    copies = {path: {} for path in PLAIN} | {"cat/1.jpg": {"digest": "x"}, "cat/2.jpg": {"digest": "x"}}
    assert reasons_for_table(made(copies)) == []  # a division keeps copies of a file on one side by itself


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"cat/1.jpg": {"reason": "empty"}}, "it leaves out what cannot be read or has no class (1)"),
        ({"cat/1.jpg": {"digest": "x"}, "dog/1.jpg": {"digest": "x"}}, "it leaves out what is in two classes (2)"),
        ({"cat/1.jpg": NEAR, "cat/2.jpg": NEAR | {"difference_hash": 4}}, "it keeps nearly equal photos on one side"),
    ],
)
def test_why_a_table_is_needed(changed: dict[str, dict[str, object]], reason: str) -> None:
    found = made({path: {} for path in PLAIN} | changed)
    assert reasons_for_table(found) == [reason]
    left_out = {path for path, facts in changed.items() if "reason" in facts or "digest" in facts}
    assert {row.path for row in clean_rows(found)} == set(PLAIN) - left_out


def test_copies_have_one_group_and_others_each_their_own() -> None:
    near = {"cat/1.jpg": NEAR, "cat/2.jpg": NEAR | {"difference_hash": 4}}
    rows = {row.path: row for row in clean_rows(made({path: {} for path in PLAIN} | near))}
    assert rows["cat/1.jpg"].group == rows["cat/2.jpg"].group == "copies 1"
    assert rows["dog/1.jpg"] == TableRow("dog/1.jpg", "dog", None, "dog/1.jpg")
    assert len({row.group for row in rows.values()}) == 5
    assert all(row.group is None for row in clean_rows(made(PLAIN)))


def test_a_split_with_val_keeps_its_splits_and_has_no_groups() -> None:
    paths = [f"{split}/{name}/1.jpg" for split in ("train", "val") for name in ("cat", "dog")]
    rows = clean_rows(made({path: {} for path in paths} | {"val/cat/1.jpg": NEAR, "val/dog/1.jpg": {"reason": "x"}}))
    assert [(row.split, row.group) for row in rows] == [("train", None), ("train", None), ("val", None)]


def test_the_text_has_the_columns_that_are_used(tmp_path: Path) -> None:
    rows = [TableRow("a, b/1.jpg", "a, b", "train"), TableRow('é "x"/2.jpg', 'é "x"', "val")]
    text = table_text(rows, tmp_path / "photos", tmp_path)
    assert list(csv.reader(io.StringIO(text))) == [
        ["path", "label", "split"],
        ["photos/a, b/1.jpg", "a, b", "train"],
        ['photos/é "x"/2.jpg', 'é "x"', "val"],
    ]
    assert table_text([TableRow("1.jpg", "cat")], tmp_path, tmp_path) == "path,label\n1.jpg,cat\n"


@pytest.mark.parametrize(
    ("folder", "target", "expected"),
    [
        ("/data", "/data/photos", "photos"),
        ("/data", "/data", "."),
        ("/data/configs", "/data/photos", "/data/photos"),
        ("/data", "/data/x/../photos", "photos"),
    ],
)
def test_paths_are_relative_only_downwards(folder: str, target: str, expected: str) -> None:
    assert path_from(Path(folder), Path(target)) == expected
