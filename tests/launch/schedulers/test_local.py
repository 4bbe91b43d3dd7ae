"""Jobs on this machine."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.request import Request
from launch.schedulers import SCHEDULERS, ask_state, cancel
from launch.schedulers.base import Submission
from launch.schedulers.local import CONTROLLER, check_gpus_here, describe_devices_here, in_own_session, setup_lines
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from tests.processes import REPOSITORY, environment

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


def test_devices_of_this_machine_are_told() -> None:
    assert describe_devices_here(ClusterConfig(kind="local")) == "this machine, 1 process, on the CPU"
    told = describe_devices_here(ClusterConfig(kind="local", gpus_per_node=2))
    assert told == "this machine, 2 processes, each with one of 2 GPUs"


def test_gpus_that_are_not_here_are_refused_before_the_job() -> None:
    request = Request(None, (), load_config(None, []), Path("/run"), "run", ClusterConfig(gpus_per_node=64))
    for kind in ("local", "debug"):
        with pytest.raises(UserError, match=r"--gpus-per-node 64: this machine shows"):
            SCHEDULERS[kind].check(request)


SUBMIT = """
import os, sys, time
from pathlib import Path
from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import SCHEDULERS, ask_state
from launch.schedulers.base import Submission
run = Path(sys.argv[1])
job = Job(("--explain",), run_folder=str(run), working_folder=str(run), import_folders=(sys.argv[2],))
(id,) = SCHEDULERS["local"].submit(Submission(ClusterConfig(kind="local"), (job,), run / "submit" / "001", "a"))
print(id, os.getsid(0), ask_state(id).state, flush=True)
while os.getsid(int(id.removeprefix("local"))) == os.getsid(0):
    time.sleep(0.01)
print(os.getsid(int(id.removeprefix("local"))), flush=True)
"""


def test_a_job_of_this_machine_has_a_session_of_its_own_and_says_what_it_does(tmp_path: Path) -> None:
    """It fails where submitit's controller is started in another way than `in_own_session` repeats."""
    assert importlib.util.find_spec(CONTROLLER) is not None, (
        f"submitit has no {CONTROLLER} any more: see in_own_session"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", SUBMIT, str(tmp_path), str(REPOSITORY)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    job, session, state, own = told.stdout.split()
    assert state == "RUNNING"
    assert own == job.removeprefix("local") != session
    while ask_state(job).is_alive:
        time.sleep(0.05)
    logs = SCHEDULERS["local"].logs(tmp_path, job)
    assert [path.name for path in logs] == ["controller.log", f"{own}_0_log.out"]
    assert "the output of this task continues in" in logs[1].read_text()
    (own_log,) = (tmp_path / "logs").glob("local*.rank0.txt")
    assert "train.global_batch" in own_log.read_text()


def test_the_shell_is_replaced_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder; $(x)"
    folder.mkdir()
    line = in_own_session([f"cd {shlex.quote(str(folder))}", "pwd", "exit 3"], folder)
    ended = subprocess.run(["/bin/sh", "-c", f"{line} && echo reached"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert (folder / "controller.log").read_text() == f"{folder}\n"
