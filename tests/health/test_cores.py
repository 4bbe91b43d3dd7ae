"""Cores: too few, granted by half, or kept busy by others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from signs_dist.environment.context import read_context
from signs_dist.health.cores import Cores, judge, judge_machine, read_busy, read_cores
from signs_dist.health.finding import places_of

FREE = {"machine": 8, "affinity": 8, "cgroup": None, "slurm": None, "usable": 8, "num_sharing": 1, "num_threads": 8}


@pytest.mark.parametrize(
    ("changes", "busy", "status", "told"),
    [
        ({}, 0.1, "ok", "8 on this machine, affinity 8, control group no limit, others keep 0.1 busy; 8 threads"),
        ({}, None, "ok", "8 on this machine"),
        ({"num_sharing": 10}, 0.0, "warn", "10 ranks share 8 cores: they take turns"),
        ({}, 7.6, "warn", "other programs keep 7.6 of 8 cores busy"),
        ({"slurm": 4, "usable": 4}, 0.0, "warn", "SLURM granted 4 cores, and this process may run on 8"),
        ({"cgroup": 2.5, "usable": 3}, 0.0, "warn", "the control group grants 2.5 cores, and 8 threads compute"),
        ({"cgroup": 2.0, "usable": 2, "num_threads": 2}, 0.0, "ok", "control group 2 cores"),
    ],
)
def test_judging(changes: dict[str, Any], busy: float | None, status: str, told: str) -> None:
    finding = judge_machine(Cores(**(FREE | changes)), busy)
    assert finding.status == status
    assert told in finding.measured
    assert bool(finding.mend) == (status == "warn")


def test_the_busy_machine_is_named() -> None:
    found = judge({0: FREE, 1: FREE, 2: FREE}, {0: 0.0, 2: 3.0}, places_of({0: "n1", 1: "n1", 2: "n2"}))
    assert [each.measured.partition(":")[0] for each in found if each.status == "warn"] == ["n2"]


def test_this_machine() -> None:
    assert Cores(**read_cores(read_context())).usable >= 1


def test_a_program_that_keeps_a_core_busy_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            seen = read_busy(0.5)
        finally:
            busy.kill()
    assert seen is None or seen > 0.3
