"""Who launched this process, and how many cores it may use: pure functions, as tables."""

from __future__ import annotations

import dataclasses

import pytest

from signs_dist.context import count_usable_cores, find_launcher, parse_cgroup_limit, read_context
from signs_dist.errors import UserError

SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}
SRUN = SLURM_JOB | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, "python")),
        ({"LOCAL_RANK": "0"}, (0, 1, "python")),
        ({"RANK": "3", "WORLD_SIZE": "8"}, (3, 8, "torchrun")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1, "torchrun")),
        (SRUN | {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, "torchrun")),  # torchrun inside srun
        (SRUN, (3, 4, "srun")),
        (SLURM_JOB, (0, 1, "python")),  # the shell that salloc opens
        (SLURM_JOB | {"SLURM_PROCID": "0"}, (0, 1, "python")),  # a batch script
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, (0, 1, "python")),  # the same, as a step
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, (0, 1, "python")),  # interactive step
        (SRUN | {"SLURM_STEP_ID": "interactive"}, (0, 1, "python")),
    ],
)
def test_launchers(environment: dict[str, str], expected: tuple[int, int, str]) -> None:
    assert find_launcher(environment) == expected


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RANK": "0"}, "RANK is there, WORLD_SIZE is missing"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is there, RANK is missing"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK=''"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1'"),
        ({"RANK": "²", "WORLD_SIZE": "2"}, "RANK='²'"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 of WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 of WORLD_SIZE=0"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, "SLURM_PROCID is there, SLURM_NTASKS is missing"),
    ],
)
def test_a_half_set_environment_is_refused(environment: dict[str, str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        find_launcher(environment)
    assert told in str(caught.value)


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
    ("affinity", "limit", "cores"), [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.5, 1), (2, 16.0, 2), (1, None, 1)]
)
def test_usable_cores(affinity: int, limit: float | None, cores: int) -> None:
    assert count_usable_cores(affinity, limit) == cores


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"torchrun started 2 processes\. This version trains with one: start `python"):
        read_context()


def test_the_context_of_this_process_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    context = read_context()
    assert (context.launcher, context.rank, context.world_size, context.is_terminal) == ("python", 0, 1, False)
    assert context.usable_cores >= 1
    assert context.host
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.rank = 1  # type: ignore[misc]
