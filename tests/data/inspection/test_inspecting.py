"""Photos are compared, and counted."""

from __future__ import annotations

from pathlib import Path

from signs_dist.data.inspection.inspecting import inspect_photos
from tests.data.inspection.made import made
from tests.data.photo_files import encoded, jpeg, photo, write_files, write_zip


def test_copies_and_near_copies_by_splits_and_classes(tmp_path: Path) -> None:
    files = {
        f"{split}/{name}/{i}.jpg": jpeg(hash_of(split, name, i), 64)
        for split in ("train", "val")
        for name in "ab"
        for i in range(3)
    }
    files["val/a/copy.png"] = encoded(photo(900, 64), "PNG")
    files["train/a/original.bmp"] = encoded(photo(900, 64), "BMP")
    files["val/b/again.jpg"] = encoded(photo(901, 64), "JPEG", quality=70)
    files["train/b/once.png"] = encoded(photo(901, 64), "PNG")
    files["train/a/one.png"] = encoded(photo(902, 64), "PNG")
    files["train/b/one.jpg"] = encoded(photo(902, 64), "JPEG", quality=70)
    files["train/b/bad.jpg"] = b""
    found = inspect_photos(write_files(tmp_path, files), processes=1)
    assert found.counts == {"train": {"a": 5, "b": 5}, "val": {"a": 4, "b": 4}}
    assert found.duplicates.across == (("train/a/original.bmp", "val/a/copy.png"),)
    assert found.near.across == (("train/b/once.png", "val/b/again.jpg"),)
    assert found.near.conflicting == (("train/a/one.png", "train/b/one.jpg"),)
    assert [file.path for file in found.bad] == ["train/b/bad.jpg"]
    assert (found.missing, found.single) == ((), ())


def hash_of(split: str, name: str, number: int) -> int:
    return 100 * len(split) + 10 * ord(name) + number


def test_a_zip_is_read_as_a_folder_is(tmp_path: Path) -> None:
    files = {f"{name}/{i}.jpg": jpeg(10 * ord(name) + i) for name in "ab" for i in range(2)}
    found = inspect_photos(write_zip(tmp_path / "photos.zip", files), processes=1)
    assert found.listed.kind == "zip"
    assert found.class_counts() == {"a": 2, "b": 2}


def test_copies_of_one_photo_count_once_for_a_class() -> None:
    assert made({"a/1.jpg": {"digest": "x"}, "a/2.jpg": {"digest": "x"}, "b/1.jpg": {}, "b/2.jpg": {}}).single == ("a",)
    assert made(["train/a/1.jpg", "val/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg"]).single == ()


def test_a_split_that_lacks_a_class() -> None:
    assert made(["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"]).missing == (("val", "b"),)
