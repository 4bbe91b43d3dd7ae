"""How many cores a process may use: pure functions as tables, and what the machine says."""

from __future__ import annotations

import os

import pytest

from signs_dist.environment import cores
from signs_dist.environment.cores import (
    count_sharing,
    count_threads,
    count_usable_cores,
    parse_cgroup_limit,
    read_usable_cores,
    share_of_cores,
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("150000 100000", 1.5),
        ("50000 100000", 0.5),
        ("", None),
        ("100000", None),
        ("a b", None),
        ("100000 0", None),
        ("-1 100000", None),
    ],
)
def test_control_group_limits(text: str, limit: float | None) -> None:
    assert parse_cgroup_limit(text) == limit


@pytest.mark.parametrize(
    ("affinity", "limit", "slurm_cpus", "cores"),
    [
        (8, None, None, 8),
        (8, 2.0, None, 2),
        (8, 1.5, None, 2),
        (8, 0.5, None, 1),
        (2, 16.0, None, 2),
        (1, None, None, 1),
        (96, None, 8, 8),  # SLURM granted 8, and does not confine the job
        (4, None, 32, 4),  # bound to its own share
        (8, 2.0, 4, 2),
    ],
)
def test_usable_cores(affinity: int, limit: float | None, slurm_cpus: int | None, cores: int) -> None:
    assert count_usable_cores(affinity, limit, slurm_cpus) == cores


@pytest.mark.parametrize(
    ("launcher", "local_world_size", "affinity", "machine_cores", "cpus_per_task", "expected"),
    [
        ("python", 1, 96, 96, None, 1),
        ("torchrun", 4, 96, 96, None, 4),
        ("torchrun", 4, 8, 96, "8", 4),  # torchrun in one SLURM task: its processes share the task's cores
        ("environment", 2, 8, 8, None, 2),
        ("srun", 4, 8, 96, "8", 1),  # each task is bound to its own
        ("submitit", 4, 8, 96, "8", 1),
        ("srun", 4, 32, 96, "8", 4),  # the job is confined, its tasks are not bound
        ("srun", 4, 96, 96, "8", 4),  # neither is confined or bound
        ("srun", 4, 8, 96, None, 4),
        ("srun", 4, 8, 96, "", 4),
        ("srun", 4, 1, 96, "8", 1),  # srun forgot --cpus-per-task: one core for each
        ("srun", 2, 4, 96, "3", 1),  # SLURM rounds up to whole cores of two threads
        ("srun", 1, 8, 96, "8", 1),
    ],
)
def test_how_many_processes_share_the_cores(
    launcher: str, local_world_size: int, affinity: int, machine_cores: int, cpus_per_task: str | None, expected: int
) -> None:
    assert count_sharing(launcher, local_world_size, affinity, machine_cores, cpus_per_task) == expected


@pytest.mark.parametrize(("cores", "sharing", "share"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 1), (1, 1, 1)])
def test_share_of_cores(cores: int, sharing: int, share: int) -> None:
    assert share_of_cores(cores, sharing) == share


@pytest.mark.parametrize(
    ("cores", "omp", "launcher", "sharing", "threads"),
    [
        (8, None, "python", 1, 8),
        (8, "4", "python", 1, 4),
        (8, "1", "python", 1, 1),
        (8, "96", "python", 1, 8),  # never 96 on 8
        (8, None, "torchrun", 2, 4),
        (8, "1", "torchrun", 2, 4),  # never 1 by torchrun's accident
        (8, "2", "torchrun", 2, 2),
        (8, "6", "torchrun", 2, 6),
        (8, "96", "torchrun", 2, 8),
        (8, "1", "torchrun", 1, 1),  # with one process torchrun sets nothing
        (8, "1", "torchrun", 16, 1),
        (8, "1", "environment", 2, 1),
        (8, "1", "srun", 2, 1),
        (8, None, "srun", 1, 8),
        (8, None, "environment", 3, 2),
        (2, None, "torchrun", 4, 1),
        (8, "0", "python", 1, 8),
        (8, "", "python", 1, 8),
        (8, "-2", "python", 2, 4),
        (8, "²", "python", 1, 8),
        (8, "many", "srun", 2, 4),
    ],
)
def test_threads(cores: int, omp: str | None, launcher: str, sharing: int, threads: int) -> None:
    assert count_threads(cores, omp, launcher, sharing) == threads


@pytest.mark.parametrize(
    ("cgroup_limit", "environment", "expected"),
    [
        (None, {}, 2),
        (1.0, {}, 1),
        (None, {"SLURM_CPUS_ON_NODE": "1"}, 2),  # a shell in an allocation, not a step
        (None, {"SLURM_CPUS_ON_NODE": "1", "SLURM_PROCID": "0"}, 1),
        (1.5, {"SLURM_CPUS_ON_NODE": "8", "SLURM_PROCID": "3"}, 2),
    ],
)
def test_usable_cores_of_a_machine_with_two(
    monkeypatch: pytest.MonkeyPatch, cgroup_limit: float | None, environment: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(cores, "read_cgroup_limit", lambda: cgroup_limit)
    assert read_usable_cores(environment) == expected


def test_without_affinity_masks_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(cores, "read_cgroup_limit", lambda: None)
    assert read_usable_cores({}) == 6
