"""A measurement that breaks or hangs is a finding, and not the end."""

from __future__ import annotations

import threading
import time

import pytest

from signs_dist.errors import UserError
from signs_dist.health.attempts import attempt, has_hanging, is_broken, split_broken
from signs_dist.health.finding import places_of


def test_what_works() -> None:
    assert attempt(lambda: [1], 5.0) == [1]
    assert not is_broken([1])


def test_what_raises() -> None:
    def broken() -> None:
        raise OSError("no such disk\nmore")

    def refused() -> None:
        raise UserError("data.root=x is not there")

    assert attempt(broken, 5.0) == {"broken": "OSError: no such disk"}
    assert attempt(refused, 5.0) == {"broken": "data.root=x is not there"}


def test_what_hangs() -> None:
    let_go = threading.Event()
    started = time.monotonic()
    reading = attempt(lambda: let_go.wait(30), 0.05)
    assert time.monotonic() - started < 5
    assert reading == {"broken": "no answer within 0.05 s"}
    assert has_hanging()
    let_go.set()
    deadline = time.monotonic() + 5
    while has_hanging() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not has_hanging()


def test_ranks_without_a_reading_are_named() -> None:
    places = places_of({0: "n1", 1: "n2", 2: "n2"})
    whole, found = split_broken(
        "compute", {0: {"a": 1}, 1: {"broken": "no answer"}, 2: {"broken": "no answer"}}, places
    )
    assert whole == {0: {"a": 1}}
    assert [(each.check, each.status, each.measured) for each in found] == [
        ("compute", "fail", "rank 1 on n2, rank 2 on n2: no answer")
    ]


@pytest.mark.parametrize("value", [None, 0.0, [], "broken"])
def test_plain_values_are_not_broken(value: object) -> None:
    assert not is_broken(value)
