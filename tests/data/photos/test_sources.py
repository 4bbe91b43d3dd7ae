from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, arrange, list_source
from signs_dist.errors import UserError
from tests.data.photo_files import write_files, write_zip

CAT_AND_DOG = [(None, "cat", "cat/a.png"), (None, "dog", "dog/b.png")]
CAT_TRAIN_DOG_VAL = [("train", "cat", "cat/a.png"), ("val", "dog", "dog/x/b.png")]


def arranged(*names: str) -> Arrangement:
    return arrange([SourceFile(name, 1, "") for name in names], Path("photos"))


@pytest.mark.parametrize(
    ("names", "layout", "found"),
    [
        (["train_signs/0_a.jpg", "test_signs/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("test", "1", "1_b.jpg")]),
        (["S/train/0_a.jpg", "S/val/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("val", "1", "1_b.jpg")]),
        (["train/cat/a.png", "val/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["cat/a.png", "dog/b.png"], "class_folders", CAT_AND_DOG),
        (["pets/cat/a.png", "pets/dog/b.png"], "class_folders", CAT_AND_DOG),
        (["0_a.png", "1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
        (["all/0_a.png", "all/1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
    ],
)
def test_layouts(names: list[str], layout: str, found: list[tuple[str | None, str, str]]) -> None:
    arrangement = arranged(*names)
    assert arrangement.layout == layout
    assert [(image.split, image.class_name, image.name) for image in arrangement.images] == found


def test_bad_names_and_images_outside_are_told_apart() -> None:
    arrangement = arranged("train_signs/0_a.jpg", "train_signs/x.jpg", "train_signs/1_\udcff.jpg", "cover.jpg")
    assert [image.name for image in arrangement.images] == ["0_a.jpg"]
    assert [path for path, _ in arrangement.bad_names] == ["train_signs/1_\\udcff.jpg", "train_signs/x.jpg"]
    assert arrangement.outside == ("cover.jpg",)
    assert arranged("0_at 9.41\u202fPM.png").images  # the narrow space of macOS screenshots


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["test_signs/0_a.jpg"], "has test_signs/ but no training images"),
        (["train/0_a.jpg", "train_signs/0_a.jpg"], "has both train/ and train_signs/ for train"),
        (["train/0_a.jpg", "train/cat/a.jpg"], "Use one layout"),
        (["a/train/0_a.jpg", "b/train/0_a.jpg"], "holds several data sets: a, b"),
    ],
)
def test_sources_that_are_no_data_set(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(*names)


def test_side_files_are_passed_over(tmp_path: Path) -> None:
    names = ["train/0_a.jpg", "train/._0_a.jpg", "__MACOSX/train/0_a.jpg", "train/.DS_Store", "Thumbs.db", ".x/0_a.jpg"]
    files = dict.fromkeys(names, b"x")
    assert [file.path for file in list_source(write_files(tmp_path / "f", files))] == ["train/0_a.jpg"]
    assert [file.path for file in list_source(write_zip(tmp_path / "z.zip", files))] == ["train/0_a.jpg"]


def test_link_loop_and_dangling_link_in_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"train/cat/a.jpg": b"x"})
    (tmp_path / "train/cat/loop").symlink_to(tmp_path)
    (tmp_path / "train/cat/gone.jpg").symlink_to(tmp_path / "nowhere")
    assert sorted(file.path for file in list_source(tmp_path)) == ["train/cat/a.jpg", "train/cat/gone.jpg"]


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no zip or folder .*none.zip. Give SIGNS.zip"):
        list_source(tmp_path / "none.zip")
