"""The order of tests, and which stay together."""

from __future__ import annotations

import types

import pytest

from tests import schedule
from tests.processes import REPOSITORY
from tests.schedule import FilesTogether, in_order

LISTED = sorted({*schedule.WAITING, *schedule.COMPUTING, *schedule.QUICK_FIRST})


def test_every_listed_file_is_there() -> None:
    found = [path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert [name for name in LISTED if name not in found] == []


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "WAITING", {"test_hang": 8.0, "test_queue": 20.0})
    monkeypatch.setattr(schedule, "COMPUTING", {"test_small": 6.0, "test_large": 30.0})
    monkeypatch.setattr(schedule, "QUICK_FIRST", frozenset({"test_long"}))


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ("a b", "a b"),
        ("a b!", "b! a"),
        ("a long b b!", "b! long a b"),
        ("small! other! large! large!", "large! large! small! other!"),
        ("hang! queue! queue!", "queue! queue! hang!"),
        ("large! large! large! large! hang! hang!", "hang! large! large! hang! large! large!"),
        ("hang large! queue", "large! hang queue"),
    ],
)
def test_slow_tests_come_first_and_those_that_wait_between_the_others(tests: str, expected: str) -> None:
    """`!`: it is slow."""
    words = tests.split()
    places = in_order([(f"test_{word.strip('!')}", word.endswith("!")) for word in words])
    assert sorted(places) == list(range(len(words)))
    assert " ".join(words[place] for place in places) == expected


def test_tests_of_a_file_stay_in_their_order() -> None:
    tests = [("test_large", True), ("test_other", False), ("test_hang", True), ("test_large", True)] * 5
    places = in_order(tests)
    for kind in set(tests):
        own = [place for place in places if tests[place] == kind]
        assert own == sorted(own)


def test_tests_that_wait_are_spread_over_quick_ones_too() -> None:
    tests = [("test_large", True)] * 10 + [("test_other", False)] * 3000 + [("test_queue", True)] * 10
    places = in_order(tests)
    begun = [places.index(place) for place in range(len(tests)) if tests[place][0] == "test_queue"]
    assert begun[0] == 0
    assert 1700 < begun[-1] < 1900  # of 3020


class Worker:
    """A worker of xdist, that writes down which tests it is given."""

    shutting_down = False

    def __init__(self) -> None:
        self.gateway = types.SimpleNamespace(id=str(id(self)))
        self.given: list[list[int]] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.given.append(places)

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_file_is_given_to_one_worker_and_tests_that_wait_one_by_one() -> None:
    option = types.SimpleNamespace(loadscopereorder=False)
    config = types.SimpleNamespace(option=option, getvalue=lambda name: ["2*popen"])
    plan = FilesTogether(config)
    names = ["large.py::a", "hang.py::a", "large.py::b", "large.py::c", "hang.py::b", "other.py::a", "other.py::b"]
    workers = [Worker(), Worker()]
    for worker in workers:
        plan.add_node(worker)
        plan.add_node_collection(worker, [f"tests/test_{name}" for name in names])
    plan.schedule()
    assert [worker.given for worker in workers] == [[[0, 2, 3]], [[1], [4]]]
    plan.mark_test_complete(workers[1], 1)
    assert workers[1].given[2:] == [[5, 6]]
