"""Which photo goes to which side."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from signs_dist.data.sources.division import divide, make_units

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def numbered(**counts: int) -> dict[str, str]:
    return {f"{name}/{number}": name for name, count in counts.items() for number in range(count)}


def sizes(split_of: Mapping[str, str], classes: Mapping[str, str], name: str) -> list[int]:
    counts = Counter(split for photo, split in split_of.items() if classes[photo] == name)
    return [counts[split] for split in SHARES]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        *((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [2, 1, 0]), (4, [3, 1, 0]), (5, [4, 1, 0]), (7, [5, 1, 1])),
        *((8, [6, 1, 1]), (10, [8, 1, 1]), (100, [80, 10, 10])),
    ],
)
def test_a_class_of_so_many_photos(count: int, expected: list[int]) -> None:
    classes = numbered(cat=count, dog=30)
    assert sizes(divide(make_units(classes, None, []), SHARES, 0), classes, "cat") == expected


@pytest.mark.parametrize(
    "shares",
    [SHARES, {"train": 0.5, "val": 0.3, "test": 0.2}, {"train": 0.1, "val": 0.9}, {"train": 1 / 3, "val": 2 / 3}],
)
def test_each_class_is_within_one_photo_of_its_share(shares: dict[str, float]) -> None:
    classes = numbered(**{f"c{count}": count for count in range(2, 60)})
    split_of = divide(make_units(classes, None, []), shares, 3)
    for count in range(2, 60):
        counts = Counter(split for photo, split in split_of.items() if classes[photo] == f"c{count}")
        assert all(abs(counts[split] - share * count) < 1 + 1e-9 for split, share in shares.items()), (count, counts)
        assert counts["train"]
        assert counts["val"]


def test_the_division_depends_on_names_and_seed_alone() -> None:
    classes = numbered(cat=40, dog=50)
    shuffled = list(classes.items())
    random.Random(1).shuffle(shuffled)
    first = divide(make_units(classes, None, []), SHARES, 0)
    assert divide(make_units(dict(shuffled), None, []), SHARES, 0) == first
    assert divide(make_units(classes, None, []), SHARES, 1) != first
    alone = divide(make_units(numbered(cat=40), None, []), SHARES, 0)
    assert alone == {name: split for name, split in first.items() if name in alone}  # other classes change nothing


def test_a_group_is_on_one_side_and_shares_are_near() -> None:
    classes = {f"p{person}/{name}{number}": name for person in range(20) for name in "ab" for number in range(5)}
    groups = {photo: photo.partition("/")[0] for photo in classes}
    split_of = divide(make_units(classes, groups, []), SHARES, 0)
    assert all(len({split_of[photo] for photo in classes if groups[photo] == group}) == 1 for group in groups.values())
    assert sizes(split_of, classes, "a") == sizes(split_of, classes, "b") == [80, 10, 10]


def test_two_groups_of_a_class_give_train_and_val() -> None:
    classes = numbered(cat=10, dog=10)
    groups = {photo: f"{name}{int(photo[4:]) // 5}" for photo, name in classes.items()}
    split_of = divide(make_units(classes, groups, []), SHARES, 0)
    assert sizes(split_of, classes, "cat") == sizes(split_of, classes, "dog") == [5, 5, 0]


def test_one_group_of_each_class_stays_in_train() -> None:
    classes = numbered(cat=10, dog=10)
    assert set(divide(make_units(classes, classes, []), SHARES, 0).values()) == {"train"}


def test_train_has_a_class_of_which_all_photos_are_in_one_group_with_others() -> None:
    # The greedy choice gives the group of the rare class to val: train needs it more.
    classes = {**numbered(cat=40), "last/rare": "rare", "last/cat": "cat"}
    groups = {photo: photo.partition("/")[0] if "last" in photo else photo for photo in classes}
    for seed in range(5):
        split_of = divide(make_units(classes, groups, []), {"train": 0.2, "val": 0.8}, seed)
        assert split_of["last/rare"] == split_of["last/cat"] == "train"


def test_copies_are_on_one_side_and_contradicting_ones_in_train() -> None:
    classes = numbered(cat=20, dog=20)
    copies = [(f"cat/{number}", f"cat/{number + 1}") for number in range(0, 20, 2)] + [("dog/0", "dog/1", "gone")]
    for seed in range(4):
        split_of = divide(make_units(classes, None, copies), SHARES, seed)
        assert all(split_of[first] == split_of[second] for first, second, *_ in copies)
        assert sizes(split_of, classes, "cat") == [16, 2, 2]
        contradicting = divide(make_units(classes, None, [("cat/3", "dog/4")]), SHARES, seed)
        assert contradicting["cat/3"] == contradicting["dog/4"] == "train"


def test_copies_join_groups() -> None:
    classes = numbered(cat=12, dog=12)
    groups = {photo: str(int(photo[4:]) // 3) for photo in classes}
    split_of = divide(make_units(classes, groups, [("cat/0", "cat/11")]), SHARES, 0)
    assert len({split_of[photo] for photo in classes if groups[photo] in ("0", "3")}) == 1


@pytest.mark.parametrize("num_before", [1, 2, 3, 9, 10, 37])
def test_photos_that_are_added_are_divided_and_the_others_stay(num_before: int) -> None:
    before = numbered(cat=num_before, dog=12)
    known = divide(make_units(before, None, []), SHARES, 0)
    for num_after in range(num_before + 1, num_before + 40):
        classes = numbered(cat=num_after, dog=12)
        known = divide(make_units(classes, None, []), SHARES, 0, known) | known
        counts = sizes(known, classes, "cat")
        assert min(counts[:2]) > 0
        assert all(abs(count - share * num_after) < 2 for count, share in zip(counts, SHARES.values(), strict=True))
    first = divide(make_units(before, None, []), SHARES, 0)
    assert {name: known[name] for name in first} == first


def test_an_added_photo_follows_its_group_and_its_copy() -> None:
    classes = numbered(cat=30, dog=30)
    known = divide(make_units(classes, None, []), SHARES, 0)
    val, test = (next(name for name, split in known.items() if split == wanted) for wanted in ("val", "test"))
    more = classes | {"cat/new": "cat", "dog/new": "dog"}
    assert divide(make_units(more, None, [(val, "cat/new")]), SHARES, 0, known)["cat/new"] == "val"
    groups = {name: name for name in more} | {"dog/new": test}
    assert divide(make_units(more, groups, []), SHARES, 0, known)["dog/new"] == "test"
