"""How long threads wait for a core, and when it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signs_dist.environment import core_wait
from signs_dist.environment.core_wait import CoreWait, CoreWatch, describe_wait, parse_waited


def test_the_second_number_of_schedstat_is_the_wait_in_nanoseconds() -> None:
    assert parse_waited("5093815041 2500000000 417\n") == 2.5


@pytest.mark.parametrize("text", ["", "1 2\n", "1 2 3 4", "a b c"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedstat|invalid literal"):
        parse_waited(text)


@pytest.mark.parametrize(
    ("waited", "elapsed", "num_threads", "num_processes", "told"),
    [
        (0.0, 60.0, 2, 1, None),
        (29.0, 60.0, 2, 1, None),  # less than half of the time
        (9.0, 9.9, 2, 1, None),  # too short a look
        (
            *(30.0, 60.0, 2, 1),
            "waited 50 % of the time for a core, so a step takes about 2.0 times its processor time. What helps: fewer "
            "threads (OMP_NUM_THREADS=1), OMP_WAIT_POLICY=PASSIVE or a machine with free cores",
        ),
        (
            *(45.0, 60.0, 1, 1),
            "waited 75 % of the time for a core, so a step takes about 4.0 times its processor time. What helps: a "
            "machine with free cores",
        ),
        (
            *(54.0, 60.0, 1, 2),
            "waited 90 % of the time for a core, so a step takes about 10.0 times its processor time. What helps: "
            "fewer processes or a machine with free cores",
        ),
        (61.0, 60.0, 1, 1, "waited 99 % of the time"),  # the two are not read at the same moment
    ],
)
def test_what_is_told(waited: float, elapsed: float, num_threads: int, num_processes: int, told: str | None) -> None:
    found = describe_wait(waited, elapsed, num_threads, num_processes)
    assert found == "" if told is None else f"in the last {elapsed:.0f} s a thread of this process {told}" in found


def test_the_thread_that_waited_longest_counts() -> None:
    earlier = CoreWait(100.0, {1: 5.0, 2: 7.0})
    assert CoreWait(110.0, {1: 6.0, 2: 9.5, 3: 1.0}).longest_since(earlier) == 2.5
    assert CoreWait(110.0, {3: 4.0}).longest_since(earlier) == 4.0
    assert CoreWait(110.0, {}).longest_since(earlier) == 0.0


def test_the_waits_of_this_process_are_read() -> None:
    found = CoreWait.read()
    if found is None:
        pytest.skip("this system has no schedstats")
    assert threading.get_native_id() in found.waited_seconds
    assert all(seconds >= 0 for seconds in found.waited_seconds.values())


def test_a_system_without_these_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tasks in (tmp_path / "missing", tmp_path):
        monkeypatch.setattr(core_wait, "_TASKS", tasks)
        assert CoreWait.read() is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "schedstat").write_text("odd")
    assert CoreWait.read() is None
    assert CoreWatch(2, 1).look() == ""


def reading(*waits: tuple[float, float]) -> Callable[[], CoreWait | None]:
    """Readings at these (seconds before now, seconds waited)."""
    now = time.monotonic()
    left: Iterator[tuple[float, float]] = iter(waits)

    def read() -> CoreWait | None:
        before, waited = next(left)
        return CoreWait(now - before, {1: waited})

    return read


def test_a_long_wait_is_told_once() -> None:
    watch = CoreWatch(1, 1, reading((120.0, 0.0), (90.0, 1.0), (60.0, 25.0), (30.0, 50.0)))
    assert watch.look() == ""  # 1 of 30 s
    assert "in the last 30 s a thread of this process waited 80 % of the time" in watch.look()
    assert watch.look() == ""


def test_a_look_soon_after_another_reads_nothing() -> None:
    assert CoreWatch(1, 1, reading((1.0, 0.0))).look() == ""
