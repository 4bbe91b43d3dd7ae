from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.folder import index_split
from signs_dist.data.listing import Listing, list_images
from signs_dist.data.split_classes import classes_of_names, inner_folder
from signs_dist.errors import UserError
from tests.data.photo_files import write_files


def listed(tmp_path: Path, *paths: str) -> Listing:
    return list_images(write_files(tmp_path, dict.fromkeys(paths, b"")))


@pytest.mark.parametrize(
    ("paths", "top"),
    [
        (["cat/0.jpg", "dog/0.jpg"], ""),
        (["cat/0.jpg"], ""),
        (["train/cat/0.jpg", "train/dog/0.jpg"], "train/"),
        (["images/cat/0.jpg", "images/dog/0.jpg"], "images/"),
        (["images/3_a.jpg", "images/4_a.jpg"], "images/"),
        (["images/3_a.jpg", "images/a.jpg"], ""),
        (["images/3_a.jpg", "images/deep/a.jpg"], "images/"),
        (["images/cat/0.jpg", "3_0.jpg"], ""),
        (["images/cat/0.jpg", "images2/0.jpg"], ""),
    ],
)
def test_the_folder_around_the_classes(tmp_path: Path, paths: list[str], top: str) -> None:
    assert inner_folder(listed(tmp_path, *paths), "train", None) == top


def test_a_folder_that_is_a_class_is_none_around_them(tmp_path: Path) -> None:
    assert inner_folder(listed(tmp_path, "images/a/0.jpg"), "train", ("images",)) == ""


def test_classes_of_names(tmp_path: Path) -> None:
    names = ("3_a.jpg", "03_b.jpg", "12_c.jpg", "20240501_1.jpg", "3.jpg", "cat.jpg")
    listing = listed(tmp_path, *names)
    found, unlabelled = classes_of_names(listing, "")
    assert unlabelled == ["20240501_1.jpg", "3.jpg", "cat.jpg"]
    of_path = dict(zip(listing.images, (found.names[number] for number in found.name_of), strict=True))
    assert [of_path[name] for name in names[:3]] == ["3", "3", "12"]


def test_two_spellings_of_a_class_are_one_and_in_one_order(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    paths = (f"train/{composed}/1.jpg", f"train/{decomposed}/0.jpg", "train/cafe/2.jpg", "train/z/3.jpg")
    write_files(tmp_path, {path: path.encode() for path in paths})
    index = index_split(tmp_path, "train")
    assert index.classes == ("cafe", composed, "z")
    assert [path[-5] for path in index.paths] == ["2", "0", "1", "3"]
    assert index.labels.tolist() == [0, 1, 1, 2]


def test_the_first_image_of_an_unknown_class_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, dict.fromkeys(["val/cat/0.jpg", "val/eel/0.jpg", "val/eel/1.jpg", "val/fox/0.jpg"], b""))
    with pytest.raises(UserError, match=r"class eel, fox is not among the classes cat \(3 images, such as eel/0\.jpg"):
        index_split(tmp_path, "val", classes=["cat"])
