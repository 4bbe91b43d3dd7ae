"""How long threads wait for a core, and when it is told."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from signs_dist.environment import core_wait
from signs_dist.environment.core_use import CoreUse
from signs_dist.environment.core_wait import (
    CoreWait,
    CoreWatch,
    describe_wait,
    fitting_threads,
    list_remedies,
    parse_waited,
)


def test_the_second_number_of_schedstat_is_the_wait_in_nanoseconds() -> None:
    assert parse_waited("5093815041 2500000000 417\n") == 2.5


@pytest.mark.parametrize("text", ["", "1 2\n", "1 2 3 4", "a b c"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedstat|invalid literal"):
        parse_waited(text)


FREE = "a machine with free cores"


@pytest.mark.parametrize(
    ("num_threads", "num_processes", "setting", "is_exact", "policy", "remedies"),
    [
        (2, 1, "auto", False, None, ["OMP_WAIT_POLICY=PASSIVE", "fewer threads (OMP_NUM_THREADS=1)", FREE]),
        (2, 1, 2, False, None, ["OMP_WAIT_POLICY=PASSIVE", "fewer threads (train.num_threads=1)", FREE]),
        (2, 1, "auto", False, "PASSIVE", [FREE]),  # as at the start of a run: two threads get more than one
        (2, 1, "auto", False, "passive", [FREE]),
        (2, 1, "auto", False, "ACTIVE", ["OMP_WAIT_POLICY=PASSIVE", "fewer threads (OMP_NUM_THREADS=1)", FREE]),
        (2, 1, 2, True, None, ["OMP_WAIT_POLICY=PASSIVE", FREE]),  # fewer threads would give another result
        (1, 1, "auto", False, None, [FREE]),
        (1, 2, "auto", False, None, ["fewer processes", FREE]),
        (
            *(2, 2, "auto", False, None),
            ["OMP_WAIT_POLICY=PASSIVE", "fewer threads (OMP_NUM_THREADS=1)", "fewer processes", FREE],
        ),
    ],
)
def test_what_helps(
    num_threads: int, num_processes: int, setting: int | str, is_exact: bool, policy: str | None, remedies: list[str]
) -> None:
    found = list_remedies(num_threads, num_processes, threads_setting=setting, is_exact=is_exact, policy=policy)
    assert found == remedies


@pytest.mark.parametrize(
    ("waited", "elapsed", "remedies", "told"),
    [
        (0.0, 60.0, [FREE], None),
        (29.0, 60.0, [FREE], None),  # less than half of the time
        (9.0, 9.9, [FREE], None),  # too short a look
        (
            *(30.0, 60.0, ["OMP_WAIT_POLICY=PASSIVE", FREE]),
            "waited 50 % of the time for a core, so a step takes about 2.0 times its processor time. What helps: "
            "OMP_WAIT_POLICY=PASSIVE or a machine with free cores",
        ),
        (
            *(54.0, 60.0, [FREE]),
            "waited 90 % of the time for a core, so a step takes about 10.0 times its processor time. What helps: "
            "a machine with free cores",
        ),
        (
            *(45.0, 60.0, ["OMP_WAIT_POLICY=PASSIVE", "fewer processes", FREE]),
            "4.0 times its processor time. What helps: OMP_WAIT_POLICY=PASSIVE, fewer processes or a machine with",
        ),
        (61.0, 60.0, [FREE], "waited 99 % of the time"),  # the two are not read at the same moment
    ],
)
def test_what_is_told(waited: float, elapsed: float, remedies: list[str], told: str | None) -> None:
    found = describe_wait(waited, elapsed, remedies)
    assert (told or "") in found
    assert bool(found) == (told is not None)
    assert not found or found.startswith(
        f"too few cores are free: in the last {elapsed:.0f} s a thread of this process"
    )


def test_a_forked_process_reads_its_own_threads() -> None:
    # Each worker of launch.local is a fork. It must not tell of the threads of the process that it was forked from.
    code = (
        "import os, threading\nfrom signs_dist.environment.core_wait import CoreWait\n"
        "end = threading.Event()\nthreading.Thread(target=end.wait).start()\n"
        "if os.fork() == 0:\n    print(list(CoreWait.read().waited_seconds) == [os.getpid()], flush=True)\n"
        "    os._exit(0)\nos.wait()\nend.set()"
    )
    if CoreWait.read() is None:
        pytest.skip("this system has no schedstats")
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


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
    assert CoreWatch(2, lambda num_threads: [FREE], may_change=True).look() == ""


@pytest.mark.parametrize(
    ("num_threads", "most", "wait_share", "others", "num_cores", "fitting"),
    [
        (2, 2, 0.6, 1.0, 2, 1),
        (2, 2, 0.9, 2.0, 2, 1),  # no core is free: one thread at least
        (2, 2, 0.4, 1.0, 2, 2),  # not for long
        (2, 2, 0.6, 0.2, 2, 2),  # others are not the reason
        (64, 64, 0.6, 24.0, 64, 40),
        (64, 64, 0.6, 63.0, 64, 1),
        (1, 2, 0.0, 0.1, 2, 2),  # free again
        (1, 2, 0.0, 1.0, 2, 1),
        (1, 2, 0.2, 0.1, 2, 1),
        (40, 64, 0.05, 10.0, 64, 54),
        (40, 64, 0.05, 0.0, 128, 64),  # never more than at the start
    ],
)
def test_how_many_threads_fit(
    num_threads: int, most: int, wait_share: float, others: float, num_cores: int, fitting: int
) -> None:
    found = fitting_threads(num_threads, most, wait_share=wait_share, others=others, num_cores=num_cores, num_sharing=1)
    assert found == fitting


@pytest.mark.parametrize(
    ("num_cores", "num_sharing", "most", "outside", "fitting"),
    [(4, 2, 2, 1.0, 1), (64, 4, 16, 8.0, 14), (64, 4, 16, 64.0, 1), (8, 2, 4, 0.3, 4)],
)
def test_processes_that_share_cores_take_their_share_and_stay_with_it(
    num_cores: int, num_sharing: int, most: int, outside: float, fitting: int
) -> None:
    # They all look at the same time, and see the others of the run among the busy programs.
    def look(num_threads: int, wait_share: float, outside: float) -> int:
        others = outside + (num_sharing - 1) * num_threads
        return fitting_threads(
            *(num_threads, most), wait_share=wait_share, others=others, num_cores=num_cores, num_sharing=num_sharing
        )

    assert look(most, 0.6, outside) == fitting
    assert look(fitting, 0.0, outside) == fitting
    assert look(fitting, 0.0, 0.0) == most


def test_the_watch_of_one_of_two_processes_leaves_the_other_its_cores() -> None:
    # Of 4 cores another program keeps one busy, and the other process of the run two, and then one.
    looks = [(60.0, 0.0, 0.0), (30.0, 20.0, 90.0), (1.0, 20.0, 148.0)]
    watch = make_watch(looks, num_cores=4, num_sharing=2)
    assert watch.look().endswith("Training continues with 1 thread until more cores are free")
    assert (watch.look(), watch.num_threads) == ("", 1)


def make_watch(
    looks: list[tuple[float, float, float]],
    *,
    num_threads: int = 2,
    may_change: bool = True,
    num_cores: int = 2,
    num_sharing: int = 1,
) -> CoreWatch:
    """A watch. Looks are (seconds before now, seconds waited, seconds of other programs on the cores)."""
    now = time.monotonic()
    waits = iter([CoreWait(now - before, {1: waited}) for before, waited, _ in looks])
    uses = iter([CoreUse(now - before, others, 0.0) for before, _, others in looks])
    remedies = functools.partial(
        list_remedies, num_processes=1, threads_setting="auto", is_exact=not may_change, policy="PASSIVE"
    )
    return CoreWatch(
        num_threads,
        remedies,
        may_change=may_change,
        read=lambda: next(waits),
        read_use=lambda: next(uses),
        num_cores=num_cores,
        num_sharing=num_sharing,
    )


def test_a_long_wait_is_told_once() -> None:
    looks = [(120.0, 0.0, 0.0), (90.0, 1.0, 60.0), (60.0, 25.0, 120.0), (30.0, 50.0, 180.0)]
    watch = make_watch(looks, may_change=False)
    assert watch.look() == ""  # 1 of 30 s
    assert watch.look().endswith(
        "waited 80 % of the time for a core, so a step takes about 5.0 times its processor "
        "time. What helps: a machine with free cores"
    )
    assert watch.look() == ""
    assert watch.num_threads == 2


def test_threads_become_fewer_while_other_programs_use_the_cores() -> None:
    looks = [
        *((200.0, 0.0, 0.0), (170.0, 20.0, 30.0)),  # another program keeps a core busy
        *((140.0, 20.5, 60.0), (110.0, 21.0, 60.0)),  # it goes on, and ends
        *((80.0, 41.0, 90.0), (50.0, 41.0, 90.0)),  # and again
    ]
    watch = make_watch(looks)
    assert watch.look().endswith(
        "waited 67 % of the time for a core, so a step takes about 3.0 times its processor time. What helps: a machine "
        "with free cores. Training continues with 1 thread until more cores are free"
    )
    assert (watch.num_threads, watch.look(), watch.num_threads) == (1, "", 1)
    assert (watch.look(), watch.num_threads) == ("cores are free again: training continues with 2 threads", 2)
    assert (watch.look(), watch.num_threads) == ("", 1)  # told once
    assert (watch.look(), watch.num_threads) == ("", 2)


def test_where_the_use_of_cores_is_not_known_threads_stay() -> None:
    now = time.monotonic()
    waits = iter([CoreWait(now - 30.0, {1: 0.0}), CoreWait(now, {1: 20.0})])
    watch = CoreWatch(
        2, lambda num_threads: [FREE], may_change=True, read=lambda: next(waits), read_use=lambda: None, num_cores=2
    )
    assert watch.look().endswith("What helps: a machine with free cores")
    assert watch.num_threads == 2


def test_a_look_soon_after_another_reads_nothing() -> None:
    assert make_watch([(1.0, 0.0, 0.0)]).look() == ""
