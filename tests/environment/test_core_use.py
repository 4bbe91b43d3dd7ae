"""How busy other programs keep the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signs_dist.environment import core_use
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
    ("num_processes", "num_threads", "num_busy", "usable_cores", "machine_cores", "is_asleep"),
    [
        (1, 2, 0, 2, 2, False),
        (1, 2, 1, 2, 2, True),
        (1, 1, 9, 1, 2, False),  # one thread waits for no other
        (2, 1, 0, 2, 2, False),
        (2, 2, 0, 2, 2, True),  # OMP_NUM_THREADS=2 for both
        (4, 16, 0, 64, 64, False),  # a core for each thread
        (4, 16, 1, 64, 64, True),
        (4, 15, 4, 64, 64, False),
        (3, 21, 0, 64, 64, False),
        (1, 32, 10, 32, 64, False),  # the others have the cores that this process may not use
        (1, 32, 33, 32, 64, True),
        (1, 32, 99, 32, 64, True),
        (8, 8, 0, 32, 64, True),  # a job of 32 cores on a machine of 64
        (4, 8, 0, 32, 64, False),
        (4, 8, 32, 32, 64, False),
        (4, 8, 33, 32, 64, True),
    ],
)
def test_when_threads_sleep(
    num_processes: int, num_threads: int, num_busy: int, usable_cores: int, machine_cores: int, is_asleep: bool
) -> None:
    found = should_sleep(
        num_processes=num_processes,
        num_threads=num_threads,
        num_busy=num_busy,
        usable_cores=usable_cores,
        machine_cores=machine_cores,
    )
    assert found is is_asleep


def of_machine(monkeypatch: pytest.MonkeyPatch, *, cores: int, running: int) -> None:
    """A machine of so many cores, all of which may be used, where so many programs want one."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(core_use, "read_usable_cores", lambda environment: cores)
    monkeypatch.setattr(core_use, "read_affinity", lambda: cores)
    monkeypatch.setattr(core_use, "count_running", lambda: running)


@pytest.mark.parametrize(
    ("num_running", "environment", "modules", "policy"),
    [
        (10, {}, {}, "PASSIVE"),
        (10, {"OMP_NUM_THREADS": "4"}, {"numpy": 1}, "PASSIVE"),
        (3, {"OMP_NUM_THREADS": "4"}, {}, None),  # 6 of 8 cores are free
        (10, {"OMP_NUM_THREADS": "1"}, {}, None),
        (10, {"OMP_WAIT_POLICY": "ACTIVE"}, {}, "ACTIVE"),
        (10, {"GOMP_SPINCOUNT": "1000"}, {}, None),
        (10, {"KMP_BLOCKTIME": "200"}, {}, None),
        (10, {}, {"torch": 1}, None),
        (1, {}, {}, None),
        (2, {}, {}, "PASSIVE"),
    ],
)
def test_threads_sleep_beside_busy_programs_unless_a_person_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    num_running: int,
    environment: dict[str, str],
    modules: dict[str, object],
    policy: str | None,
) -> None:
    of_machine(monkeypatch, cores=8, running=num_running)
    set_waiting(environment, modules)
    assert environment.get("OMP_WAIT_POLICY") == policy


def torchrun(num_processes: int, **more: str) -> dict[str, str]:
    """The variables of a worker of torchrun, which sets OMP_NUM_THREADS to 1."""
    number = str(num_processes)
    place = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "a", "OMP_NUM_THREADS": "1"}
    return {**place, **meeting, **more}


@pytest.mark.parametrize(
    ("num_running", "environment", "num_started", "policy"),
    [
        (1, {}, 2, None),  # 4 threads each
        (1, {}, 3, None),  # 2 threads each
        (1, {"OMP_NUM_THREADS": "4"}, 2, None),
        (1, {"OMP_NUM_THREADS": "8"}, 2, "PASSIVE"),
        (2, {"OMP_NUM_THREADS": "4"}, 2, "PASSIVE"),
        (9, {"OMP_NUM_THREADS": "1"}, 8, None),
        (2, torchrun(2), None, None),  # the two at their start, and no other
        (3, torchrun(2), None, "PASSIVE"),
        (1, torchrun(2), None, None),  # the other one waits for something
        (2, torchrun(2, OMP_NUM_THREADS="8"), None, "PASSIVE"),
        (1, {"RANK": "1"}, None, None),  # incomplete: it is refused later
    ],
)
def test_processes_of_the_same_run_are_no_busy_programs_where_there_is_a_core_for_each_thread(
    monkeypatch: pytest.MonkeyPatch,
    num_running: int,
    environment: dict[str, str],
    num_started: int | None,
    policy: str | None,
) -> None:
    of_machine(monkeypatch, cores=8, running=num_running)
    environment = dict(environment)
    set_waiting(environment, {}, num_started=num_started)
    assert environment.get("OMP_WAIT_POLICY") == policy


def test_tasks_that_slurm_has_bound_count_their_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    of_machine(monkeypatch, cores=4, running=16)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "16", "SLURM_LOCALID": "3"}
    step |= {"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_TASKS_PER_NODE": "16", "SLURM_NODEID": "0"}
    environment = {**step, "SLURM_STEP_NODELIST": "a", "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_ID": "1"}
    set_waiting(environment, {})
    assert "OMP_WAIT_POLICY" not in environment
    monkeypatch.setattr(core_use, "count_running", lambda: 77)
    set_waiting(environment, {})
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    ("environment", "modules", "policy"),
    [({}, {}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, {}, "ACTIVE"), ({}, {"torch": 1}, None)],
)
def test_threads_sleep_where_a_command_wants_it(
    environment: dict[str, str], modules: dict[str, object], policy: str | None
) -> None:
    let_threads_sleep(environment, modules)
    assert environment.get("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize(("text", "number"), [(STAT + "procs_running 7\nprocs_blocked 1\n", 7), (STAT, 1), ("", 1)])
def test_programs_that_want_a_core(text: str, number: int) -> None:
    assert parse_running(text) == number
    assert count_running() >= 1


def test_a_command_chooses_before_it_imports_torch() -> None:
    code = (
        "import os, sys\nfrom signs_dist.environment import core_use\ncore_use.count_running = lambda: 10_000\n"
        "core_use.read_usable_cores = lambda environment: 2\n"
        "from signs_dist.console.command import run_command\n"
        "sys.exit(run_command(lambda _: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY']), []))"
    )
    repository = Path(__file__).resolve().parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "False PASSIVE\n"
