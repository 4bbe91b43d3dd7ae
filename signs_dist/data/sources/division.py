"""Divide photos into train, val and test: each class by itself, what belongs together on one side. Pure functions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

TRAIN, VAL = "train", "val"


@dataclasses.dataclass(frozen=True)
class Unit:
    """Photos that are on one side: those of a group, those with the same content, or a single photo."""

    names: tuple[str, ...]
    """Sorted."""
    counts: Mapping[str, int]
    """Class → how many of them are of it."""
    is_train: bool = False
    """Whether it must be in train: the same photo in two classes would judge a network by a wrong label."""

    def order(self, seed: int) -> bytes:
        """Its place among the others: random, and the same whatever the others are."""
        return hashlib.blake2b(f"{seed}\0{self.names[0]}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def make_units(
    classes: Mapping[str, str], groups: Mapping[str, str] | None, copies: Iterable[Sequence[str]]
) -> list[Unit]:
    """Join photos that must be on one side.

    Args:
        classes: name of each photo → its class.
        groups: name → group; None where photos are not grouped.
        copies: names of photos with the same content. Names that are not in `classes` are ignored.
    """
    joined = _Joined()
    if groups is not None:
        first_of: dict[str, str] = {}
        for name in classes:
            joined.join(first_of.setdefault(groups[name], name), name)
    contradicting = set()
    for copied in copies:
        known = [name for name in copied if name in classes]
        for name in known[1:]:
            joined.join(known[0], name)
        if groups is None and len({classes[name] for name in known}) > 1:
            contradicting.add(known[0])
    members: dict[str, list[str]] = {}
    for name in classes:
        members.setdefault(joined.find(name), []).append(name)  # a single photo is the first of itself
    in_train = {joined.find(name) for name in contradicting}
    return [
        Unit((first,), {classes[first]: 1})
        if len(names) == 1
        else Unit(tuple(sorted(names)), Counter(classes[name] for name in names), first in in_train)
        for first, names in members.items()
    ]


def divide(
    units: Sequence[Unit], shares: Mapping[str, float], seed: int, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Choose the split of each photo.

    Each class has its share of each split, within one photo where every unit is one photo of a new division; with
    larger units the shares are as near as a greedy choice gets, large units first. A class with two units or more has
    photos in train and in val.

    Args:
        units: from `make_units`: all photos, known ones too.
        shares: of each split, in the order train, val, test; they sum to 1.
        seed: of the choice.
        known: name → split of photos that are divided already, and stay. None: none are.

    Returns:
        name → split of all photos of `units`.
    """
    known = known or {}
    rooms = _Rooms(units, shares)
    split_of: dict[str, str] = {}
    chosen: list[tuple[Unit, str]] = []
    fresh = []
    for unit in units:
        before = Counter(known[name] for name in unit.names if known.get(name) in shares) if known else None
        if not before:
            fresh.append(unit)
            continue
        side = max(shares, key=lambda split: before[split])  # of equal ones the first: train
        for name in unit.names:
            split_of[name] = known[name] if known.get(name) in shares else side
        rooms.take(unit, side)
    # Large units first: small ones fill what is left.
    fresh.sort(key=lambda unit: (-len(unit.names), unit.order(seed)))
    for unit in fresh:
        side = TRAIN if unit.is_train else rooms.roomiest(unit)
        rooms.take(unit, side)
        chosen.append((unit, side))
    for split in (TRAIN, VAL):
        _fill(chosen, rooms, split)
    split_of.update({name: side for unit, side in chosen for name in unit.names})
    return split_of


class _Rooms:
    """How many photos of each class each split still lacks, and has."""

    def __init__(self, units: Sequence[Unit], shares: Mapping[str, float]) -> None:
        totals: Counter[str] = Counter()
        for unit in units:
            totals.update(unit.counts)
        self.splits = tuple(shares)
        self._rooms = {
            name: {split: share * total for split, share in shares.items()} for name, total in totals.items()
        }
        self._num_units = {name: dict.fromkeys(shares, 0) for name in totals}

    def take(self, unit: Unit, split: str, sign: int = 1) -> None:
        for name, count in unit.counts.items():
            self._rooms[name][split] -= sign * count
            self._num_units[name][split] += sign

    def roomiest(self, unit: Unit) -> str:
        """The split that lacks most of the unit's classes; of equal ones the first."""
        if len(unit.counts) == 1:
            rooms = self._rooms[next(iter(unit.counts))]
            return max(rooms, key=rooms.__getitem__)
        return max(
            self.splits, key=lambda split: sum(count * self._rooms[name][split] for name, count in unit.counts.items())
        )

    def excess(self, unit: Unit, split: str) -> float:
        """How much a split has too much of the unit's classes."""
        return -sum(count * self._rooms[name][split] for name, count in unit.counts.items())

    def has(self, class_name: str, split: str) -> bool:
        return self._num_units[class_name][split] > 0

    def lacking(self, split: str) -> set[str]:
        """The classes that a split has no photo of."""
        return {name for name, counts in self._num_units.items() if not counts[split]}

    def can_spare(self, unit: Unit, split: str) -> bool:
        """Whether a split keeps photos of all its classes without a unit."""
        return all(self._num_units[name][split] > 1 for name in unit.counts)


def _fill(chosen: list[tuple[Unit, str]], rooms: _Rooms, wanted: str) -> None:
    """Move a unit into the split `wanted` for each class that it lacks, where train keeps photos of all its classes."""
    lacking = rooms.lacking(wanted)
    candidates: dict[str, list[int]] = {name: [] for name in sorted(lacking)}
    for number, (unit, _) in enumerate(chosen if lacking else ()):
        if not unit.is_train:
            for name in lacking & unit.counts.keys():
                candidates[name].append(number)

    def preference(number: int) -> tuple[int, float, int]:
        unit, side = chosen[number]
        return len(unit.names), -rooms.excess(unit, side), -number

    for name, numbers in candidates.items():
        movable = [
            number for number in numbers if chosen[number][1] != TRAIN or rooms.can_spare(chosen[number][0], TRAIN)
        ]
        if movable and not rooms.has(name, wanted):  # a unit of several classes may have brought it
            best = min(movable, key=preference)
            unit, side = chosen[best]
            rooms.take(unit, side, -1)
            rooms.take(unit, wanted)
            chosen[best] = (unit, wanted)


class _Joined:
    """Sets of names that are joined pair by pair (union by path halving)."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def find(self, name: str) -> str:
        above = self._above
        while (up := above.get(name, name)) != name:
            above[name] = above.get(up, up)
            name = above[name]
        return name

    def join(self, first: str, second: str) -> None:
        top, other = self.find(first), self.find(second)
        if top != other:
            self._above[other] = top
