"""Who recomputes what, and which process is named when two results differ. Pure functions.

At a check each process recomputes one micro-batch of another one. Over time each process recomputes for each other one,
and each micro-batch is recomputed: see `recomputations`. What all processes have a copy of is compared as well.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from signs_dist.data.plan import MicroBatches, Shard

REPLICAS = ("the weights", "the buffers", "the optimizer's state", "the average of the weights")
"""What each process has a copy of, in the order in which it is looked at."""
IMAGES, GRADIENT = "the images", "the gradient"
RECEIVED = "what it received of the other processes' sums"

Sums = tuple[int, ...]
"""The bit sums of something; see `bit_sums`."""


@dataclasses.dataclass(frozen=True)
class Recomputation:
    """A micro-batch of a step that is computed twice.

    Attributes:
        number: of the micro-batch in the step.
        owner: the rank whose micro-batch it is.
        checker: the rank that computes it again.
    """

    number: int
    owner: int
    checker: int


@dataclasses.dataclass(frozen=True)
class Row:
    """What one process found at a check.

    Attributes:
        own: of its own micro-batch that another process recomputes: bit sums of (images, gradient).
        again: of the micro-batch that it has recomputed for another process.
        replicas: of each of `REPLICAS`.
    """

    own: tuple[Sums, Sums]
    again: tuple[Sums, Sums]
    replicas: tuple[Sums, ...]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Row:
        """From all sums in a row: two for each."""
        pairs = [tuple(numbers[start : start + 2]) for start in range(0, len(numbers), 2)]
        return cls((pairs[0], pairs[1]), (pairs[2], pairs[3]), tuple(pairs[4:]))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Which processes computed something else than the others.

    Attributes:
        ranks: their ranks.
        is_certain: whether all of them did. False: at least one of them.
        what: what differs.
    """

    ranks: tuple[int, ...]
    is_certain: bool
    what: str


def recomputations(check: int, micro_batches: MicroBatches, world_size: int) -> list[Recomputation]:
    """What each rank recomputes at a check, by rank. One process recomputes its own micro-batches.

    In world_size - 1 checks each rank recomputes for each other rank once; then the next micro-batch of each has its
    turn.

    Args:
        check: its number in the run.
        micro_batches: of a step.
        world_size: number of processes.
    """
    num_others = max(1, world_size - 1)
    distance, turn = (1 + check % num_others) % world_size, check // num_others
    found = []
    for checker in range(world_size):
        owner = (checker + distance) % world_size
        own = micro_batches.of(Shard(owner, world_size))
        found.append(Recomputation(own[turn % len(own)], owner, checker))
    return found


def compare_replicas(rows: Sequence[Row]) -> Verdict | None:
    """Compare what all processes have a copy of; None if all copies are equal. More than half of them are right."""
    odd: dict[int, list[str]] = {}
    for name, values in zip(REPLICAS, zip(*(row.replicas for row in rows), strict=True), strict=True):
        most, count = collections.Counter(values).most_common(1)[0]
        if count == len(rows):
            continue
        if count * 2 <= len(rows):
            return Verdict(tuple(range(len(rows))), False, name)
        for rank, value in enumerate(values):
            if value != most:
                odd.setdefault(rank, []).append(name)
    if not odd:
        return None
    names = {name for each in odd.values() for name in each}
    return Verdict(tuple(sorted(odd)), True, _listed([name for name in REPLICAS if name in names]))


def compare_received(digests: Sequence[str]) -> Verdict | None:
    """Compare the digests of all sums, as each process has received them; None if all have received the same."""
    most, count = collections.Counter(digests).most_common(1)[0]
    odd = tuple(rank for rank, digest in enumerate(digests) if digest != most)
    if not odd:
        return None
    is_certain = count * 2 > len(digests)
    return Verdict(odd if is_certain else tuple(range(len(digests))), is_certain, RECEIVED)


def find_disputes(rows: Sequence[Row], tasks: Sequence[Recomputation]) -> list[Recomputation]:
    """The micro-batches whose two results differ."""
    return [task for task in tasks if rows[task.owner].own != rows[task.checker].again]


def choose_thirds(disputes: Sequence[Recomputation], world_size: int) -> dict[int, int]:
    """Which rank computes each disputed micro-batch for the third time: number of the micro-batch → rank.

    It is neither the owner nor the checker, and a rank without a dispute of its own where there is one. Two processes
    have no third one.
    """
    involved = {rank for each in disputes for rank in (each.owner, each.checker)}
    found = {}
    for each in disputes:
        others = [rank for rank in range(world_size) if rank not in (each.owner, each.checker)]
        if others:
            found[each.number] = min(others, key=lambda rank: (rank in involved, rank))
    return found


def settle(disputes: Sequence[Recomputation], rows: Sequence[Row], thirds: Mapping[int, tuple[Sums, Sums]]) -> Verdict:
    """Who computed something else, by the third result of each disputed micro-batch.

    Args:
        disputes: at least one.
        rows: of all ranks.
        thirds: number of a micro-batch → what the third process found; none for two processes.
    """
    certain: set[int] = set()
    open_ones: list[tuple[int, ...]] = []
    names = []
    for each in disputes:
        own, again, third = rows[each.owner].own, rows[each.checker].again, thirds.get(each.number)
        names.append(f"{IMAGES if own[0] != again[0] else GRADIENT} of micro-batch {each.number}")
        if third == again:
            certain.add(each.owner)
        elif third == own:
            certain.add(each.checker)
        else:
            open_ones.append((each.owner, each.checker))
    what = _listed(list(dict.fromkeys(names)))
    unexplained = {rank for pair in open_ones if not certain & set(pair) for rank in pair}
    if len(rows) == 1:
        return Verdict((0,), True, what)
    if unexplained and not certain:
        return Verdict(tuple(sorted(unexplained)), False, what)
    return Verdict(tuple(sorted(certain)), True, what)


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])
