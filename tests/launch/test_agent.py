"""launch.agent: where a job's agents meet, and what it refuses."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from launch import agent
from launch.agent import (
    choose_variables,
    main,
    note_stop,
    plan_rendezvous,
    require_address,
    require_one_task_per_node,
)
from launch.torchrun import Rendezvous
from signs_dist.console.command import run_command
from signs_dist.environment.context import Context
from signs_dist.errors import UserError


def context(**changes: Any) -> Context:
    """The second of two tasks of a SLURM job, one on each node."""
    fields: dict[str, Any] = {
        "launcher": "srun",
        "rank": 1,
        "world_size": 2,
        "launch_id": "job7.0",
        "restart_count": 1,
        "meeting_name": "cluster/job7.0/1",
        "master_address": "node1",
        "error_file": None,
        "visible_devices": None,
        "usable_cores": 8,
        "num_sharing_cores": 1,
        "num_threads": 8,
        "host": "node2",
        "process_id": 1,
        "launcher_pid": None,
        "job": "7.1",
        "is_terminal": False,
    }
    return Context(**{**fields, **changes})


def test_agents_of_one_attempt_meet_at_the_first_node() -> None:
    assert plan_rendezvous(context(), "node1:29401") == Rendezvous(2, "node1:29401", "job7.0.1", is_host=False)
    first = plan_rendezvous(context(rank=0, restart_count=2), "node1:29401")
    assert first == Rendezvous(2, "node1:29401", "job7.0.2", is_host=True)


@pytest.mark.parametrize(
    ("environment", "num_processes", "expected"),
    [
        ({}, 4, {"OMP_NUM_THREADS": "2"}),
        ({}, 16, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "3"}, 4, {}),
    ],
)
def test_processes_share_the_cores_of_the_task(
    environment: dict[str, str], num_processes: int, expected: dict[str, str]
) -> None:
    assert choose_variables(environment, context(), num_processes) == expected


def test_srun_starts_one_task_on_each_node() -> None:
    require_one_task_per_node(context())
    with pytest.raises(UserError, match=r"launch\.agent is started by srun, once on each node\."):
        require_one_task_per_node(context(launcher="python", meeting_name=""))
    with pytest.raises(UserError, match=r"srun has started 2 tasks on this node.* Type srun --ntasks-per-node=1"):
        require_one_task_per_node(context(local_world_size=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nproc", "0", "--", "--run-dir", "a"], "--nproc 0 --max-restarts 3: --nproc is at least 1"),
        (["--nproc", "2", "--max-restarts", "-1"], "--nproc 2 --max-restarts -1: --nproc is at least 1"),
        (["--nproc", "2", "--", "optim.lr=0.1"], "add --run-dir after --."),
        (["--nproc", "2", "--", "--run-dir", "a"], "launch.agent is started by srun"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_STEP_ID", "SLURM_PROCID", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert run_command(main, arguments) == 2
    assert message in capsys.readouterr().err


def test_a_signal_that_only_a_person_sends_does_not_requeue_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for number in (signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR2):
        note_stop(tmp_path, 0, number)
    assert [path.name for path in (tmp_path / "submit" / "notices").iterdir()] == ["7.0.0.SIGUSR2"]


def test_the_first_node_knows_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    require_address("127.0.0.1", "node1", seconds=1)
    monkeypatch.setattr(agent, "await_name", lambda name, seconds: "Name or service not known")
    told = "node1 found no address for nowhere, the first node of the job, within 1 s: Name or service not known"
    with pytest.raises(UserError, match=told):
        require_address("nowhere", "node1", seconds=1)
