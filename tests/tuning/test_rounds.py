"""Rounds that take turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from signs_dist.tuning.rounds import Timing, fastest, measure, plan_rounds


@dataclasses.dataclass
class Clock:
    """A clock that only work moves."""

    now: float = 0.0
    done: list[str] = dataclasses.field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[int], None]:
        """Steps of these seconds, one after the other; the last repeats."""
        left = list(seconds)

        def run(num_steps: int) -> None:
            self.done.append(name)
            for _ in range(num_steps):
                self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.mark.parametrize(
    ("step_seconds", "seconds", "num_rounds", "steps"),
    [
        ({"a": 0.01}, 1.0, 5, {"a": 20}),
        ({"a": 0.01, "b": 0.1}, 1.0, 5, {"a": 20, "b": 2}),
        ({"a": 0.01, "b": 0.4}, 1.0, 2, {"a": 50, "b": 1}),  # a slow way shortens the rounds of all
        ({"a": 30.0}, 1.0, 1, {"a": 1}),
        ({"a": 0.0}, 1.0, 5, {"a": 200_000_000}),
    ],
)
def test_rounds_fit_into_the_seconds(
    step_seconds: dict[str, float], seconds: float, num_rounds: int, steps: dict[str, int]
) -> None:
    assert plan_rounds(step_seconds, seconds) == (num_rounds, steps)


def test_ways_take_turns_after_a_warm_up() -> None:
    clock = Clock()
    ways = {"slow first": clock.work("slow first", 0.9, 0.1), "even": clock.work("even", 0.2)}
    found = measure(ways, seconds=1.0, clock=clock)
    assert clock.done == ["slow first", "slow first", "even", "even", *(["slow first", "even"] * 5)]
    assert list(found) == ["slow first", "even"]
    assert found["slow first"].seconds == pytest.approx(0.1)
    assert (found["slow first"].num_steps, found["slow first"].num_rounds) == (2, 5)
    assert found["even"].seconds == pytest.approx(0.2)


def test_the_median_of_the_rounds_counts() -> None:
    clock = Clock()
    found = measure({"a": clock.work("a", 0.2, 0.2, 0.2, 0.3, 9.0, 0.1, 0.4)}, seconds=1.0, clock=clock)["a"]
    assert (found.seconds, found.least, found.most) == pytest.approx((0.3, 0.1, 9.0))


def test_a_very_slow_way_is_done_twice_only() -> None:
    clock = Clock()
    measure({"a": clock.work("a", 20.0)}, seconds=1.0, clock=clock)
    assert clock.done == ["a", "a"]


def test_all_processes_do_as_many_steps_as_rank_0() -> None:
    clock = Clock()
    told: list[object] = []

    def share(value: object) -> object:
        told.append(value)
        return [0.05] if isinstance(value, list) else 0.05

    found = measure({"a": clock.work("a", 0.5)}, seconds=1.0, share=share, clock=clock)
    assert told == [0.5, [0.5]]
    assert found["a"].num_steps == 4


def test_processes_may_have_other_names_for_a_way() -> None:
    # "2 threads" and "4 threads", on machines of two kinds.
    told: list[object] = []

    def of_first(value: object) -> object:
        told.append(value)
        return value

    clock = Clock()
    measure({"a": clock.work("a", 0.05)}, seconds=1.0, share=of_first, clock=clock)
    found = measure({"b": clock.work("b", 0.5)}, seconds=1.0, share=lambda value: told.pop(0), clock=clock)
    assert found["b"].num_steps == 4


def timing(seconds: float, least: float, most: float) -> Timing:
    return Timing(seconds, least, most, 1, 5)


@pytest.mark.parametrize(
    ("one", "other", "is_faster"),
    [
        (timing(1.0, 0.9, 1.1), timing(1.2, 1.1, 1.3), True),
        (timing(1.0, 0.9, 1.1), timing(1.2, 0.95, 1.3), False),  # a round of the other was as fast
        (timing(1.0, 0.9, 1.1), timing(1.04, 1.03, 1.05), False),  # by less than 5 %
        (timing(1.0, 1.0, 1.0), timing(1.0, 1.0, 1.0), False),
    ],
)
def test_when_a_way_is_clearly_faster(one: Timing, other: Timing, is_faster: bool) -> None:
    assert one.is_clearly_faster_than(other) == is_faster


def test_the_fastest_of_equals_is_the_first() -> None:
    assert fastest({"a": timing(2, 2, 2), "b": timing(1, 1, 1), "c": timing(1, 1, 1)}) == "b"
