"""Jobs on this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import ask_state, cancel
from launch.schedulers.base import Submission
from launch.schedulers.local import check_gpus_here, setup_lines
from signs_dist.errors import UserError

JOB = Job((), run_folder="/runs/a", working_folder="/work", import_folders=("/code",))


def test_a_local_job_keeps_the_gpus_that_its_shell_was_given() -> None:
    submission = Submission(ClusterConfig(kind="local", gpus_per_node=2), (JOB,), Path("/runs/a/submit/001"), "a")
    assert "export CUDA_VISIBLE_DEVICES=4,6" in setup_lines(submission, "4,6,7")
    assert not any("CUDA" in line for line in setup_lines(submission, None))


def test_gpus_that_this_machine_does_not_have() -> None:
    check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 2)
    with pytest.raises(UserError, match=r"--gpus-per-node 2: this machine shows 1 GPU. Type --gpus-per-node 1."):
        check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 1)
    with pytest.raises(UserError, match=r"this machine shows no GPUs. Type --gpus-per-node 0 --tasks-per-node 2."):
        check_gpus_here(ClusterConfig(kind="local", gpus_per_node=2), 0)


def test_a_local_job_lives_as_long_as_one_of_its_tasks() -> None:
    # What has started it is gone, as after kill -9 of it.
    number = 4_000_000
    task = subprocess.Popen(["sleep", "60"], env={**os.environ, "SUBMITIT_LOCAL_JOB_ID": str(number)})
    try:
        assert ask_state(f"local{number}").is_alive
        cancel([f"local{number}"])
        task.wait(timeout=10)
    finally:
        task.kill()
    assert not ask_state(f"local{number}").is_alive


def test_another_process_is_not_a_local_job() -> None:
    assert not ask_state(f"local{os.getpid()}").is_alive
    cancel([f"local{os.getppid()}"])  # ends nothing: this test goes on
