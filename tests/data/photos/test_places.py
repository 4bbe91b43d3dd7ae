from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.places import Place, PlacedFile, check_not_splits, check_splits, find_place
from signs_dist.errors import UserError

WHERE = Path("photos")


@pytest.mark.parametrize(
    ("paths", "prefix", "tops"),
    [
        (["train/cat/0.jpg", "val/cat/1.jpg"], "", {"train/": "train", "val/": "val"}),
        (["a/train/cat/0.jpg", "a/readme/x.jpg", "b/1.jpg"], "a/", {"train/": "train"}),
        (["train/train/cat/0.jpg", "train/train/dog/0.jpg"], "", {"train/train/": "train"}),
        (["train/train/0.jpg", "train/bus/0.jpg"], "", {"train/": "train"}),
        (["seg_train/seg_train/a/0.jpg", "seg_train/1.jpg"], "", {"seg_train/": "train"}),
        (["a/Testing/0_0.jpg"], "a/", {"Testing/": "test"}),
        (["cat/0.jpg", "dog/1.jpg"], "", {}),
        (["a/b/c/cat/0.jpg", "a/b/c/dog/1.jpg"], "a/b/c/", {}),
        (["cat/0.jpg"], "", {}),
        (["cat/test/0.jpg", "dog/0.jpg"], "", {}),
        (["0_0.jpg"], "", {}),
    ],
)
def test_where_the_data_set_lies(paths: list[str], prefix: str, tops: dict[str, str]) -> None:
    assert find_place(paths, WHERE) == Place(prefix, tops)


def test_a_files_place() -> None:
    place = Place("a/", {"train/": "train"})
    inside, beside = SourceFile("a/train/cat/0.jpg", 1, ""), SourceFile("a/extra/0.jpg", 1, "")
    assert place.of(inside) == PlacedFile("train", "cat/0.jpg", inside)
    assert place.of(beside) is None
    assert Place("a/").of(beside) == PlacedFile(None, "extra/0.jpg", beside)
    assert Place("b/").of(beside) is None


def test_two_folders_for_a_split_and_no_train() -> None:
    with pytest.raises(UserError, match="photos has both a/val/ and a/dev/ for val"):
        check_splits([], Place("a/", {"val/": "val", "dev/": "val"}), [], WHERE)
    with pytest.raises(UserError, match="photos has a/val/ but no training images"):
        check_splits([], Place("a/", {"val/": "val"}), [], WHERE)
    check_splits([], Place("a/", {"train/": "train", "val/": "val"}), ["cover.jpg"], WHERE)


def test_an_unlabelled_test_split_beside_other_folders_is_no_class() -> None:
    files = [SourceFile(path, 1, "") for path in ("train/cat/0.jpg", "test/1.jpg")]
    place = Place("", {"train/": "train", "test/": "test"})
    check_splits([placed for file in files if (placed := place.of(file))], place, ["extra/0.jpg"], WHERE)


def test_classes_of_unlike_folders_are_classes() -> None:
    files = [SourceFile(path, 1, "") for path in ("a/x/0.jpg", "a/y/0.jpg", "b/x/0.jpg", "b/z/0.jpg")]
    check_not_splits([PlacedFile(None, file.path, file) for file in files], "", WHERE)
