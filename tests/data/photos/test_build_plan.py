from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.build_plan import (
    BuildRequest,
    check_classes,
    default_out,
    jpeg_name,
    plan_images,
    planned_counts,
)
from signs_dist.data.photos.sources import arrange, list_source
from signs_dist.data.photos.split import published_split
from signs_dist.errors import UserError
from tests.data.photo_files import signs_files, write_files


def test_default_names(tmp_path: Path) -> None:
    signs = arrange(list_source(write_files(tmp_path / "a", signs_files(6))), tmp_path)
    pets = arrange(list_source(write_files(tmp_path / "b", {"cat/1.jpg": b"", "dog/1.jpg": b""})), tmp_path)
    assert default_out(tmp_path / "x.zip", 64, signs) == Path("data/64x64_SIGNS")
    assert default_out(tmp_path / "pets.zip", 96, pets) == Path("data/96x96_pets")


def test_train_is_divided_where_there_is_no_val() -> None:
    files = [SourceFile(f"train_signs/{i % 2}_{i:02d}.PNG", 1, "") for i in range(10)]
    plan = plan_images(arrange(files, Path("photos")), seed=230, val_share=0.2)
    assert {split: sum(row.values()) for split, row in planned_counts(plan).items()} == {"train": 8, "val": 2}
    _, val = published_split([f"{i % 2}_{i:02d}.PNG" for i in range(10)])
    assert [image.output for image in plan if image.split == "val"] == [
        f"val_signs/{name.replace('PNG', 'jpg')}" for name in val
    ]
    assert {image.output.partition("/")[0] for image in plan} == {"train_signs", "val_signs"}


def test_names_that_differ_in_case_alone_are_refused() -> None:
    files = [SourceFile(name, 1, "") for name in ("train/a/X.jpg", "train/a/x.jpg", "train/b/1.jpg", "val/a/1.jpg")]
    with pytest.raises(UserError, match=r"train/a/X.jpg and train/a/x.jpg would both become train/a/x.jpg. Rename one"):
        plan_images(arrange(files, Path("photos")), seed=0, val_share=0.2)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": {"a": 3}, "val": {"a": 1}}, "photos: all images are of the single class a."),
        (
            {"train": {"a": 3, "b": 0}, "val": {"a": 1, "b": 1}},
            "no training image of class b, which another split has.",
        ),
        ({"train": {"a": 3, "b": 4}, "val": {"a": 1, "b": 0}}, r"no val image of class b \(4 are in train\)."),
        ({"train": {"a": 3, "b": 4}}, "no images for val. Add images, or choose another --val-share."),
        ({}, "photos: no image can be used."),
    ],
)
def test_counts_that_cannot_be_trained_on(counts: dict[str, dict[str, int]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_classes(counts, Path("photos"))


def test_values_out_of_range_say_the_range() -> None:
    BuildRequest(Path("photos"), size=8, quality=100, processes=1024).check()
    with pytest.raises(UserError, match="--size 7 is not between 8 and 4096"):
        BuildRequest(Path("photos"), size=7).check()
    with pytest.raises(UserError, match=r"--val-share 1 is not between 0 and 1. The published share is 0.2"):
        BuildRequest(Path("photos"), val_share=1).check()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat/0.png", "cat/0.jpg"),
        ("cat/0.tar.JPG", "cat/0.tar.jpg"),
        ("cat/IMG_1", "cat/IMG_1.jpg"),
        ("my.cat/IMG_1", "my.cat/IMG_1.jpg"),
        ("cat/0.2024-01-01", "cat/0.2024-01-01.jpg"),
        ("3_IMG.jpeg", "3_IMG.jpg"),
    ],
)
def test_the_name_of_an_images_jpeg(name: str, expected: str) -> None:
    assert jpeg_name(name) == expected
