"""From the rows of a table to photos, and the messages on rows that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.sources.collection import Collection
from signs_dist.data.sources.table import read_photos
from signs_dist.errors import UserError
from tests.data.photo_files import write_files


def read(tmp_path: Path, text: str, *files: str, name: str = "t.csv", **settings: Any) -> Collection:
    write_files(tmp_path, dict.fromkeys(files, b"x") | {name: text.encode()})
    return read_photos(tmp_path / name, DataConfig.model_validate(settings))


def rows(collection: Collection) -> list[tuple[str, str, str | None]]:
    return [(photo.path, photo.class_name, photo.split) for photo in collection.photos]


FILES = ("a.jpg", "in/b.png", "in/c d.jpg")


def test_paths_relative_to_the_table_absolute_and_roundabout(tmp_path: Path) -> None:
    text = f"path,label\nin/c d.jpg,dog\n./a.jpg,cat\n{tmp_path}/in/../in//b.png,cat\n"
    found = read(tmp_path, text, *FILES)
    assert rows(found) == [("a.jpg", "cat", None), ("in/b.png", "cat", None), ("in/c d.jpg", "dog", None)]
    assert found.root == tmp_path
    assert found.notes == ("t.csv: path from path, label from label",)


def test_files_outside_the_folder_of_the_table(tmp_path: Path) -> None:
    write_files(tmp_path, dict.fromkeys(FILES, b"x"))
    text = f"path,label\n../a.jpg,cat\n{tmp_path}/in/b.png,dog\nx.jpg,dog\n"
    found = read(tmp_path / "lists", text, "x.jpg")
    assert found.root == tmp_path
    assert [(photo.path, photo.known_as) for photo in found.photos] == [
        ("a.jpg", "../a.jpg"),
        ("in/b.png", f"{tmp_path}/in/b.png"),  # a division keeps the name that the table gives
        ("lists/x.jpg", "x.jpg"),
    ]


def test_windows_paths_with_backslashes(tmp_path: Path) -> None:
    found = read(tmp_path, "path,label\nin\\b.png,cat\na.jpg,dog\n", *FILES)
    assert [photo.path for photo in found.photos] == ["a.jpg", "in/b.png"]
    assert "1 path with \\ read with / between folders" in found.notes


def test_splits_from_a_column_in_any_spelling(tmp_path: Path) -> None:
    text = "file,class,set\na.jpg,cat,Training\nin/b.png,cat,valid\nin/c d.jpg,dog,TEST\n"
    assert [split for _, _, split in rows(read(tmp_path, text, *FILES))] == ["train", "val", "test"]
    assert {split for *_, split in rows(read(tmp_path, text, columns={"split": ""}))} == {None}


def test_splits_from_the_first_folder_as_hugging_face_has_them(tmp_path: Path) -> None:
    text = '{"file_name": "train/1.jpg", "label": 0}\n{"file_name": "valid/2.jpg", "label": 0}\n'
    found = read(tmp_path, text, "train/1.jpg", "valid/2.jpg", name="metadata.jsonl")
    assert rows(found) == [("train/1.jpg", "0", "train"), ("valid/2.jpg", "0", "val")]
    assert "splits from the first folder of the paths: train, valid" in found.notes


def test_whole_numbers_that_pandas_wrote_with_a_fraction(tmp_path: Path) -> None:
    assert [row[1] for row in rows(read(tmp_path, "path,label\na.jpg,3.0\nin/b.png,10\n", *FILES))] == ["3", "10"]


def test_groups_from_a_column_or_a_pattern(tmp_path: Path) -> None:
    text = "path,label,patient\na.jpg,cat,7\nin/b.png,cat,8\n"
    given = read(tmp_path, text, *FILES, columns={"group": "patient"})
    assert [photo.group for photo in given.photos] == ["7", "8"]
    assert [photo.group for photo in read(tmp_path, text, group_pattern=r"(\w)\.").photos] == ["a", "b"]
    assert any("data.columns.group=patient" in note for note in read(tmp_path, text).notes)


def test_the_class_from_the_path(tmp_path: Path) -> None:
    found = read(tmp_path, "path\na.jpg\nin/b.png\n", *FILES, label_pattern=r"(\w)\.")
    assert [row[1] for row in rows(found)] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n", "names no image: it has no row below"),
        ("path,label\na.jpg,\nin/b.png,cat\n", r"t.csv:2: a.jpg has no class. Write a class into column label"),
        ("path,label\n,cat\n", r"t.csv:2: no path. Write the image's path, or remove the row"),
        ("path,label\na.jpg,cat\na.jpg,cat\n", r"t.csv:3: a.jpg is on line 2 too. Keep one of the rows"),
        ("path,label\na.jpg,cat\n\n./a.jpg,cat\n", r"t.csv:4: a.jpg is on line 2 too"),
        (
            "path,label\na.jpg,cat\na.jpg,dog\n",
            r"t.csv:3: a.jpg has class dog, and cat on line 2. An image has",
        ),
        (
            "path,label\nz.jpg,cat\na.jpg,dog\n",
            r"t.csv:2: there is no file .*/z.jpg. Paths are absolute, or",
        ),
        (
            "path,label\na,cat\nin/b.png,dog\n",
            r"t.csv:2: there is no file .*/a. There is a.jpg: write the paths",
        ),
        (
            "path,label\nb.png,cat\na.jpg,dog\n",
            r"there is no file .*b.png. There is in/b.png: write the paths",
        ),
        (
            "path,label\nC:\\in\\b.png,cat\na.jpg,dog\n",
            r"This is a path of Windows on another machine.",
        ),
        ("path,label\nhttps://x.org/a.jpg,cat\n", r"t.csv:2: https://x.org/a.jpg. An address is not read. Fetch the"),
        ("path,label\na.jpg,0.37\nin/b.png,1\n", r"t.csv:2: label is 0.37. Numbers with a fraction are no classes"),
        (
            "path,label,split\na.jpg,cat,train\nin/b.png,cat,x\n",
            r"t.csv:3: split is x, not train, val or test",
        ),
        ("path,label,split\na.jpg,cat,\n", r"split is empty, not train"),
        ("path,caption\na.jpg,x\n", r"no column with the images' classes"),
        (
            "path,label\na.jpg,1\nin/b.png,2\nin/c d.jpg,3\n",
            r"each of 3 images has a class of its own",
        ),
        ("path,label\na.jpg,c\x07t\n", r"the class 'c\\x07t' has control characters"),
    ],
)
def test_bad_rows_are_told_with_their_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, text, *FILES)


def test_names_without_folder_and_suffix_as_competitions_have_them(tmp_path: Path) -> None:
    files = ("train/0a.jpg", "train/1b.jpg", "test/1b.jpg")
    found = read(tmp_path, "id,breed\n0a,cat\n1b,dog\n", *files)
    assert rows(found) == [("train/0a.jpg", "cat", None), ("train/1b.jpg", "dog", None)]
    assert found.notes == (
        "t.csv: path from id, label from breed",
        "2 paths were found by the names of files, such as 0a as train/0a.jpg",
    )
    with pytest.raises(UserError, match=r"no file .*/1b. There are test/1b.jpg, train/1b.jpg: write the paths with"):
        read(tmp_path, "id,breed\n1b,dog\n")
    with pytest.raises(UserError, match=r"t.csv:3: train/0a.jpg is on line 2 too"):
        read(tmp_path, "id,breed\n0a,cat\n0a.jpg,cat\n")


def test_a_column_of_zeros_and_ones_for_each_class(tmp_path: Path) -> None:
    found = read(tmp_path, "filename, cat, dog\na.jpg, 1, 0\nin/b.png, 0, 1\n", *FILES)
    assert rows(found) == [("a.jpg", "cat", None), ("in/b.png", "dog", None)]
    assert found.notes == ("t.csv: path from filename, label from 2 columns of zeros and ones",)


def test_many_bad_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    text = "path,label\n" + "".join(f"{number}.jpg,{number % 2}\n" for number in range(100))
    with pytest.raises(UserError) as error:
        read(tmp_path, text, "99.jpg")
    lines = str(error.value).splitlines()
    assert "99 rows cannot be used. Paths are absolute" in lines[0]
    assert lines[1].endswith("t.csv:2: there is no file " + str(tmp_path / "0.jpg"))
    assert lines[-1] == "  and 94 more"


def test_a_pattern_that_finds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.group_pattern='in/\(.\)' finds nothing in 1 of 2 .* as a.jpg"):
        read(tmp_path, "path,label\na.jpg,cat\nin/b.png,dog\n", *FILES, group_pattern="in/(.)")
    with pytest.raises(UserError, match=r"data.label_pattern='\(x\)' finds nothing in any of the 2 paths"):
        read(tmp_path, "path,label\na.jpg,cat\nin/b.png,dog\n", label_pattern="(x)")


def test_a_group_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t.csv:2: a.jpg has no group. Write one into column who"):
        read(tmp_path, "path,label,who\na.jpg,cat,\nin/b.png,dog,x\n", *FILES, columns={"group": "who"})
