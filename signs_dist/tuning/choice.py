"""Decides from timings alone which way a run computes in: `train.autotune`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from signs_dist.tuning.rounds import CLEAR, Timing
from signs_dist.tuning.variants import Variant, thread_counts

NEAR = 1.25
"""A way that took more than this times the shortest time at a first look is not measured further."""
FAR = 3.0
"""The same for the way that the config sets, which the others are compared with."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a trial has found.

    Attributes:
        num_threads: of one operation on the CPU.
        channels_last: the memory format of images and weights.
        factor: how many times as fast it is as the way that the config sets; 1 for that way itself.
        num_ways: how many ways were measured.
    """

    num_threads: int
    channels_last: bool
    factor: float
    num_ways: int


def counts_to_try(setting: int | str, num_threads: Sequence[int], device_type: str) -> list[int]:
    """Numbers of threads to try, the largest first; one where a person or the device decides.

    Args:
        setting: train.num_threads.
        num_threads: that each process would have without a trial, by rank. Where they differ, as on machines of two
            kinds, each keeps its own.
        device_type: of the network. On a GPU the threads of the CPU have no part in it.
    """
    is_free = setting == "auto" and device_type == "cpu" and len(set(num_threads)) == 1
    return thread_counts(num_threads[0])[::-1] if is_free else [num_threads[0]]


def slowest_of(timings: Sequence[Timing]) -> Timing:
    """The timing of a way that several processes measured at once: a step ends when the last of them is done."""
    return dataclasses.replace(
        timings[0],
        seconds=max(timing.seconds for timing in timings),
        least=max(timing.least for timing in timings),
        most=max(timing.most for timing in timings),
    )


def choose(timings: Mapping[Variant, Timing], as_set: Variant, num_ways: int) -> Choice:
    """The way whose fastest round was the shortest: other programs only lengthen rounds.

    It is the way that the config sets, unless the other is faster by 5 % in the fastest round and in the median.

    Args:
        timings: of the ways, `as_set` among them.
        as_set: as the config sets it.
        num_ways: how many ways were looked at.
    """
    own = timings[as_set]
    faster = [way for way, timing in timings.items() if _is_faster(timing, own)]
    best = min(faster, key=lambda way: timings[way].least, default=as_set)
    return Choice(best.num_threads, best.channels_last, round(own.least / timings[best].least, 3), num_ways)


def _is_faster(timing: Timing, own: Timing) -> bool:
    return timing.least * CLEAR <= own.least and timing.seconds * CLEAR <= own.seconds
