"""The layout of photos in words, by names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.inspection.listed import list_photos, tables_beside
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_files
from tests.data.shards.tars import samples, write_tar

PHOTO = jpeg(1)


def write_names(root: Path, *names: str) -> Path:
    return write_files(root, dict.fromkeys(names, PHOTO))


@pytest.mark.parametrize(
    ("names", "layout", "splits"),
    [
        (["cat/1.jpg", "dog/1.jpg"], "a folder for each class, not split", ()),
        (
            ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/1.jpg"],
            "a folder for each class in train/, val/",
            ("train", "val"),
        ),
        (  # Kaggle's habit
            ["Training/cat/1.jpg", "Training/dog/1.jpg", "Testing/cat/1.jpg", "Testing/dog/1.jpg"],
            "a folder for each class in Training/ (train), Testing/ (test)",
            ("train", "test"),
        ),
        (  # Roboflow's habit
            ["train/cat/1.jpg", "train/dog/1.jpg", "valid/cat/1.jpg", "test/dog/1.jpg"],
            "a folder for each class in train/, valid/ (val), test/",
            ("train", "val", "test"),
        ),
        (
            ["x/seg_train/seg_train/cat/1.jpg", "x/seg_train/seg_train/dog/1.jpg", "x/seg_test/seg_test/cat/1.jpg"],
            "a folder for each class in x/seg_train/seg_train/ (train), x/seg_test/seg_test/ (test)",
            ("train", "test"),
        ),
        (
            ["train_signs/3_IMG_1.jpg", "train_signs/0_IMG_2.jpg", "test_signs/3_IMG_3.jpg"],
            "labels in names such as 0_IMG_2.jpg in train_signs/ (train), test_signs/ (test)",
            ("train", "test"),
        ),
    ],
)
def test_layouts(tmp_path: Path, names: list[str], layout: str, splits: tuple[str, ...]) -> None:
    found = list_photos(write_names(tmp_path, *names))
    assert (found.kind, found.layout, found.splits) == ("folder", layout, splits)
    assert {photo.class_name for photo in found.photos} <= {"cat", "dog", "0", "3"}


def test_a_table_and_a_folder_with_hugging_faces_table(tmp_path: Path) -> None:
    write_names(tmp_path, "photos/1.jpg", "photos/2.jpg", "photos/3.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("file,kind,split\nphotos/1.jpg,cat,train\nphotos/2.jpg,dog,train\nphotos/3.jpg,cat,val\n")
    found = list_photos(table, DataConfig.model_validate({"columns": {"label": "kind"}}))
    assert (found.kind, found.layout, found.root) == (
        "table",
        "a table of paths and classes, with train, val",
        tmp_path,
    )
    assert (found.photos[0].path, found.photos[0].class_name) == ("photos/1.jpg", "cat")
    with found.open_reader() as reader:
        assert reader.read("photos/1.jpg") == tmp_path / "photos/1.jpg"
    lines = "".join(f'{{"file_name": "{n}.jpg", "label": "{c}"}}\n' for n, c in ((1, "cat"), (2, "dog"), (3, "cat")))
    (tmp_path / "photos/metadata.jsonl").write_text(lines)
    found = list_photos(tmp_path / "photos")
    assert (found.kind, found.layout, len(found.photos)) == ("folder", "classes from a table in it, not split", 3)


def test_class_folders_are_read_before_a_table_beside_them(tmp_path: Path) -> None:
    write_names(tmp_path, *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in ("cat", "dog")))
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain/cat/1.jpg,a cat\n")
    found = list_photos(tmp_path)
    assert (found.layout, found.splits) == ("a folder for each class in train/, val/", ("train", "val"))
    assert {photo.class_name for photo in found.photos} == {"cat", "dog"}
    assert found.tables == ("metadata.csv",)


def test_labels_and_groups_by_patterns(tmp_path: Path) -> None:
    write_names(tmp_path, "ann.cat.1.jpg", "bob.cat.1.jpg", "bob.dog.1.jpg")
    config = DataConfig(label_pattern=r"\.([a-z]+)\.", group_pattern=r"^([a-z]+)\.")
    found = list_photos(tmp_path, config)
    assert [(photo.class_name, photo.group) for photo in found.photos] == [
        ("cat", "ann"),
        ("cat", "bob"),
        ("dog", "bob"),
    ]
    assert found.layout == "classes from data.label_pattern, not split"


def test_tables_beside_photos_are_named(tmp_path: Path) -> None:
    names = ("train/cat/1.jpg", "train/dog/1.jpg", "valid/cat/1.jpg")
    files = {"train/_classes.csv": b"filename,cat,dog\n", "notes.csv": b"x", "@eaDir/a.csv": b"x"}
    found = list_photos(write_files(tmp_path, dict.fromkeys(names, PHOTO) | files))
    assert found.tables == ("notes.csv", "train/_classes.csv")


def test_photos_without_classes_beside_a_table_say_what_to_type(tmp_path: Path) -> None:
    """As Kaggle's competitions come: train.csv, and train/ and test/ without folders of classes."""
    write_names(tmp_path, "train/a.jpg", "train/b.jpg", "test/c.jpg")
    (tmp_path / "train.csv").write_text("id,label\na,cat\nb,dog\n")
    found = list_photos(tmp_path)
    assert len(found.bad_names) == 3
    assert found.tables == ("train.csv",)
    write_names(tmp_path, "other/d.jpg")
    with pytest.raises(UserError, match=r"has tables \(train.csv\).* type: python -m signs_dist.inspect .*train.csv"):
        list_photos(tmp_path)


def test_what_names_alone_say_of_classes(tmp_path: Path) -> None:
    found = list_photos(write_names(tmp_path, "Cat/1.jpg", "cat/1.jpg", "dog/1.jpg", ".hidden/x.jpg"))
    assert len(found.name_notes) == 1
    assert "'Cat' and 'cat' differ only in case" in found.name_notes[0]
    assert found.notes == ("passed over: 1 file or folder of other programs (.hidden/)",)


def test_tar_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", samples(("a", 0), ("b", 1)))
    write_tar(tmp_path / "train-000001.tar", [*samples(("c", 0)), ("c.json", b"{}")])
    write_tar(tmp_path / "val-000000.tar", samples(("d", 0), ("e", 1)))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = list_photos(tmp_path)
    assert (found.kind, found.layout, found.splits) == ("shards", "3 tar shards, with train, val", ("train", "val"))
    assert [(photo.path, photo.class_name) for photo in found.photos][:2] == [
        ("train-000000.tar/a.png", "cat"),
        ("train-000000.tar/b.png", "dog"),
    ]
    assert found.notes == ("passed over in the shards: 1 .json",)
    with found.open_reader() as reader:
        assert reader.read("val-000000.tar/e.png") == samples(("d", 0), ("e", 1))[2][1]


def test_of_several_tables_that_of_the_classes_is_first(tmp_path: Path) -> None:
    for name in ("sample_submission.csv", "sampleSubmission.csv", "test.csv", "train.csv", "info.csv"):
        (tmp_path / name).write_text("id,label")
    found = tables_beside(tmp_path)
    assert found == ["train.csv", "info.csv", "sampleSubmission.csv", "sample_submission.csv", "test.csv"]


def test_columns_are_refused_where_there_is_no_table(tmp_path: Path) -> None:
    write_names(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    config = DataConfig.model_validate({"columns": {"label": "kind"}})
    with pytest.raises(UserError, match=r"data.columns.label is a column of a table, and .*photos has none"):
        list_photos(tmp_path / "photos", config)
