"""Each oddity has one line: what, how many, examples, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from signs_dist.data.inspection.findings import find_oddities, has_problems, imbalance
from tests.data.inspection.made import counted, made

SPLIT = [f"{split}/{name}/{i}.jpg" for split in ("train", "val") for name in ("cat", "dog") for i in range(10)]
PLAIN = counted(cat=10, dog=10)


def odd(base: list[str], **facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Photos, with facts of those whose path ends in a key's number: `cat_3`."""
    return {path: facts.get(path.replace("/", "_").removesuffix(".jpg"), {}) for path in base}


@pytest.mark.parametrize(
    ("photos", "line"),
    [
        (
            odd(PLAIN, cat_1={"reason": "truncated (2 bytes)"}, dog_2={"reason": "truncated (77 bytes)"}),
            "problem: 2 photos cannot be read: truncated (2 bytes) (cat/1.jpg, dog/2.jpg). Replace or remove what "
            "cannot be read; --write leaves it out",
        ),
        (
            odd(PLAIN, cat_1={"digest": "x"}, dog_2={"digest": "x"}),
            "problem: 1 time one photo is in more than one class (cat/1.jpg = dog/2.jpg). Keep the file in the right "
            "class; --write leaves out all of them",
        ),
        (
            odd(PLAIN, cat_1={"digest": "x"}, cat_2={"digest": "x"}),
            "note: 1 photo is there more than once (cat/1.jpg = cat/2.jpg). A division keeps them on one side; remove "
            "the copies if a photo is not to count twice",
        ),
        (
            odd(SPLIT, train_cat_1={"digest": "x"}, val_cat_2={"digest": "x"}),
            "warning: 1 photo is in more than one split, so the accuracy there is too high "
            "(train/cat/1.jpg = val/cat/2.jpg). Keep one of each",
        ),
        (
            odd(
                PLAIN,
                cat_1={"difference_hash": 5, "thumb": bytes(range(256))},
                cat_2={"difference_hash": 4, "thumb": bytes(range(256))},
            ),
            "note: 1 group of nearly equal photos, such as one photo saved twice (cat/1.jpg = cat/2.jpg). A division "
            "keeps them on one side if --write lists them in a table",
        ),
        (
            odd(
                PLAIN,
                cat_1={"difference_hash": 5, "thumb": bytes(range(256))},
                dog_2={"difference_hash": 4, "thumb": bytes(range(256))},
            ),
            "warning: 1 time nearly one photo is in more than one class (cat/1.jpg = dog/2.jpg). Look at them",
        ),
        (
            odd(
                SPLIT,
                train_cat_1={"difference_hash": 5, "thumb": bytes(range(256))},
                val_cat_2={"difference_hash": 4, "thumb": bytes(range(256))},
            ),
            "warning: 1 group of nearly equal photos is in more than one split (train/cat/1.jpg = val/cat/2.jpg). Keep "
            "each group in one",
        ),
        (
            odd(counted(cat=10)),
            "problem: all photos are of the single class cat. A classifier needs photos of two or more",
        ),
        (
            odd(counted(cat=10, dog=4, owl=9)),
            "warning: 2 classes have fewer than 10 photos (dog: 4, owl: 9). Add photos: what is said of so few is "
            "mostly chance",
        ),
        (
            odd(counted(cat=10, dog=1)),
            "problem: 1 class has a single photo (dog). Train and val each need one: add photos",
        ),
        (
            odd(counted(cat=90, dog=30)),
            "warning: the largest class, cat, has 90 photos, and the smallest, dog, 30. Train with "
            "loss.class_weights=balanced, or with data.order=balanced",
        ),
        (
            odd([*SPLIT, *(f"train/owl/{i}.jpg" for i in range(10))]),
            "problem: val has no photo of 1 class (owl). Move or add some",
        ),
        (
            odd([path for path in SPLIT if path.startswith("train")]),
            "note: all photos are in train, and none in val. A run takes val from train, by data.split",
        ),
        (
            odd(PLAIN, cat_1={"is_grey": True}),
            "note: 1 photo is grey (cat/1.jpg). Read as three equal channels",
        ),
        (odd(PLAIN, cat_1={"is_turned": True}), "note: 1 photo is turned by EXIF (cat/1.jpg). Read upright"),
        (
            odd(PLAIN, cat_1={"is_transparent": True}),
            "note: 1 photo is stored with transparency (cat/1.jpg). White is put below it",
        ),
        (
            odd(PLAIN, cat_1={"is_animated": True}),
            "note: 1 photo is of several frames or pages (cat/1.jpg). The first is read",
        ),
        (
            odd(PLAIN, cat_1={"width": 300, "height": 100}),
            "note: 1 photo has one side at least twice as long as the other (cat/1.jpg). Squeezed to squares: "
            "cut them where that matters",
        ),
        (
            odd(PLAIN, cat_1={"image_format": "PNG"}),
            "note: 1 photo has a suffix of another format than the content (cat/1.jpg). Read by the content",
        ),
    ],
)
def test_one_line_each(photos: dict[str, Mapping[str, Any]], line: str) -> None:
    found = made(photos)
    assert [finding.line() for finding in find_oddities(found)].count(line) == 1
    assert has_problems(found) is line.startswith("problem")


def test_nothing_is_odd_about_plain_photos() -> None:
    assert find_oddities(made(PLAIN)) == []
    assert find_oddities(made(SPLIT)) == []
    assert find_oddities(made({path: {"is_grey": True} for path in PLAIN})) == []  # all are: X-rays, scans


def test_problems_come_first_and_all_examples_are_kept() -> None:
    photos = odd([*PLAIN, *counted(owl=3)]) | {f"cat/x{i}.jpg": {"reason": "the file has 0 bytes"} for i in range(7)}
    found = find_oddities(made(photos, notes=("passed over: 1 file",), outside=("y.jpg",), tables=("t.csv",)))
    assert [finding.level for finding in found] == ["problem", "warning", "warning", "note", "note"]
    assert len(found[0].examples) == 7
    assert "(cat/x0.jpg, cat/x1.jpg, cat/x2.jpg, …)" in found[0].line()
    assert found[-1].line() == (
        "note: 1 table lies beside the photos, and is not read (t.csv). If it has the classes: python -m "
        "signs_dist.inspect photos/t.csv"
    )


def test_many_copies_of_one_photo_are_cut_in_the_line_only() -> None:
    photos = {path: {"digest": "x"} for path in counted(cat=30)} | {path: {} for path in counted(dog=30)}
    copies = next(finding for finding in find_oddities(made(photos)) if finding.kind == "copies")
    assert "(cat/0.jpg = cat/1.jpg = cat/10.jpg = …)" in copies.line()
    assert copies.examples[0].count(" = ") == 29


def test_many_large_photos_are_better_built() -> None:
    large = {path: {"width": 4000, "height": 3000} for path in counted(cat=150, dog=150)}
    lines = [finding.line() for finding in find_oddities(made(large))]
    assert lines == [
        "note: 300 photos have 2 megapixels or more, and are decoded for each run. To decode them once: "
        "python -m signs_dist.data.build --source photos"
    ]


def test_class_names_are_told_once() -> None:
    note = "classes 'Cat' and 'cat' differ only in case"
    lines = [
        finding.line() for finding in find_oddities(made(counted(Cat=10, cat=10, dog=10, dogs=10), name_notes=(note,)))
    ]
    assert lines == [
        f"warning: {note}",
        "warning: classes 'dog' and 'dogs' differ in spelling only. If they are one class, rename a folder",
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 60, "b": 20}, ("a", "b")),
        ({"a": 59, "b": 20}, None),
        ({"a": 100, "b": 90, "c": 4}, None),  # too small to decide
        ({"a": 10, "b": 1}, None),
        ({}, None),
    ],
)
def test_imbalance(counts: dict[str, int], expected: tuple[str, str] | None) -> None:
    assert imbalance(counts) == expected
