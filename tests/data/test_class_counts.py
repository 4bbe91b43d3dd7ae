from __future__ import annotations

from signs_dist.data.class_counts import count_classes, missing_classes


def test_counts_of_splits_in_their_order_and_what_is_missing() -> None:
    counts = count_classes([("val", "10"), ("train", "2"), ("train", "10"), ("train", "2")])
    assert counts == {"train": {"2": 2, "10": 1}, "val": {"2": 0, "10": 1}}
    assert [list(counts), list(counts["train"])] == [["train", "val"], ["2", "10"]]
    assert missing_classes(counts) == (("val", "2"),)


def test_images_that_are_not_split_are_in_the_split_all() -> None:
    assert count_classes([(None, "cat"), (None, "dog")]) == {"all": {"cat": 1, "dog": 1}}
