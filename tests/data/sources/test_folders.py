"""Photos of folders that are not split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.sources.folders import find_metadata, read_folder
from signs_dist.errors import UserError
from tests.data.photo_files import write_files


def read(tmp_path: Path, *files: str, **settings: Any) -> list[tuple[str, str, str | None]]:
    write_files(tmp_path, dict.fromkeys(files, b"x"))
    found = read_folder(tmp_path, DataConfig(**settings))
    return [(photo.path, photo.class_name, photo.split) for photo in found.photos]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("cat/a.jpg", "dog/in/b.jpg"), [("cat/a.jpg", "cat", None), ("dog/in/b.jpg", "dog", None)]),
        (("3_a.jpg", "10_b.jpg"), [("10_b.jpg", "10", None), ("3_a.jpg", "3", None)]),
        (("top/cat/a.jpg", "top/dog/b.jpg"), [("top/cat/a.jpg", "cat", None), ("top/dog/b.jpg", "dog", None)]),
        (
            ("Train/cat/a.jpg", "Train/dog/b.jpg", "Testing/cat/c.jpg"),
            [
                ("Testing/cat/c.jpg", "cat", "test"),
                ("Train/cat/a.jpg", "cat", "train"),
                ("Train/dog/b.jpg", "dog", "train"),
            ],
        ),
        (
            ("train/images/cat/a.jpg", "train/images/dog/b.jpg"),
            [("train/images/cat/a.jpg", "cat", "train"), ("train/images/dog/b.jpg", "dog", "train")],
        ),
    ],
)
def test_layouts(files: tuple[str, ...], expected: list[tuple[str, str, str | None]], tmp_path: Path) -> None:
    assert read(tmp_path, *files) == expected


def test_a_test_split_without_labels_is_not_used(tmp_path: Path) -> None:
    names = ("train/cat/a.jpg", "train/dog/b.jpg")
    assert read(tmp_path, *names, "test/1.jpg", "test/2.jpg") == [
        (names[0], "cat", "train"),
        (names[1], "dog", "train"),
    ]
    assert read_folder(tmp_path, DataConfig()).notes == ("not used: test/, whose 2 images have no labels",)


def test_a_pattern_tells_the_class_wherever_it_is(tmp_path: Path) -> None:
    names = ("cat.1.jpg", "in/dog.2.jpg")
    assert read(tmp_path, *names, label_pattern=r"([a-z]+)\.\d") == [(names[0], "cat", None), (names[1], "dog", None)]


def test_a_pattern_beside_folders_of_splits(tmp_path: Path) -> None:
    names = ("test/cat.3.jpg", "train/cat.1.jpg", "train/dog.2.jpg", "more/cat.9.jpg")
    found = read(tmp_path, *names, label_pattern=r"([a-z]+)\.\d")
    assert found == [(names[0], "cat", "test"), (names[1], "cat", "train"), (names[2], "dog", "train")]
    notes = read_folder(tmp_path, DataConfig(label_pattern=r"([a-z]+)\.\d")).notes
    assert "outside the splits, and not used: more/cat.9.jpg" in notes


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        (("cat/a.jpg", "dog/x.txt"), {}, "class folder dog has files, but no image"),
        (("3_a.jpg", "x.jpg"), {}, "x.jpg: no label in its name.*say with data.label_pattern"),
        (
            ("notes/a.txt", "x.zip"),
            {},
            r"holds no images. .*Unpack x.zip: .*build --source .*x.zip. Pas",
        ),
        (("a.txt",), {"label_pattern": "(a)"}, "holds no images"),
        (("a.jpg", "b.jpg"), {"label_pattern": "(a)"}, r"data.label_pattern='\(a\)' finds nothing in 1 of 2 paths"),
        (
            ("cat/a.jpg", "dog/b.jpg"),
            {"group_pattern": r"p(\d)"},
            r"data.group_pattern='p\(\\d\)' finds nothing in any",
        ),
        (("f1/cat/a.jpg", "f1/dog/a.jpg", "f2/cat/a.jpg", "f2/dog/a.jpg"), {}, "all hold the same folders"),
        (("train/1.jpg", "bus/1.jpg", "car/2.jpg"), {}, "has the name of a split"),
    ],
)
def test_what_has_no_class_is_told(
    files: tuple[str, ...], settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, *files, **settings)


def test_an_empty_class_is_told(tmp_path: Path) -> None:
    (tmp_path / "owl").mkdir()
    read(tmp_path, "cat/a.jpg", "dog/b.jpg")
    assert read_folder(tmp_path, DataConfig()).notes == ("1 class folder without a file, and not used: owl",)


def test_metadata_of_two_kinds_is_refused(tmp_path: Path) -> None:
    assert find_metadata(tmp_path) is None
    (tmp_path / "metadata.csv").touch()
    assert find_metadata(tmp_path) == tmp_path / "metadata.csv"
    (tmp_path / "metadata.jsonl").touch()
    with pytest.raises(UserError, match=r"has metadata.csv, metadata.jsonl. Give one: data.root="):
        find_metadata(tmp_path)
