"""How busy other programs keep the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signs_dist.environment.core_use import (
    CoreUse,
    count_running,
    describe_busy_cores,
    let_threads_sleep,
    parse_busy_ticks,
    parse_running,
    set_waiting,
    should_sleep,
    told_busy_cores,
)

STAT = """cpu  110 20 30 4000 5 6 7 0 0 0
cpu0 100 10 20 2000 5 6 7 0 0 0
cpu1 10 10 10 2000 0 0 0 0 0 0
intr 1 2 3
ctxt 99
"""


@pytest.mark.parametrize(("cores", "ticks"), [({0}, 130), ({1}, 30), ({0, 1}, 160), ({0, 7}, 130), (set(), 0)])
def test_ticks_of_the_cores_that_may_be_used(cores: set[int], ticks: int) -> None:
    assert parse_busy_ticks(STAT, cores) == ticks


@pytest.mark.parametrize(
    ("elapsed", "all_seconds", "own_seconds", "others"),
    [
        (2.0, 4.0, 2.0, 1.0),
        (2.0, 2.0, 2.0, 0.0),
        (2.0, 1.9, 2.0, 0.0),  # the two are not read at the same moment
        (1.0, 63.0, 1.0, 62.0),
        (0.01, 4.0, 2.0, None),
    ],
)
def test_what_others_use_is_all_but_ones_own(
    elapsed: float, all_seconds: float, own_seconds: float, others: float | None
) -> None:
    earlier = CoreUse(100.0, 50.0, 20.0)
    assert CoreUse(100.0 + elapsed, 50.0 + all_seconds, 20.0 + own_seconds).others_since(earlier) == others


@pytest.mark.parametrize(
    ("others", "num_cores", "num_threads", "told"),
    [
        (0.0, 2, 2, ""),
        (0.4, 2, 2, ""),
        (1.0, 2, 2, "other programs keep 1.0 of the 2 cores busy: training is slower for it"),
        (1.0, 2, 1, ""),
        (2.02, 2, 1, "other programs keep 2.0 of the 2 cores busy: training is slower for it"),
        (30.0, 64, 32, ""),
        (50.0, 64, 32, "other programs keep 50.0 of the 64 cores busy: training is slower for it"),
        (None, 2, 2, ""),
    ],
)
def test_when_it_is_told(others: float | None, num_cores: int, num_threads: int, told: str) -> None:
    assert describe_busy_cores(others, num_cores, num_threads) == told


def test_a_busy_program_is_seen() -> None:
    core, before = min(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    code = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    os.sched_setaffinity(0, {core})  # the program that is started inherits it
    busy = subprocess.Popen([sys.executable, "-c", code])
    try:
        earlier = CoreUse.read()
        time.sleep(1)
        assert told_busy_cores(earlier, 1).endswith("of the 1 cores busy: training is slower for it")
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)


def test_a_system_without_proc_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert CoreUse.read() is None
    assert told_busy_cores(CoreUse(0.0, 0.0, 0.0), 1) == ""


@pytest.mark.parametrize(
    ("num_others", "machine_cores", "usable_cores", "is_asleep"),
    [(0, 2, 2, False), (1, 2, 2, True), (1, 2, 1, False), (10, 64, 32, False), (33, 64, 32, True), (99, 64, 32, True)],
)
def test_when_threads_sleep(num_others: int, machine_cores: int, usable_cores: int, is_asleep: bool) -> None:
    assert should_sleep(num_others, machine_cores, usable_cores) is is_asleep


@pytest.mark.parametrize(
    ("num_running", "environment", "modules", "policy"),
    [
        (10_000, {}, {}, "PASSIVE"),
        (10_000, {"OMP_NUM_THREADS": "4"}, {"numpy": 1}, "PASSIVE"),
        (10_000, {"OMP_WAIT_POLICY": "ACTIVE"}, {}, "ACTIVE"),
        (10_000, {"GOMP_SPINCOUNT": "1000"}, {}, None),
        (10_000, {"KMP_BLOCKTIME": "200"}, {}, None),
        (10_000, {}, {"torch": 1}, None),
        (1, {}, {}, None),
    ],
)
def test_threads_sleep_beside_busy_programs_unless_a_person_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    num_running: int,
    environment: dict[str, str],
    modules: dict[str, object],
    policy: str | None,
) -> None:
    monkeypatch.setattr("signs_dist.environment.core_use.count_running", lambda: num_running)
    set_waiting(environment, modules)
    assert environment.get("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize(
    ("environment", "modules", "policy"),
    [({}, {}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, {}, "ACTIVE"), ({}, {"torch": 1}, None)],
)
def test_threads_sleep_where_a_command_wants_it(
    environment: dict[str, str], modules: dict[str, object], policy: str | None
) -> None:
    let_threads_sleep(environment, modules)
    assert environment.get("OMP_WAIT_POLICY") == policy


def test_processes_that_are_about_to_start_count_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.environment.core_use.count_running", lambda: 1)
    environment: dict[str, str] = {}
    set_waiting(environment, {}, num_siblings=10_000)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(("text", "number"), [(STAT + "procs_running 7\nprocs_blocked 1\n", 7), (STAT, 1), ("", 1)])
def test_programs_that_want_a_core(text: str, number: int) -> None:
    assert parse_running(text) == number
    assert count_running() >= 1


def test_a_command_chooses_before_it_imports_torch() -> None:
    code = (
        "import os, sys\nfrom signs_dist.environment import core_use\ncore_use.count_running = lambda: 10_000\n"
        "from signs_dist.console.command import run_command\n"
        "sys.exit(run_command(lambda _: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY']), []))"
    )
    repository = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "False PASSIVE\n"
