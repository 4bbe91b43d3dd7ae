"""Who launched this process, and how many cores it may use: pure functions, as tables."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from signs_dist.context import (
    Launch,
    count_sharing,
    count_threads,
    count_usable_cores,
    find_launch,
    parse_cgroup_limit,
    parse_tasks_per_node,
    read_context,
    share_of_cores,
)
from signs_dist.errors import UserError

RANKS = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
BY_HAND = RANKS | {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = BY_HAND | {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
RANK_3 = Launch("environment", 3, 8, 1, 2, master_address="node1", master_port=29500)

SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_TASKS_PER_NODE": "2(x2)"}
SRUN = SLURM_JOB | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
TASK_3 = Launch("srun", 3, 4, 1, 2)
STEP_OF_TWO = {
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
NO_STEP = Launch(launch_note="local: SLURM_JOB_ID is set but no SLURM_STEP_ID")


def shell(step: str) -> Launch:
    return Launch(launch_note=f"local: SLURM_STEP_ID={step} is a shell or a batch script, not a step of srun")


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launch()),
        ({"LOCAL_RANK": "0"}, Launch()),
        ({"MASTER_ADDR": "login1", "MASTER_PORT": "any"}, Launch()),  # a site's profile
        # torchrun's variables.
        (TORCHRUN, dataclasses.replace(RANK_3, launcher="torchrun", restart_count=2, uses_agent_store=True)),
        (TORCHRUN | {"TORCHELASTIC_USE_AGENT_STORE": "False"}, Launch("torchrun", 3, 8, 1, 2, 2, "node1", 29500)),
        (BY_HAND, RANK_3),
        (BY_HAND | {"TORCHELASTIC_RUN_ID": "7"}, dataclasses.replace(RANK_3, launcher="torchrun")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Launch("environment")),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": ""}, Launch("environment")),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, Launch("environment")),
        (SRUN | BY_HAND, RANK_3),  # torchrun inside srun
        (SLURM_JOB | BY_HAND, RANK_3),
        # A step of srun's.
        (SRUN, TASK_3),
        (SRUN | {"SUBMITIT_EXECUTOR": "slurm"}, dataclasses.replace(TASK_3, launcher="submitit")),
        (SRUN | {"SLURM_TASKS_PER_NODE": "3,1", "SLURM_LOCALID": "0"}, Launch("srun", 3, 4, 0, 1)),
        (SRUN | {"SLURM_TASKS_PER_NODE": "3,1", "SLURM_NODEID": "0"}, Launch("srun", 3, 4, 1, 3)),
        (without(SRUN, "SLURM_NODEID") | {"SLURM_TASKS_PER_NODE": "4"}, Launch("srun", 3, 4, 1, 4)),
        (SRUN | STEP_OF_TWO, Launch("srun", 1, 2, 0, 1)),  # fewer tasks than the allocation holds
        (
            SRUN | {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
            dataclasses.replace(TASK_3, master_address="node1", master_port=29500),
        ),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "2"}, Launch("srun")),  # srun --pty bash
        # An allocation, but no step of srun's.
        (SLURM_JOB, NO_STEP),  # the shell that salloc opens
        (SLURM_JOB | {"SLURM_PROCID": "0"}, NO_STEP),  # a batch script
        (SLURM_JOB | {"SLURM_STEP_ID": "0"}, Launch(launch_note="local: SLURM_STEP_ID is set but no SLURM_PROCID")),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, shell("4294967291")),  # the same, as a step
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, shell("4294967290")),  # interactive step
        (SRUN | {"SLURM_STEP_ID": "interactive"}, shell("interactive")),
        (SLURM_JOB | {"SLURM_STEP_ID": "batch"}, shell("batch")),
    ],
)
def test_launches(environment: dict[str, str], expected: Launch) -> None:
    assert find_launch(environment) == expected


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RANK": "0"}, "RANK is there, WORLD_SIZE is missing. Start with torchrun or srun, or type `unset RANK`"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is there, RANK is missing"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK=''"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1'"),
        ({"RANK": "²", "WORLD_SIZE": "2"}, "RANK='²'"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, "which is not a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 of WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 of WORLD_SIZE=0"),
        (
            RANKS,
            "the environment has WORLD_SIZE=8, but these are missing: MASTER_ADDR (the machine of rank 0, such as "
            "127.0.0.1), MASTER_PORT (a free port there, such as 29500). Start with torchrun --nproc_per_node=8, which "
            "sets all of them, or export them.",
        ),
        (without(BY_HAND, "MASTER_PORT"), "WORLD_SIZE=8, but these are missing: MASTER_PORT ("),
        (BY_HAND | {"MASTER_ADDR": ""}, "WORLD_SIZE=8, but these are missing: MASTER_ADDR ("),
        (without(BY_HAND, "LOCAL_RANK"), "WORLD_SIZE=8, but these are missing: LOCAL_RANK ("),
        (without(BY_HAND, "LOCAL_WORLD_SIZE"), "WORLD_SIZE=8, but these are missing: LOCAL_WORLD_SIZE ("),
        (BY_HAND | {"MASTER_PORT": "http"}, "MASTER_PORT='http'"),
        (BY_HAND | {"MASTER_PORT": "0"}, "MASTER_PORT=0: ports go from 1 to 65535"),
        (BY_HAND | {"MASTER_PORT": "65536"}, "MASTER_PORT=65536: ports go from 1 to 65535"),
        (BY_HAND | {"LOCAL_RANK": "one"}, "LOCAL_RANK='one'"),
        (
            BY_HAND | {"LOCAL_RANK": "2"},
            "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2, WORLD_SIZE=8: LOCAL_RANK counts from 0 to LOCAL_WORLD_SIZE - 1",
        ),
        (BY_HAND | {"LOCAL_WORLD_SIZE": "9"}, "LOCAL_WORLD_SIZE is at most WORLD_SIZE. Start with torchrun"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "1"}, "LOCAL_RANK=1, LOCAL_WORLD_SIZE=1, WORLD_SIZE=1"),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT='x'"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, "SLURM_PROCID is there, SLURM_NTASKS is missing"),
        (SRUN | {"SLURM_PROCID": "4"}, "SLURM_PROCID=4 of SLURM_NTASKS=4"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "3"}, "SLURM_PROCID=3 of SLURM_STEP_NUM_TASKS=3"),
        (without(SRUN, "SLURM_LOCALID"), "SLURM_NTASKS=4, but SLURM_LOCALID is missing. Start with srun"),
        (without(SRUN, "SLURM_TASKS_PER_NODE"), "SLURM_NTASKS=4, but SLURM_TASKS_PER_NODE is missing"),
        (
            SRUN | {"SLURM_TASKS_PER_NODE": "2(x"},
            "SLURM_TASKS_PER_NODE='2(x' and SLURM_NODEID=1: it has to say how many",
        ),
        (SRUN | {"SLURM_TASKS_PER_NODE": "4"}, "SLURM_TASKS_PER_NODE='4' and SLURM_NODEID=1"),
        (SRUN | {"SLURM_LOCALID": "2"}, "SLURM_LOCALID=2, SLURM_TASKS_PER_NODE=2, SLURM_NTASKS=4"),
        (SRUN | {"SLURM_LOCALID": "-1"}, "SLURM_LOCALID='-1'"),
        (SRUN | {"SLURM_TASKS_PER_NODE": "5(x2)"}, "SLURM_TASKS_PER_NODE is at most SLURM_NTASKS. Start with srun"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(environment: dict[str, str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        find_launch(environment)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("4", [4, None]),
        ("2(x3)", [2, 2, 2, None]),
        ("2(x2),1", [2, 2, 1, None]),
        ("3,2(x2)", [3, 2, 2, None]),
        ("1(x999999999)", [1, 1]),
        ("", [None]),
        ("2,", [None]),
        ("2(x)", [None]),
        ("2x3", [None]),
    ],
)
def test_tasks_per_node(text: str, nodes: list[int | None]) -> None:
    assert [parse_tasks_per_node(text, node) for node in range(len(nodes))] == nodes


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
        ("srun", 4, 96, 96, "8", 4),  # nothing is
        ("srun", 4, 8, 96, None, 4),
        ("srun", 4, 8, 96, "", 4),
        ("srun", 4, 1, 96, "8", 1),  # srun forgot --cpus-per-task: one core for each
        ("srun", 2, 4, 96, "3", 1),  # SLURM rounds up to whole cores of two threads
        ("srun", 1, 8, 96, "8", 1),
    ],
)
def test_who_shares_the_cores(
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


@pytest.fixture
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in BY_HAND or name.startswith(("SLURM_", "SUBMITIT_", "TORCHELASTIC_", "CUDA_VISIBLE_DEVICES")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("_no_launcher")
def test_the_context_of_this_process_is_frozen() -> None:
    context = read_context()
    assert (context.launcher, context.rank, context.world_size, context.is_terminal) == ("python", 0, 1, False)
    assert (context.error_file, context.visible_devices, context.launch_note) == (None, None, "")
    assert context.usable_cores >= 1
    assert context.cores_per_process == context.usable_cores
    assert context.host
    assert context.process_id == os.getpid()
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.rank = 1  # type: ignore[misc]


@pytest.mark.usefixtures("_no_launcher")
def test_the_context_of_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/tmp/error.json")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    context = read_context()
    assert (context.launcher, context.rank, context.world_size) == ("torchrun", 3, 8)
    assert (context.local_rank, context.local_world_size, context.restart_count) == (1, 2, 2)
    assert (context.master_address, context.master_port, context.uses_agent_store) == ("node1", 29500, True)
    assert context.error_file == Path("/tmp/error.json")
    assert context.visible_devices == "4, 6"
    assert context.cores_per_process == max(1, context.usable_cores // 2) == context.num_threads
