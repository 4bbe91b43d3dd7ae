from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.build_plan import (
    BuildRequest,
    PlannedImage,
    check_classes,
    choose_division,
    default_out,
    jpeg_name,
    plan_images,
    planned_counts,
    without_small_classes,
)
from signs_dist.data.photos.sources import arrange, list_source
from signs_dist.data.photos.split import published_split
from signs_dist.errors import UserError
from tests.data.photo_files import signs_files, write_files


def test_default_names(tmp_path: Path) -> None:
    signs = arrange(list_source(write_files(tmp_path / "a", signs_files(6))), tmp_path)
    pets = arrange(list_source(write_files(tmp_path / "b", {"cat/1.jpg": b"", "dog/1.jpg": b""})), tmp_path)
    assert default_out(tmp_path / "x.zip", 64, signs) == Path("data/64x64_SIGNS")
    assert default_out(tmp_path / "pets.zip", 96, pets) == Path("data/96x96_pets")


PHOTOS = BuildRequest(Path("photos"))


def planned(names: Sequence[str], request: BuildRequest = PHOTOS) -> list[PlannedImage]:
    arrangement = arrange([SourceFile(name, 1, "") for name in names], Path("photos"))
    division = choose_division(request, arrangement)
    return plan_images(arrangement, division, seed=request.seed, val_share=request.val_share)


def val_of(plan: Sequence[PlannedImage]) -> set[str]:
    return {image.source.path for image in plan if image.split == "val"}


def test_flat_names_are_divided_as_published() -> None:
    plan = planned([f"train_signs/{i % 2}_{i:02d}.PNG" for i in range(10)])
    assert {split: sum(row.values()) for split, row in planned_counts(plan).items()} == {"train": 8, "val": 2}
    _, val = published_split([f"{i % 2}_{i:02d}.PNG" for i in range(10)])
    assert [image.output for image in plan if image.split == "val"] == [
        f"val_signs/{name.replace('PNG', 'jpg')}" for name in val
    ]
    assert {image.output.partition("/")[0] for image in plan} == {"train_signs", "val_signs"}


def test_class_folders_are_divided_class_by_class() -> None:
    plan = planned([f"class{label:02d}/{number}.jpg" for label in range(40) for number in range(14)])
    counts = planned_counts(plan)
    assert set(counts["val"].values()) == {3}  # a fifth of 14, rounded
    assert set(counts["train"].values()) == {11}


@pytest.mark.parametrize(
    ("names", "split", "division"),
    [
        (["0_a.jpg", "1_a.jpg"], None, "published"),
        (["0_a.jpg", "1_a.jpg"], "stratified", "stratified"),
        (["train/a/1.jpg", "test/a/1.jpg"], None, "stratified"),
        (["a/1.jpg", "b/1.jpg"], "published", "published"),
        (["train/a/1.jpg", "val/a/1.jpg"], None, None),
    ],
)
def test_how_train_is_divided(names: list[str], split: Any, division: str | None) -> None:
    arrangement = arrange([SourceFile(name, 1, "") for name in names], Path("photos"))
    assert choose_division(BuildRequest(Path("photos"), split=split), arrangement) == division


def test_a_source_with_val_images_has_nothing_to_divide() -> None:
    arrangement = arrange([SourceFile(name, 1, "") for name in ("train/a/1.jpg", "val/a/1.jpg")], Path("photos"))
    with pytest.raises(UserError, match="photos has val images of its own, so --split published has nothing to divide"):
        choose_division(BuildRequest(Path("photos"), split="published"), arrangement)


def test_a_class_keeps_its_val_photos_when_another_class_changes() -> None:
    cats = [f"cat/{number}.jpg" for number in range(20)]
    few, many = (planned([*cats, *(f"dog/{number}.jpg" for number in range(count))]) for count in (5, 50))
    assert {name for name in val_of(few) if "cat" in name} == {name for name in val_of(many) if "cat" in name}


@pytest.mark.parametrize("top", ["", "photos/", "a b/train/", "train/"])
def test_a_folder_around_the_photos_changes_no_split(top: str) -> None:
    names = [f"{label}/{number}.jpg" for label in "ab" for number in range(20)]
    copies = (("{top}a/1.jpg", "{top}a/2.jpg", "{top}b/3.jpg"), ("{top}b/7.jpg", "{top}b/8.jpg"))
    chosen = []
    for start in ("", top):
        arrangement = arrange([SourceFile(start + name, 1, "") for name in names], Path("photos"))
        told = tuple(tuple(name.format(top=start) for name in group) for group in copies)
        plan = plan_images(arrangement, "stratified", seed=230, val_share=0.2, copies=told)
        chosen.append({name.removeprefix(start) for name in val_of(plan)})
    assert chosen[0] == chosen[1]
    assert ("b/7.jpg" in chosen[0]) == ("b/8.jpg" in chosen[0])
    assert not {"a/1.jpg", "a/2.jpg", "b/3.jpg"} & chosen[0]  # two labels


def test_another_seed_and_another_share_choose_others() -> None:
    names = [f"{label}/{number:02d}.jpg" for label in "ab" for number in range(30)]
    assert val_of(planned(names)) == val_of(planned(names[::-1]))
    assert val_of(planned(names)) != val_of(planned(names, BuildRequest(Path("photos"), seed=1)))
    assert len(val_of(planned(names, BuildRequest(Path("photos"), val_share=0.5)))) == 30


def test_names_that_differ_in_case_alone_are_refused() -> None:
    both = (
        r"train/a/X.jpg and train/a/x.jpg would both become train/a/x.jpg on file systems that do not .*\. Rename one"
    )
    with pytest.raises(UserError, match=both):
        planned(["train/a/X.jpg", "train/a/x.jpg", "train/b/1.jpg", "val/a/1.jpg"])
    with pytest.raises(UserError, match=r"become train/a/1.jpg\. Rename one"):
        planned(["train/a/1.jpg", "train/a/1.png", "train/b/1.jpg", "val/a/1.jpg"])
    with pytest.raises(UserError, match=r"Rename the folder of class A or a, or put both into one folder"):
        planned(["train/A/1.jpg", "train/a/1.jpg", "val/a/1.jpg"])


@pytest.mark.parametrize(
    ("counts", "division", "message"),
    [
        ({"train": {"a": 3}, "val": {"a": 1}}, None, "photos: all images are of the single class a."),
        (
            {"train": {"a": 3, "b": 0}, "val": {"a": 1, "b": 1}},
            None,
            r"no training image of class b, which another split has\. .* omit this class with --small-classes skip",
        ),
        (
            {"train": {"a": 3, "b": 4}, "val": {"a": 1, "b": 0}},
            None,
            r"no val image of class b \(4 are in train\)\. Add images of this class to val, or omit",
        ),
        (
            {"train": {"a": 3, "b": 4}, "val": {"a": 1, "b": 0}},
            "published",
            r"no val image of class b \(4 are in train\)\. .* add --split stratified",
        ),
        (
            {"train": {"a": 3, "b": 0}, "val": {"a": 1, "b": 2}},
            "published",
            r"no training image of class b\. The published split draws .* add --split stratified",
        ),
        (
            {"train": {"a": 3, "b": 0}, "val": {"a": 1, "b": 1}},
            "published",
            r"no training image of class b, .* --small-classes skip",
        ),
        (
            {"train": {"a": 3, "b": 1, "c": 1}, "val": {"a": 1, "b": 0, "c": 0}},
            "stratified",
            r"no val image of class b \(1 is in train\), c \(1 is in train\)\. A class needs two different photos .* "
            r"omit these classes with --small-classes skip",
        ),
        (
            {"train": {"a": 3, "b": 1}, "val": {"a": 1, "b": 0}},
            "published",
            r"no val image of class b \(1 is in train\)\. A class needs two different photos",
        ),
        ({"train": {"a": 3, "b": 4}}, None, "no images for val. Add images, or choose another --val-share."),
        ({}, None, "photos: no image can be used."),
    ],
)
def test_counts_that_cannot_be_trained_on(counts: dict[str, dict[str, int]], division: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_classes(counts, Path("photos"), division)


def test_small_classes_are_omitted_when_asked_for() -> None:
    names = [*(f"{label}/{number}.jpg" for label in "ab" for number in range(5)), "owl/1.jpg", "fox/1.jpg"]
    plan = planned(names)
    assert without_small_classes(plan, BuildRequest(Path("photos"))) == (plan, {})
    kept, omitted = without_small_classes(plan, BuildRequest(Path("photos"), small_classes="skip"))
    assert ({image.class_name for image in kept}, omitted) == ({"a", "b"}, {"fox": 1, "owl": 1})


def test_values_out_of_range_say_the_range() -> None:
    BuildRequest(Path("photos"), size=8, quality=100, processes=1024).check()
    with pytest.raises(UserError, match="--size 7 is not between 8 and 4096"):
        BuildRequest(Path("photos"), size=7).check()
    with pytest.raises(UserError, match=r"--val-share 1 is not between 0 and 1. The published share is 0.2"):
        BuildRequest(Path("photos"), val_share=1).check()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat/0.png", "cat/0.jpg"),
        ("cat/0.tar.JPG", "cat/0.tar.jpg"),
        ("cat/IMG_1", "cat/IMG_1.jpg"),
        ("my.cat/IMG_1", "my.cat/IMG_1.jpg"),
        ("cat/0.2024-01-01", "cat/0.2024-01-01.jpg"),
        ("3_IMG.jpeg", "3_IMG.jpg"),
    ],
)
def test_the_name_of_an_images_jpeg(name: str, expected: str) -> None:
    assert jpeg_name(name) == expected
