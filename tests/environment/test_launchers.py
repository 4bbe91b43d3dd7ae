"""Who launched this process: pure functions, as tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from signs_dist.environment.launchers import LaunchedProcess, find_error_file, find_launch
from signs_dist.errors import UserError

RANKS = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
BY_HAND = RANKS | {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
TORCHRUN = BY_HAND | {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "2",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
RANK_3 = LaunchedProcess("environment", 3, 8, 1, 2, master_address="node1", master_port=29500)
BY_TORCHRUN = dataclasses.replace(RANK_3, launcher="torchrun", kill_seconds=30.0)
UUID = "1304c5c7-e6e4-4826-a42f-c7e9b60c8ca3"
"""The name that torchrun --standalone gives a launch."""

SLURM_JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_TASKS_PER_NODE": "2(x2)"}
SRUN = SLURM_JOB | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}


def task(rank: int, size: int, local_rank: int, local_size: int, step: str = "0", restarts: int = 0) -> LaunchedProcess:
    """What srun's variables for job 7 mean."""
    return LaunchedProcess(
        *("srun", rank, size, local_rank, local_size),
        restart_count=restarts,
        launch_id=f"job7.{step}",
        meeting_name=f"/7.{step}/{restarts}",
    )


TASK_3 = task(3, 4, 1, 2)
STEP_OF_TWO = {
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
NO_PROCID = LaunchedProcess(launch_note="local: SLURM_STEP_ID is set but no SLURM_PROCID")
NO_STEP = LaunchedProcess(launch_note="local: SLURM_JOB_ID is set but no SLURM_STEP_ID")


def shell(step: str) -> LaunchedProcess:
    return LaunchedProcess(launch_note=f"local: SLURM_STEP_ID={step} is a shell or a batch script, not a step of srun")


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, LaunchedProcess()),
        ({"LOCAL_RANK": "0"}, LaunchedProcess()),
        ({"MASTER_ADDR": "login1", "MASTER_PORT": "any"}, LaunchedProcess()),  # a site's profile
        # torchrun's variables.
        (TORCHRUN, dataclasses.replace(BY_TORCHRUN, restart_count=2, uses_agent_store=True)),
        (TORCHRUN | {"TORCHELASTIC_USE_AGENT_STORE": "False"}, dataclasses.replace(BY_TORCHRUN, restart_count=2)),
        (BY_HAND, RANK_3),
        (BY_HAND | {"TORCHELASTIC_RUN_ID": "7"}, BY_TORCHRUN),
        (
            BY_HAND | {"TORCHELASTIC_RUN_ID": UUID, "TORCHELASTIC_MAX_RESTARTS": "3"},
            dataclasses.replace(BY_TORCHRUN, launch_id=UUID, max_restarts=3),
        ),
        (
            BY_HAND | {"TORCHELASTIC_RUN_ID": "7", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "90"},
            dataclasses.replace(BY_TORCHRUN, kill_seconds=90.0),
        ),
        (BY_HAND | {"TORCHELASTIC_RUN_ID": "7", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "x"}, BY_TORCHRUN),
        ({"RANK": "0", "WORLD_SIZE": "1"}, LaunchedProcess("environment")),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": ""}, LaunchedProcess("environment")),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, LaunchedProcess("environment")),
        (SRUN | BY_HAND, RANK_3),  # torchrun inside srun
        (SLURM_JOB | BY_HAND, RANK_3),
        # A step of srun.
        (SRUN, TASK_3),
        (SRUN | {"SUBMITIT_EXECUTOR": "slurm"}, dataclasses.replace(TASK_3, launcher="submitit")),
        (SRUN | {"SLURM_TASKS_PER_NODE": "3,1", "SLURM_LOCALID": "0"}, task(3, 4, 0, 1)),
        (SRUN | {"SLURM_TASKS_PER_NODE": "3,1", "SLURM_NODEID": "0"}, task(3, 4, 1, 3)),
        (without(SRUN, "SLURM_NODEID") | {"SLURM_TASKS_PER_NODE": "4"}, task(3, 4, 1, 4)),
        (SRUN | {"SLURM_PTY_PORT": "4711"}, dataclasses.replace(TASK_3, launch_id="")),
        (
            SRUN
            | {
                "SLURM_JOB_NODELIST": "n[07-09],m1",
                "SLURM_STEP_NODELIST": "n[08-09]",
                "SLURM_RESTART_COUNT": "2",
                "SLURM_CLUSTER_NAME": "alps",
                "SIGNS_DIST_KILL_SECONDS": "30",
            },
            dataclasses.replace(
                task(3, 4, 1, 2, restarts=2), master_address="n08", kill_seconds=30.0, meeting_name="alps/7.0/2"
            ),
        ),
        (SRUN | STEP_OF_TWO, task(1, 2, 0, 1)),  # fewer tasks than the allocation holds
        (
            SRUN | {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
            dataclasses.replace(TASK_3, master_address="node1", master_port=29500),
        ),
        (
            SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "2"},
            task(0, 1, 0, 1, "2"),
        ),  # srun --pty bash
        # An allocation, but not a step of srun.
        (SLURM_JOB, NO_STEP),  # the shell that salloc opens
        (SLURM_JOB | {"SLURM_PROCID": "0"}, NO_STEP),  # a batch script
        (
            SLURM_JOB | {"SLURM_STEP_ID": "0"},
            LaunchedProcess(launch_note="local: SLURM_STEP_ID is set but no SLURM_PROCID"),
        ),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, shell("4294967291")),  # the same, as a step
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, shell("4294967290")),  # interactive step
        (SRUN | {"SLURM_STEP_ID": "interactive"}, shell("interactive")),
        (SLURM_JOB | {"SLURM_STEP_ID": "batch"}, shell("batch")),
    ],
)
def test_launches(environment: dict[str, str], expected: LaunchedProcess) -> None:
    assert find_launch(environment) == expected


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {"RANK": "0"},
            "the environment sets RANK but not WORLD_SIZE. Start with torchrun or srun, or for one process type: "
            "unset RANK",
        ),
        ({"WORLD_SIZE": "2"}, "the environment sets WORLD_SIZE but not RANK"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK=''"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1'"),
        ({"RANK": "²", "WORLD_SIZE": "2"}, "RANK='²'"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
        ({"RANK": "0", "WORLD_SIZE": "9" * 5000}, "which is not a whole number"),
        (
            {"RANK": "2", "WORLD_SIZE": "2"},
            "RANK=2 of WORLD_SIZE=2: ranks count from 0 to WORLD_SIZE - 1. Start with torchrun or srun, or type: "
            "unset RANK WORLD_SIZE",
        ),
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
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, "the environment sets SLURM_PROCID but not SLURM_NTASKS"),
        (SRUN | {"SLURM_PROCID": "4"}, "SLURM_PROCID=4 of SLURM_NTASKS=4"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "3"}, "SLURM_PROCID=3 of SLURM_STEP_NUM_TASKS=3"),
        (without(SRUN, "SLURM_LOCALID"), "SLURM_NTASKS=4, but SLURM_LOCALID is missing. Start with srun"),
        (without(SRUN, "SLURM_TASKS_PER_NODE"), "SLURM_NTASKS=4, but SLURM_TASKS_PER_NODE is missing"),
        (
            SRUN | {"SLURM_TASKS_PER_NODE": "2(x"},
            "SLURM_TASKS_PER_NODE='2(x' and SLURM_NODEID=1: the first must give the tasks",
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


def test_the_error_file_of_torchrun() -> None:
    assert find_error_file({}) is None
    assert find_error_file({"TORCHELASTIC_ERROR_FILE": ""}) is None
    assert find_error_file({"TORCHELASTIC_ERROR_FILE": "/tmp/error.json"}) == Path("/tmp/error.json")


@pytest.mark.parametrize(
    ("launch", "may_restart", "is_by_slurm"),
    [
        (LaunchedProcess(), False, False),
        (BY_TORCHRUN, False, False),
        (dataclasses.replace(BY_TORCHRUN, max_restarts=3), True, False),
        (TASK_3, True, True),
        (dataclasses.replace(TASK_3, launch_id=""), False, True),  # a shell of srun --pty
    ],
)
def test_which_launches_may_start_again(launch: LaunchedProcess, may_restart: bool, is_by_slurm: bool) -> None:
    assert (launch.may_restart, launch.is_by_slurm) == (may_restart, is_by_slurm)
