"""Measuring several ways to do the same, in short rounds that take turns: a drift of the machine's speed meets all."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

NUM_ROUNDS = 5
CLEAR = 1.05
"""A way counts as faster than another from this factor on."""

Work = Callable[[int], None]
"""Does so many steps, and returns when they are computed."""
Share = Callable[[Any], Any]
"""Gives the value of rank 0 on all processes: they must do the same number of steps."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """The seconds of a step over several rounds.

    Attributes:
        seconds: the median.
        least, most: of the fastest round and of the slowest.
        num_steps: steps of a round.
        num_rounds: how many rounds were measured.
    """

    seconds: float
    least: float
    most: float
    num_steps: int
    num_rounds: int

    def is_clearly_faster_than(self, other: Timing) -> bool:
        """Whether its median is below that of `other` by 5 %, and below each of the rounds of `other`."""
        return self.seconds * CLEAR <= other.seconds and self.seconds < other.least


def plan_rounds(step_seconds: Mapping[str, float], seconds: float) -> tuple[int, dict[str, int]]:
    """How many rounds to measure, and how many steps a round has for each way.

    Args:
        step_seconds: name → the seconds of one step, as a first look found.
        seconds: to spend on each way.

    Returns:
        (rounds, name → steps): at least one round and one step, at most `NUM_ROUNDS` rounds.
    """
    slowest = max(step_seconds.values())
    num_rounds = max(1, min(NUM_ROUNDS, int(seconds / max(slowest, 1e-9))))
    steps = {name: max(1, int(seconds / num_rounds / max(each, 1e-9))) for name, each in step_seconds.items()}
    return num_rounds, steps


def _as_here(value: Any) -> Any:
    return value


def measure(
    ways: Mapping[str, Work],
    *,
    seconds: float,
    share: Share = _as_here,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Measure each way in rounds that take turns.

    It knows nothing of what is measured: `bench` uses it for its tables, and a trial that chooses settings can.

    Args:
        ways: name → what does the steps. Each first does a step or two that are not counted: they allocate memory and
            choose kernels.
        seconds: to spend on each way, about.
        share: gives the value of rank 0 on all processes.
        clock: gives the time in seconds.

    Returns:
        Name → timing, in the order of `ways`.
    """
    first = {}
    for name, work in ways.items():
        taken = _take(work, 1, clock)
        # A first step also allocates and chooses kernels. A slow one is not repeated: most of it is the step itself.
        first[name] = _take(work, 1, clock) if share(taken) < seconds else taken
    # By their order: names differ between processes that have other numbers of threads.
    shared = dict(zip(ways, share(list(first.values())), strict=True))
    num_rounds, steps = plan_rounds(shared, seconds)
    taken_by: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, work in ways.items():
            taken_by[name].append(_take(work, steps[name], clock) / steps[name])
    return {
        name: Timing(statistics.median(taken), min(taken), max(taken), steps[name], num_rounds)
        for name, taken in taken_by.items()
    }


def _take(work: Work, num_steps: int, clock: Callable[[], float]) -> float:
    """The seconds of `num_steps` steps."""
    started = clock()
    work(num_steps)
    return clock() - started


def fastest(timings: Mapping[str, Timing]) -> str:
    """The name of the fastest way; of equals the first."""
    return min(timings, key=lambda name: timings[name].seconds)
