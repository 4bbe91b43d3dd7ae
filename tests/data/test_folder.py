from __future__ import annotations

import shutil
from pathlib import Path

import numpy
import pytest

from signs_dist.data.dataset import SignsDataset
from signs_dist.data.folder import has_split, index_data_set, index_split
from signs_dist.errors import UserError
from tests.data.photo_files import write_files, write_zip


def touch(root: Path, *names: str) -> Path:
    return write_files(root, dict.fromkeys(names, b""))


def test_real_photos(real_photos: Path) -> None:
    splits = index_data_set(real_photos)
    assert list(splits) == ["train", "val"]
    assert splits["train"].count_per_class() == {"0": 141, "1": 146, "2": 142, "3": 142, "4": 144, "5": 149}
    assert list(splits["val"].count_per_class().values()) == [39, 34, 38, 38, 36, 31]
    assert len(splits["val"]) == 216


def test_flat_layout_sorts_paths_as_text_and_labels_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "train_signs/10_b.jpg", "train_signs/2_a.JPG", "train_signs/.hidden.jpg", "train_signs/notes.txt")
    touch(tmp_path, "val_signs/10_c (1).png", "val_signs/2_c.jpg")
    splits = index_data_set(tmp_path)
    assert splits["train"].classes == ("2", "10")
    assert splits["train"].paths == ("train_signs/10_b.jpg", "train_signs/2_a.JPG")
    assert splits["train"].labels.tolist() == [1, 0]
    assert splits["train"].labels.dtype == numpy.int64
    assert splits["val"].labels.tolist() == [1, 0]


def test_class_folders_as_image_folder_reads_them(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.jpg", "train/cat/deep/er/b.png", "train/dog/c.webp", "train/readme.txt")
    touch(tmp_path, "validation/cat/d.jpg", "validation/dog/e.jpg", "test/dog/f.jpg", "train/.cache/x.jpg")
    splits = index_data_set(tmp_path)
    assert splits["train"].classes == ("cat", "dog")
    assert splits["train"].paths == ("train/cat/a.jpg", "train/cat/deep/er/b.png", "train/dog/c.webp")
    assert splits["test"].labels.tolist() == [1]
    from torchvision.datasets import ImageFolder

    shutil.rmtree(tmp_path / "train/.cache")  # which ImageFolder takes for a class
    assert ImageFolder(str(tmp_path / "train")).samples == SignsDataset(tmp_path).samples


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train_signs/0_a.jpg", "train_signs/1_a.jpg"], "has no val images"),
        (["train_signs/0_a.jpg", "train_signs/1_a.jpg", "val_signs/0_a.jpg"], "no image of class 1, which train has"),
        (["train_signs/0_a.jpg", "train_signs/1_a.jpg", "val_signs/7_a.jpg"], "class 7 is not among the classes 0, 1"),
        (["train_signs/0_a.jpg", "train_signs/x.jpg"], "no label in the name of x.jpg"),
        (["train_signs/0_a.jpg", "val_signs/0_a.jpg"], "single class '0'"),
        (["train_signs/notes.txt"], "holds no images"),
        (["train_signs/0_a.jpg", "train_signs/cat/b.jpg"], "Use one layout"),
        (["train_signs/0_a.jpg", "train/0_a.jpg"], "has both train_signs/ and train/"),
        (["cat/a.jpg", "dog/b.jpg"], "class folders that are not split yet: build .*signs_dist.data.build --source"),
        (["0_a.jpg"], "photos that are not split yet: build .*signs_dist.data.build --source"),
        (["SIGNS.zip"], "It has a zip: build .*--source .*SIGNS.zip"),
        (["SIGNS/train_signs/0_a.jpg"], "but .*SIGNS has one. Give .*SIGNS, or build"),
        (["notes.txt"], "Give the folder that holds train_signs/"),
    ],
)
def test_wrong_folders_say_what_is_wrong_and_what_to_do(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        index_data_set(touch(tmp_path, *names))


def test_missing_root_zip_and_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*none.*signs_dist.data.build --source SIGNS.zip --out"):
        index_data_set(tmp_path / "none")
    with pytest.raises(UserError, match="is a zip, not a folder of images"):
        index_data_set(write_zip(tmp_path / "a.zip", {}))
    with pytest.raises(UserError, match="is not a folder"):
        index_data_set(touch(tmp_path, "file.txt") / "file.txt")
    with pytest.raises(UserError, match=r"there is no split 'dev'. Choose one of train, val, test"):
        index_split(tmp_path, "dev")


def test_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg")
    (tmp_path / "train/cat/loop").symlink_to(tmp_path / "train")
    assert index_split(tmp_path, "train").paths == ("train/cat/a.jpg", "train/dog/b.jpg")


def test_classes_of_a_trained_model_rule(tmp_path: Path) -> None:
    touch(tmp_path, "test_signs/1_a.jpg")
    assert has_split(tmp_path, "test")
    assert not has_split(tmp_path, "train")
    assert index_split(tmp_path, "test", classes=["0", "1", "2"]).labels.tolist() == [1]
    with pytest.raises(UserError, match="class 1 is not among the classes 0, 2"):
        index_split(tmp_path, "test", classes=["0", "2"])
