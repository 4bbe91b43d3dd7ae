"""Photos of several places as one, and as the indexes of splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from signs_dist.data.sources.collection import Collection, Photo, join, to_index, to_indexes, whole_path
from signs_dist.errors import UserError


def photos(*names: str, split: str | None = None) -> list[Photo]:
    return [Photo(name, name.partition("/")[0], split) for name in names]


def collection(root: str, *names: str, split: str | None = None) -> Collection:
    return Collection(Path(root), photos(*names, split=split), (f"note of {root}",))


def test_classes_are_united_and_paths_begin_at_the_folder_that_holds_all() -> None:
    both = join([collection("/data/one", "cat/1.jpg", "dog/1.jpg"), collection("/data/x/../two", "cat/1.jpg")])
    assert both.root == Path("/data")
    assert [(photo.path, photo.class_name) for photo in both.photos] == [
        *(("one/cat/1.jpg", "cat"), ("one/dog/1.jpg", "dog"), ("two/cat/1.jpg", "cat")),
    ]
    assert both.notes == ("note of /data/one", "note of /data/x/../two")
    assert whole_path(Path("/a/b/../c")) == "/a/c"


def test_what_cannot_be_joined_is_told() -> None:
    with pytest.raises(UserError, match=r"/a is split into train, val or test, and /b is not. Give roots that are all"):
        join([collection("/a", "cat/1.jpg", split="train"), collection("/b", "cat/1.jpg")])
    with pytest.raises(UserError, match=r"/a/cat/1.jpg is in two of the roots"):
        join([collection("/a", "cat/1.jpg"), collection("/a", "cat/1.jpg")])


def test_each_split_has_the_classes_of_train() -> None:
    found = collection("/a", "10/1.jpg", "2/1.jpg", "2/2.jpg", "2/3.jpg")
    splits = to_indexes(found, ["train", "train", "val", None], "/a")
    assert list(splits) == ["train", "val"]
    assert splits["val"].classes == ("2", "10")
    assert splits["train"].labels.tolist() == [1, 0]
    assert splits["val"].paths == ("2/2.jpg",)
    assert to_index(found, "all", ("10", "2"), "/a").labels.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("split_of", "words"),
    [
        (["train", "train", "train"], "has no val images"),
        (["val", "val", "val"], "has no train images"),
        (["train", "val", "val"], "train has the single class 'cat'"),
        (
            ["train", "train", "val"],
            r"the val images have class owl, which is not among .* cat, dog \(1 of",
        ),
    ],
)
def test_splits_that_cannot_be_trained_on_are_told(split_of: Sequence[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        to_indexes(collection("/a", "cat/1.jpg", "dog/2.jpg", "owl/3.jpg"), split_of, "/a")
