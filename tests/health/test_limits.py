"""Limits against the need; a full /dev/shm is a real one, in a mount namespace of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from signs_dist.health.finding import Finding, places_of
from signs_dist.health.limits import (
    Amounts,
    Need,
    judge,
    judge_locked_memory,
    judge_memory,
    judge_open_files,
    judge_processes,
    judge_shared_memory,
    read_amounts,
    read_free_memory,
)
from tests.processes import printed_in_own_mounts

MIB = 2**20
NEED = Need(num_workers=4, prefetch=2, batch_bytes=10 * MIB, num_ranks=2, world_size=4)
PLENTY = Amounts(
    shared_bytes=8192 * MIB,
    is_shared_writable=True,
    open_files=65536,
    open_files_ceiling=None,
    num_open_files=10,
    locked_bytes=8 * MIB,
    locked_ceiling=8 * MIB,
    has_infiniband=False,
    processes=None,
    memory_limit=None,
    free_bytes=64 * 1024 * MIB,
)


def has(**changes: Any) -> Amounts:
    return dataclasses.replace(PLENTY, **changes)


@pytest.mark.parametrize(
    ("found", "status", "told", "mend"),
    [
        (judge_shared_memory(PLENTY, NEED), "ok", "8,192 MiB free", ""),
        (judge_shared_memory(has(shared_bytes=100 * MIB), NEED), "fail", "100 MiB free", "--shm-size"),
        (judge_shared_memory(has(shared_bytes=200 * MIB), NEED), "warn", "200 MiB free", "remount"),
        (judge_shared_memory(has(is_shared_writable=False), NEED), "fail", "may not write", "chmod 1777 /dev/shm"),
        (judge_shared_memory(has(shared_bytes=None), NEED), "skip", "does not say", ""),
        (judge_open_files(PLENTY, NEED), "ok", "at most 65,536", ""),
        (judge_open_files(has(open_files=64), NEED), "fail", "at most 64 (ulimit -n)", "ulimit -n 4096"),
        (judge_open_files(has(open_files=64, open_files_ceiling=64), NEED), "fail", "at most 64", "limits.conf"),
        (judge_open_files(has(open_files=None), NEED), "ok", "no limit", ""),
        (judge_locked_memory(PLENTY, NEED), "ok", "no InfiniBand", ""),
        (judge_locked_memory(has(has_infiniband=True), NEED), "fail", "at most 8 MiB (ulimit -l)", "LimitMEMLOCK"),
        (
            judge_locked_memory(has(has_infiniband=True, locked_ceiling=None), NEED),
            "fail",
            "at most 8 MiB",
            "ulimit -l unlimited",
        ),
        (judge_locked_memory(has(has_infiniband=True, locked_bytes=None), NEED), "ok", "no limit", ""),
        (judge_processes(has(processes=100), NEED), "warn", "at most 100 of this user", "ulimit -u"),
        (judge_processes(has(processes=4000), NEED), "ok", "at most 4,000", ""),
        (judge_memory(PLENTY, NEED), "ok", "65,536 MiB free", ""),
        (judge_memory(has(free_bytes=500 * MIB), NEED), "warn", "500 MiB free", "fewer processes"),
        (judge_memory(has(memory_limit=4096 * MIB), NEED), "warn", "4,096 MiB of addresses", "ulimit -v unlimited"),
        (judge_memory(has(free_bytes=None), NEED), "skip", "does not say", ""),
    ],
)
def test_judging(found: Finding, status: str, told: str, mend: str) -> None:
    assert found.status == status
    assert told in found.measured
    assert mend in found.mend
    assert bool(found.mend) == (status in ("warn", "fail"))


def test_the_machine_with_little_is_named() -> None:
    readings = {0: vars(PLENTY), 1: vars(has(shared_bytes=MIB))}
    found = judge(readings, places_of({0: "n1", 1: "n2"}), [0, 1], NEED)
    assert [(each.check, each.measured) for each in found if each.status == "fail"] == [("/dev/shm", "n2: 1 MiB free")]


def test_this_machine() -> None:
    found = judge({0: read_amounts()}, places_of({0: "here"}), [0], Need(1, 2, 100_000, 1, 1))
    assert [each.status for each in found if each.status == "fail"] == []


def test_free_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    7 kB\n")
    nothing, limit = tmp_path / "nothing", tmp_path / "memory.max"
    assert read_free_memory(tmp_path / "meminfo", nothing) == 7 * 1024
    assert read_free_memory(nothing, nothing) is None
    for text, expected in (("4096\n", 4096), ("99999\n", 7 * 1024), ("max\n", 7 * 1024)):
        limit.write_text(text)
        assert read_free_memory(tmp_path / "meminfo", limit) == expected, text


READ = (
    "import json; from signs_dist.environment.worker_limits import read_limits; print(json.dumps(vars(read_limits())))"
)
"""Without torch, whose import takes seconds."""


def test_a_full_shared_memory_is_found() -> None:
    setup = "mount -t tmpfs -o size=1m tmpfs /dev/shm && head -c 1000k /dev/zero > /dev/shm/full"
    seen = json.loads(printed_in_own_mounts(setup, READ))
    finding = judge_shared_memory(has(shared_bytes=seen["shared_bytes"]), NEED)
    assert (finding.status, finding.measured) == ("fail", "0 MiB free")
    assert "docker run --shm-size" in finding.mend
