from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.listed_images import ListedImage, index_listed, with_classes
from signs_dist.data.readers import FolderReader
from signs_dist.errors import UserError

READER = FolderReader(Path("set"))


def images(**of_split: str) -> list[ListedImage]:
    """An image for each letter, whose class it is."""
    return [
        ListedImage(f"{split}/{number}", letter, split)
        for split, letters in of_split.items()
        for number, letter in enumerate(letters)
    ]


def test_the_order_is_kept_and_classes_are_sorted() -> None:
    splits = index_listed(images(train="bab", val="ab", test="b"), Path("set"), READER, "set")
    assert splits["train"].paths == ("train/0", "train/1", "train/2")
    assert splits["train"].classes == splits["test"].classes == ("a", "b")
    assert [splits[split].labels.tolist() for split in ("train", "val", "test")] == [[1, 0, 1], [0, 1], [1]]
    assert splits["train"].reader is READER


def test_given_classes_are_the_order_of_labels() -> None:
    splits = index_listed(images(train="ab", val="ab"), Path("set"), READER, "set", classes=("b", "a"))
    assert splits["train"].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (images(val="ab"), "set has no train images. Both train and val are needed; test is not."),
        (images(train="ab"), "set has no val images."),
        (images(train="aa", val="a"), "set has the single class 'a'. A classifier needs images of two or more."),
        (images(train="aab", val="a"), "set has no val image of class b."),
        (
            images(train="ab", val="abc"),
            "set has no train image of class c. Give each class images in train and in",
        ),
        (images(train="ab", val="ab", test="c"), "set has no train image of class c."),
        (images(train="a\n", val="a\n"), "has control characters in its name"),
    ],
)
def test_what_is_no_data_set_is_refused(listed: list[ListedImage], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        index_listed(listed, Path("set"), READER, "set")
    assert expected in str(caught.value)


def test_labels_become_those_of_a_trained_model() -> None:
    index = index_listed(images(train="ab", val="ab"), Path("set"), READER, "set")["val"]
    other = with_classes(index, ("c", "b", "a"), "set")
    assert (other.classes, other.labels.tolist()) == (("c", "b", "a"), [2, 1])
    with pytest.raises(UserError, match="set has images of class b, which is not one of a, c"):
        with_classes(index, ("a", "c"), "set")
