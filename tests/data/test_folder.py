from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy
import pytest

from signs_dist.data.dataset import SignsDataset
from signs_dist.data.folder import has_split, index_data_set, index_split, set_notes
from signs_dist.data.names import label_of_name
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_files, write_zip


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


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("3_IMG_1.jpg", "3"), ("007_a.jpg", "7"), ("2024_a.jpg", "2024"), ("123456789_a.jpg", "123456789")),
        *(("20245001_a.jpg", "20245001"), ("IMG_3.jpg", None), ("3.jpg", None), ("3d_a.jpg", None), ("-1_a.jpg", None)),
        # what cameras and phones write: a date, a date and a time, seconds and milliseconds since 1970
        *(("20240501_123456.jpg", None), ("20240501123456_a.jpg", None)),
        *(("1714557296_a.jpg", None), ("1714557296123_a.jpg", None)),
    ],
)
def test_labels_in_names(name: str, label: str | None) -> None:
    assert label_of_name(name) == label


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
        (["train_signs/0_a.jpg", "train/0_a.jpg"], "has both train/ and train_signs/ for train. Keep one"),
        (["cat/a.jpg", "dog/b.jpg"], "class folders that are not split. Training divides them: .*train data.root="),
        (["0_a.jpg"], "photos that are not split. Training divides them: .*train data.root="),
        (["SIGNS.zip"], "It has a zip: build .*--source .*SIGNS.zip"),
        (["SIGNS/train_signs/0_a.jpg"], "but .*SIGNS has one. Give .*SIGNS, or build"),
        (["notes.txt"], "Give the folder that holds train_signs/"),
        (["a/train/0_a.jpg", "b/train/0_a.jpg"], "but a, b have one. Give one of them, or build .*--source"),
    ],
)
def test_wrong_folders_say_what_is_wrong_and_what_to_do(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        index_data_set(touch(tmp_path, *names))


def test_missing_root_zip_and_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*none.*signs_dist.data.build --source PHOTOS --out"):
        index_data_set(tmp_path / "none")
    with pytest.raises(UserError, match="is a zip, not a folder of images"):
        index_data_set(write_zip(tmp_path / "a.zip", {}))
    with pytest.raises(
        UserError, match=r"there is no folder .*64x64_SIGNS.*signs_dist.data.build --source SIGNS.zip --out"
    ):
        index_data_set(tmp_path / "64x64_SIGNS")
    with pytest.raises(UserError, match=r"there is no folder .*photoz. Did you mean .*photos\?"):
        index_data_set(touch(tmp_path, "photos/train/cat/a.jpg") / "photoz")
    with pytest.raises(UserError, match="is a CSV table, not a folder"):
        index_data_set(touch(tmp_path, "labels.csv") / "labels.csv")
    with pytest.raises(UserError, match="is a text file, not a folder"):
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


NFC, NFD = "caf\u00e9", "cafe\u0301"
BOTH = ("cat/a.jpg", "dog/b.jpg")


def write_split_set(root: Path, train: str, val: str, classes: tuple[str, ...] = BOTH) -> Path:
    return touch(root, *(f"{split}/{name}" for split in (train, val) for name in classes))


@pytest.mark.parametrize(
    ("train", "val"),
    [
        *(("train", "valid"), ("Train", "Valid"), ("TRAIN", "VAL"), ("training", "validation"), ("trains", "vals")),
        *(
            ("train_set", "val_set"),
            ("train", "dev"),
            ("train", "eval"),
            ("train", "holdout"),
            ("train2017", "val2017"),
        ),
        *(("seg_train/seg_train", "seg_val/seg_val"), ("train-images", "dev images"), ("Training Data", "Evaluation")),
    ],
)
def test_known_names_of_splits_are_read_in_place(train: str, val: str, tmp_path: Path) -> None:
    splits = index_data_set(write_split_set(tmp_path, train, val))
    assert splits["train"].paths == tuple(f"{train}/{name}" for name in BOTH)
    assert splits["val"].paths == tuple(f"{val}/{name}" for name in BOTH)
    assert set_notes(tmp_path, splits) == ()


@pytest.mark.parametrize("folder", ["test/", "test_images/", "test/unknown/"])
def test_a_test_split_without_labels_is_not_used_and_named(folder: str, tmp_path: Path) -> None:
    names = [f"{split}/{name}/0.jpg" for split in ("train", "val") for name in ("cat", "dog")]
    root = touch(tmp_path, *names, f"{folder}1.jpg", f"{folder}2.jpg")
    splits = index_data_set(root)
    assert list(splits) == ["train", "val"]
    assert set_notes(root, splits) == (f"not used: {folder.partition('/')[0]}/, whose 2 images have no labels",)


def test_a_test_split_with_a_class_that_train_lacks_is_refused(tmp_path: Path) -> None:
    names = [f"{split}/{name}/0.jpg" for split in ("train", "val") for name in ("cat", "dog")]
    with pytest.raises(UserError, match="class owl is not among the classes cat, dog"):
        index_data_set(touch(tmp_path, *names, "test/owl/1.jpg", "test/cat/2.jpg"))


def test_two_folders_for_one_split_are_refused_by_name(tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "valid")
    with pytest.raises(UserError, match=r"has both dev/ and valid/ for val. Keep one: rename or move the other"):
        index_data_set(touch(tmp_path, "dev/cat/a.jpg"))


def test_what_lies_beside_the_splits_is_named(tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "val")
    touch(tmp_path, "extra/deep/x.jpg", "notes/x.txt", "cover.jpg", "train/bird/.DS_Store", "val/cat/list.txt")
    touch(tmp_path, "@eaDir/x.jpg", ".cache/x.jpg")
    assert set_notes(tmp_path, index_data_set(tmp_path)) == (
        "passed over: 1 file or folder of other programs (.DS_Store)",
        "passed over: 1 file without a readable image (val/cat/list.txt)",
        "outside the splits, and not used: extra/, photos that lie in no folder",
        "1 class folder without a file, and not used: train/bird",
    )


@pytest.mark.parametrize("name", ["x.txt", "x.xyz", "x.nef", "x.zip", "deep/er/x.svg"])
def test_a_class_folder_without_a_photo_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "val")
    with pytest.raises(UserError, match=r"train: the class folder bird/ has files, but no image that can be read"):
        index_data_set(touch(tmp_path, f"train/bird/{name}"))


@pytest.mark.parametrize("content_name", ["0.jfif", "0.avif", "IMG_0001", "0.dat"])
def test_a_class_of_files_with_odd_suffixes_is_a_class(content_name: str, tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "val")
    write_files(tmp_path, {f"{split}/bird/{content_name}": jpeg(1) for split in ("train", "val")})
    splits = index_data_set(tmp_path)
    assert splits["train"].classes == ("bird", "cat", "dog")
    assert splits["val"].count_per_class() == {"bird": 1, "cat": 1, "dog": 1}


def test_one_class_in_two_spellings_is_one_class(tmp_path: Path) -> None:
    touch(tmp_path / "both", f"train/{NFC}/b.jpg", f"train/{NFD}/a.jpg", "train/dog/c.jpg", f"val/{NFD}/d.jpg")
    touch(tmp_path / "both", "val/dog/e.jpg")
    splits = index_data_set(tmp_path / "both")
    assert splits["train"].classes == (NFC, "dog")
    assert splits["train"].labels.tolist() == [0, 0, 1]
    assert splits["train"].paths == (f"train/{NFD}/a.jpg", f"train/{NFC}/b.jpg", "train/dog/c.jpg")
    assert splits["val"].labels.tolist() == [0, 1]
    assert splits["train"].notes == (
        f"class {NFC}: folders with its name in two spellings (Unicode NFC and NFD) are one class",
    )


def test_a_class_in_one_spelling_keeps_it_and_is_found_by_the_other(tmp_path: Path) -> None:
    splits = index_data_set(
        touch(tmp_path, f"train/{NFD}/a.jpg", "train/dog/b.jpg", f"val/{NFC}/c.jpg", "val/dog/d.jpg")
    )
    assert splits["train"].classes == (NFD, "dog")
    assert splits["val"].labels.tolist() == [0, 1]
    assert index_split(tmp_path, "val", classes=["dog", NFC]).labels.tolist() == [1, 0]
    assert unicodedata.normalize("NFC", splits["val"].classes[0]) == NFC


def test_an_earlier_model_with_both_spellings_keeps_both(tmp_path: Path) -> None:
    touch(tmp_path, f"test/{NFD}/a.jpg")
    assert index_split(tmp_path, "test", classes=[NFC, NFD]).labels.tolist() == [1]


def test_names_of_classes_that_differ_only_in_case_are_two_classes_and_told(tmp_path: Path) -> None:
    splits = index_data_set(write_split_set(tmp_path, "train", "val", ("a/1.jpg", "A/1.jpg", "a /1.jpg")))
    assert splits["train"].classes == ("A", "a", "a ")
    assert "classes 'A' and 'a' and 'a ' differ only in case" in splits["train"].notes[0]


@pytest.mark.parametrize("name", ["ca\x1bt", "ca\nt", "ca\tt", "cat\udcff"])
def test_a_class_name_that_no_log_can_hold_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train: the class folder 'ca.*' has control characters in its name"):
        index_data_set(write_split_set(tmp_path, "train", "val", (f"{name}/a.jpg", "dog/a.jpg")))


@pytest.mark.parametrize("name", ["train", "Training", "train_images"])
def test_a_class_that_is_called_as_a_split_is_told(name: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{name}/1.jpg", "bus/2.jpg", "car/3.jpg")
    with pytest.raises(
        UserError, match=f"the folder {name}/ has the name of a split.* beside it are bus/, car/"
    ) as error:
        index_data_set(tmp_path)
    assert f"{tmp_path}/train/{name}/, {tmp_path}/train/bus/" in str(error.value)


def test_the_folder_of_one_split_is_told(tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "val")
    with pytest.raises(UserError, match=f"train is the folder of one split. Give the folder above, {tmp_path}"):
        index_data_set(tmp_path / "train")


def test_a_link_to_the_data_set_brings_no_photos_of_other_splits(tmp_path: Path) -> None:
    write_split_set(tmp_path, "train", "val")
    (tmp_path / "train/cat/up").symlink_to(tmp_path)
    assert index_split(tmp_path, "train").paths == ("train/cat/a.jpg", "train/dog/b.jpg")
