from __future__ import annotations

import random
from pathlib import Path

import pytest

from signs_dist.data.photos.split import published_split, stratified_val


def test_published_split_is_the_published_folders(real_photos: Path) -> None:
    train = {path.name for path in (real_photos / "train_signs").iterdir()}
    val = {path.name for path in (real_photos / "val_signs").iterdir()}
    names = list(train | val)
    random.Random(1).shuffle(names)
    assert published_split(names) == (sorted(train), sorted(val))
    assert len(val) == 216
    assert published_split(names, seed=231)[1] != sorted(val)


def test_split_by_another_share() -> None:
    train, val = published_split([str(number) for number in range(10)], val_share=0.5)
    assert (len(train), len(val), len({*train, *val})) == (5, 5, 10)


def names_of(**counts: int) -> dict[str, list[str]]:
    return {name: [f"{name}/{number:03d}" for number in range(count)] for name, count in counts.items()}


@pytest.mark.parametrize(
    ("count", "val_share", "num_val"),
    [(1, 0.2, 0), (2, 0.2, 1), (3, 0.2, 1), (7, 0.2, 1), (8, 0.2, 2), (14, 0.2, 3), (1000, 0.2, 200), (2, 0.9, 1)],
)
def test_each_class_gives_its_share(count: int, val_share: float, num_val: int) -> None:
    chosen = stratified_val(names_of(a=count, b=50), val_share=val_share)
    assert sum(name.startswith("a/") for name in chosen) == num_val
    if count > 1:
        assert abs(num_val - val_share * count) <= 1


def test_the_choice_depends_on_the_seed_and_the_names_of_the_class_alone() -> None:
    classes = names_of(a=30, b=30)
    shuffled = {name: random.Random(2).sample(names, len(names)) for name, names in reversed(classes.items())}
    assert stratified_val(classes) == stratified_val(shuffled)
    assert stratified_val(classes, seed=1) != stratified_val(classes)
    assert stratified_val(names_of(a=30)) == {name for name in stratified_val(classes) if name < "b"}


def test_the_choice_stays_as_it_is() -> None:
    # Another choice would give other data sets from the same photos: build.json would need another name for it.
    assert sorted(stratified_val(names_of(cat=10, dog=5))) == ["cat/000", "cat/005", "dog/003"]


@pytest.mark.parametrize("sizes", [[2, 2, 2], [5], [1, 1, 1, 9], [3, 3], [2], [10, 10], []])
@pytest.mark.parametrize("seed", [0, 1, 2, 230])
def test_copies_stay_on_one_side(sizes: list[int], seed: int) -> None:
    (names,) = names_of(a=30).values()
    copies, start = [], 0
    for size in sizes:
        copies.append(names[start : start + size])
        start += size
    chosen = stratified_val({"a": names}, copies, seed=seed)
    for group in copies:
        assert len(chosen & set(group)) in (0, len(group))
    assert chosen
    assert abs(len(chosen) - 6) <= 1


def test_a_class_of_copies_of_one_photo_stays_in_train() -> None:
    classes = names_of(a=5, b=5)
    chosen = stratified_val(classes, [classes["a"]])
    assert {name[0] for name in chosen} == {"b"}
    two = stratified_val(classes, [classes["a"][:3], classes["a"][3:]])
    assert len({name for name in two if name[0] == "a"}) == 2  # the larger group stays in train


def test_a_photo_with_two_labels_stays_in_train() -> None:
    classes = names_of(a=2, b=10)
    chosen = stratified_val(classes, [["a/000", "b/000"]])
    assert "a/001" in chosen
    assert not {"a/000", "b/000"} & chosen


def test_copies_in_another_split_are_no_part_of_the_choice() -> None:
    classes = names_of(a=10)
    assert stratified_val(classes, [["test/a/1", "a/003"]]) == stratified_val(classes)
