"""Clocks of machines: one that is off is named."""

from __future__ import annotations

import pytest

from signs_dist.health.clocks import judge
from signs_dist.health.finding import places_of

PLACES = places_of({0: "n1", 1: "n2", 2: "n3"})


@pytest.mark.parametrize(
    ("offset", "status", "told"),
    [
        ((0.001, 0.0001), "ok", "2 machines differ by at most 1.0 ms"),
        ((3.0, 2.0), "ok", "2 machines differ"),
        ((5.0, 0.001), "warn", "the clock of n2 is 5.0 s behind the clock of n1"),
        ((90.0, 0.001), "fail", "the clock of n2 is 90.0 s behind the clock of n1"),
        ((-90.0, 0.001), "fail", "the clock of n2 is 90.0 s ahead of the clock of n1"),
    ],
)
def test_judging(offset: tuple[float, float], status: str, told: str) -> None:
    (finding,) = judge({1: offset}, PLACES)
    assert finding.status == status
    assert told in finding.measured
    assert ("on n2: sudo chronyc makestep" in finding.mend) == (status != "ok")


def test_one_machine_has_one_clock() -> None:
    assert judge({}, PLACES)[0].status == "skip"


def test_only_the_wrong_clock_is_named() -> None:
    found = judge({1: (90.0, 0.001), 2: (0.0, 0.001)}, PLACES)
    assert ["n2" in each.measured for each in found] == [True]
