"""Choose which training photos become validation photos."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

PUBLISHED_SEED = 230
"""The seed of the split that the CS230 course published SIGNS with."""
PUBLISHED_VAL_SHARE = 0.2

Division = Literal["published", "stratified"]
"""How train is divided. published: all photos together, as SIGNS was. stratified: each class by itself."""


def published_split(
    names: Sequence[str], *, seed: int = PUBLISHED_SEED, val_share: float = PUBLISHED_VAL_SHARE
) -> tuple[list[str], list[str]]:
    """Divide names into (train, val), each sorted, as SIGNS was published.

    The sorted names are shuffled by Python's generator; the first `int((1 - val_share) * n)` are train. The order
    of `names` does not matter. With the defaults and the 1,080 training photos this is the published split.
    """
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    num_train = int((1 - val_share) * len(shuffled))
    return sorted(shuffled[:num_train]), sorted(shuffled[num_train:])


def stratified_val(
    classes: Mapping[str, Sequence[str]],
    copies: Sequence[Sequence[str]] = (),
    *,
    seed: int = PUBLISHED_SEED,
    val_share: float = PUBLISHED_VAL_SHARE,
) -> set[str]:
    """The names that become val: of each class its share, rounded to a whole number, and at least one.

    The choice for a class depends on its own names only, not on their order or on other classes. Copies stay on one
    side, which can cost a class some of its share; copies with different classes stay in train, since their labels
    contradict each other. A class of one photo, however many copies there are of it, stays in train as a whole.

    Args:
        classes: class → names.
        copies: groups of names with the same content. Names that are not in `classes` are ignored.
        seed: of the shuffle within each class.
        val_share: between 0 and 1.
    """
    class_of = {name: class_name for class_name, names in classes.items() for name in names}
    group_of: dict[str, tuple[str, ...]] = {name: (name,) for name in class_of}
    for copied in copies:
        known = tuple(sorted(name for name in copied if name in class_of))
        group_of.update(dict.fromkeys(known, known))
    chosen: set[str] = set()
    for class_name, names in classes.items():
        groups = sorted({group_of[name] for name in names})
        movable = [group for group in groups if all(class_of[name] == class_name for name in group)]
        stays = len(movable) < len(groups)
        random.Random(f"{seed} {class_name}").shuffle(movable)
        wanted = max(1, int(val_share * len(names) + 0.5))
        chosen.update(*_fill(movable if stays else _without_largest(movable), wanted))
    return chosen


def _without_largest(groups: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """All groups but the largest, which stays in train: the last of them, if several are the largest."""
    if not groups:
        return []
    largest = max(len(group) for group in groups)
    last = max(number for number, group in enumerate(groups) if len(group) == largest)
    return groups[:last] + groups[last + 1 :]


def _fill(groups: list[tuple[str, ...]], wanted: int) -> list[tuple[str, ...]]:
    """The first groups that fit into `wanted` names; the smallest group if none fits."""
    taken: list[tuple[str, ...]] = []
    num_taken = 0
    for group in groups:
        if num_taken + len(group) <= wanted:
            taken.append(group)
            num_taken += len(group)
    return taken or sorted(groups, key=len)[:1]
