"""Names without folder or suffix, found among files."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.sources.finding import match_files, missing_rows
from tests.data.photo_files import write_files


@pytest.mark.parametrize(
    ("wanted", "images", "places"),
    [
        (["a", "b"], ["train/a.jpg", "train/b.jpg"], ["train/a.jpg", "train/b.jpg"]),
        (["a.jpg"], ["x/y/a.jpg", "x/aa.jpg"], ["x/y/a.jpg"]),
        (["cat/a"], ["in/cat/a.JPEG", "in/dog/a.jpg", "cat.jpg"], ["in/cat/a.JPEG"]),
        (["a", "b"], ["1/a.jpg", "2/b.png"], ["1/a.jpg", "2/b.png"]),
        # one folder and suffix fit all: the folder of another set fits some alone
        (["a", "b"], ["test/a.jpg", "train/a.jpg", "train/b.jpg"], ["train/a.jpg", "train/b.jpg"]),
        (["a.b"], ["train/a.b.jpg"], ["train/a.b.jpg"]),
        (["a"], ["train/a"], ["train/a"]),
    ],
)
def test_names_are_found(wanted: list[str], images: list[str], places: list[str]) -> None:
    assert match_files(wanted, images).place_of == dict(zip(wanted, places, strict=True))


def test_names_in_several_places_or_in_none() -> None:
    found = match_files(["a", "b", "c"], ["1/a.jpg", "2/a.jpg", "1/b.jpg", "2/cc.jpg", "1/c.txt"])
    assert (found.place_of, found.several) == ({"b": "1/b.jpg"}, {"a": ("1/a.jpg", "2/a.jpg")})


def test_rows_without_a_file(tmp_path: Path) -> None:
    write_files(tmp_path, {f"in/{number}.jpg": b"x" for number in range(100)} | {"a.jpg": b"x"})
    names = [f"in/{number}.jpg" for number in range(101)] + ["a.jpg", str(tmp_path / "a.jpg"), "no/a.jpg"]
    assert missing_rows(names, tmp_path) == [100, 103]
