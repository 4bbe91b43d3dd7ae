"""A slow rank by name, and why it is slow; one is a real process that is stopped again and again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from signs_dist.health.compute import Speed, judge, measure, reference
from signs_dist.health.finding import places_of
from tests.processes import program_command

PLACES = places_of({0: "n1", 1: "n1", 2: "n2", 3: "n2"})


def speeds(**changes: dict[str, Any]) -> dict[int, dict[str, Any]]:
    good = {"seconds": 0.01, "computed": 0.98, "waited": 0.01, "is_on_gpu": False}
    return {rank: good | changes.get(f"rank{rank}", {}) for rank in range(4)}


@pytest.mark.parametrize(
    ("changes", "status", "told", "mend"),
    [
        ({}, "ok", "the same work in 10.0 ms on each rank, the slowest 1.0 times the fastest", ""),
        ({"rank2": {"seconds": 0.02}}, "warn", "rank 2 on n2 needs 2.0 times as long", "on n2: cpupower"),
        (
            {"rank2": {"seconds": 0.09}},
            "fail",
            "rank 2 on n2 needs 9.0 times as long as the fastest: all others wait for it",
            "on n2: cpupower",
        ),
        (
            {"rank1": {"seconds": 0.09, "waited": 0.8, "computed": 0.15}},
            "warn",
            "rank 1 on n1 needs 9.0 times as long as the fastest (it waited 80 % of the time for a core)",
            "on n1: end other programs",
        ),
        (
            {"rank1": {"seconds": 0.09, "waited": None, "computed": 0.15}},  # a system that does not tell the wait
            "warn",
            "rank 1 on n1 needs 9.0 times as long as the fastest",
            "",
        ),
        (
            {"rank1": {"seconds": 0.09, "waited": None, "computed": 0.98}},
            "fail",
            "rank 1 on n1 needs 9.0 times as long as the fastest",
            "on n1: cpupower",
        ),
        (
            {"rank3": {"seconds": 0.03, "computed": 0.4, "waited": 0.05}},
            "warn",
            "rank 3 on n2 needs 3.0 times as long as the fastest (for 55 % of the time it was stopped, or asleep)",
            "kill -CONT PID",
        ),
        (
            {f"rank{rank}": {"waited": 0.5, "computed": 0.5} for rank in range(4)},
            "warn",
            "rank 0 on n1 waited 50 % of the time for a core, and no rank is much slower",
            "fewer processes",
        ),
        (
            {"rank1": {"seconds": 0.03, "is_on_gpu": True, "computed": 0.1}},
            "warn",
            "rank 1 on n1 needs 3.0 times as long as the fastest: all",
            "nvidia-smi -q -d CLOCK",
        ),
    ],
)
def test_judging(changes: dict[str, Any], status: str, told: str, mend: str) -> None:
    finding = judge(speeds(**changes), PLACES)
    assert finding.status == status
    assert told in finding.measured
    assert mend in finding.mend


def test_two_slow_ranks_of_four_are_seen() -> None:
    assert reference([1.0, 1.1, 5.0, 5.0]) == 1.0
    finding = judge(speeds(rank0={"seconds": 0.05}, rank3={"seconds": 0.05}), PLACES)
    assert "rank 0 on n1 needs 5.0" in finding.measured
    assert "rank 3 on n2 needs 5.0" in finding.measured


def test_one_rank_alone_is_compared_with_itself() -> None:
    finding = judge({0: speeds()[0]}, places_of({0: "here"}))
    assert (finding.status, finding.measured) == ("ok", "the same work in 10.0 ms on each rank")


def test_this_machine() -> None:
    speed = Speed(**measure("cpu", 0.05))
    assert speed.seconds > 0
    assert 0 < speed.computed < 1.5


MEASURE = """
import json, sys
from signs_dist.health.compute import measure
measure("cpu", 0.01)  # what is imported now is not imported while the process is stopped
print("ready", flush=True)
print(json.dumps(measure("cpu", 1.0)), flush=True)
"""


def test_a_process_that_is_stopped_again_and_again_is_found(tmp_path: Any) -> None:
    command = program_command(tmp_path, MEASURE)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        done = threading.Event()

        def stop_in_turns() -> None:
            while not done.is_set():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGSTOP)
                    time.sleep(0.25)
                    os.kill(process.pid, signal.SIGCONT)
                time.sleep(0.02)

        thread = threading.Thread(target=stop_in_turns)
        thread.start()
        try:
            reading = json.loads(process.stdout.readline())
        finally:
            done.set()
            thread.join(5)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
    speed = Speed(**reading)
    assert speed.waited is not None
    assert 1 - speed.computed - speed.waited > 0.3
    fast = {"seconds": speed.seconds / 4, "computed": 1.0, "waited": 0.0, "is_on_gpu": False}
    finding = judge({0: fast, 1: fast, 2: reading}, places_of(dict.fromkeys(range(3), "here")))
    assert finding.status in ("warn", "fail")
    assert finding.measured.startswith("rank 2 needs 4.0 times as long as the fastest (for ")
    assert "of the time it was stopped, or asleep" in finding.measured
    assert sys.platform == "linux"
