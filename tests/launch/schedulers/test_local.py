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
from launch.schedulers.local import (
    CONTROLLER,
    check_gpus_here,
    choose_lanes,
    describe_devices_here,
    in_own_session,
    lane_lines,
    setup_lines,
)
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from tests.processes import REPOSITORY, environment

JOB = Job((), run_folder="/runs/a", working_folder="/work", import_folders=("/code",))


def test_a_local_job_keeps_the_gpus_that_its_shell_was_given() -> None:
    submission = Submission(ClusterConfig(kind="local", gpus_per_node=2), (JOB,), Path("/runs/a/submit/001"), "a")
    assert "export CUDA_VISIBLE_DEVICES=4,6" in setup_lines(submission, "4,6,7")
    assert not any("CUDA" in line for line in setup_lines(submission, None))


@pytest.mark.parametrize(
    ("visible", "lane", "own"), [("4,6,7,9", 1, "7,9"), (None, 1, "2,3"), (None, 2, "4,5"), ("4,6,7,9", 0, "4,6")]
)
def test_each_lane_of_an_array_has_gpus_of_its_own(visible: str | None, lane: int, own: str) -> None:
    submission = Submission(ClusterConfig(kind="local", gpus_per_node=2), (JOB, JOB), Path("/runs/a/submit/001"), "a")
    assert f"export CUDA_VISIBLE_DEVICES={own}" in setup_lines(submission, visible, lane)


@pytest.mark.parametrize(
    ("values", "asked", "cores", "gpus", "lanes"),
    [
        ({}, None, 4, 0, 4),
        ({}, None, 64, 0, 8),
        ({"tasks_per_node": 2, "cpus_per_task": 2}, None, 8, 0, 2),
        ({"tasks_per_node": 4}, None, 2, 0, 1),
        ({"tasks_per_node": 4}, 3, 2, 0, 3),
        ({"gpus_per_node": 2}, None, 4, 8, 4),
        ({"gpus_per_node": 1}, None, 64, 16, 8),
        ({"gpus_per_node": 2}, 2, 4, 8, 2),
    ],
)
def test_how_many_runs_of_an_array_this_machine_has_at_once(
    values: dict[str, int], asked: int | None, cores: int, gpus: int, lanes: int
) -> None:
    assert choose_lanes(ClusterConfig(kind="local", **values), asked, cores, gpus) == lanes


def test_more_runs_at_once_than_there_are_gpus_for_are_refused() -> None:
    with pytest.raises(UserError, match=r"--parallel 3 runs of 2 GPUs each: this machine shows 4. Type --parallel 2."):
        choose_lanes(ClusterConfig(kind="local", gpus_per_node=2), 3, 64, 4)


def test_runs_that_share_a_lane_take_turns_and_are_waiting_meanwhile(tmp_path: Path) -> None:
    assert lane_lines(tmp_path, None) == []

    def start(number: int) -> subprocess.Popen[str]:
        """As submitit starts a job, with another command in the place of its controller."""
        lines = [*lane_lines(tmp_path, 0), f"echo {number}", "read word", ": submitit.local"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(["/bin/sh", "-c", " && ".join(lines)], text=True, **pipes)  # type: ignore[call-overload]

    first = start(1)
    try:
        assert first.stdout.readline() == "1\n"
        second = start(2)
        try:
            job = f"local{second.pid}"
            while not ask_state(job).is_waiting:
                assert second.poll() is None
                time.sleep(0.01)
            assert ask_state(job).describe() == "pending (other runs of the array)"
            assert ask_state(f"local{first.pid}").describe() == "running"
            first.kill()  # also a run that is killed ends its turn
            first.wait()
            assert second.stdout.readline() == "2\n"
            assert ask_state(job).describe() == "running"
            third = start(3)
            while not ask_state(f"local{third.pid}").is_waiting:
                time.sleep(0.01)
            cancel([job, f"local{third.pid}"])
            assert third.communicate(timeout=10)[0] == ""  # its turn never came
        finally:
            second.kill()
            second.communicate()
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("name", ["percent%j", "a:b", "%A"])
def test_a_name_that_submitit_would_expand_is_refused(name: str) -> None:
    config = load_config(None, [])
    request = Request(None, (), config, Path("/runs") / name, name, ClusterConfig(kind="local"))
    with pytest.raises(UserError, match="submitit or Python would not take"):
        SCHEDULERS["local"].check(request)
    SCHEDULERS["debug"].check(request)  # this process: nothing is expanded


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


SUBMIT_ARRAY = """
import sys
from pathlib import Path
from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import SCHEDULERS
from launch.schedulers.base import Submission
grid = Path(sys.argv[1])
jobs = tuple(Job(("--explain",), f"{grid}/{n}", str(grid), import_folders=(sys.argv[2],)) for n in range(2))
print(*SCHEDULERS["local"].submit(Submission(ClusterConfig(kind="local"), jobs, grid / "submit" / "001", "a")))
"""


@pytest.mark.slow
def test_an_array_of_this_machine_has_a_log_for_each_run(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", SUBMIT_ARRAY, str(tmp_path), str(REPOSITORY)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    jobs = told.stdout.split()
    assert len(set(jobs)) == 2
    while any(ask_state(job).is_alive for job in jobs):
        time.sleep(0.05)
    for number, job in enumerate(jobs):
        logs = SCHEDULERS["local"].logs(tmp_path / str(number), job)
        assert [path.name for path in logs] == ["controller.log", f"{job.removeprefix('local')}_0_log.out"]
        (own_log,) = (tmp_path / str(number) / "logs").glob(f"{job}.*.rank0.txt")
        assert "train.global_batch" in own_log.read_text()


def test_the_shell_is_replaced_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder; $(x)"
    folder.mkdir()
    line = in_own_session([f"cd {shlex.quote(str(folder))}", "pwd", "exit 3"], folder)
    ended = subprocess.run(["/bin/sh", "-c", f"{line} && echo reached"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert (folder / "controller.log").read_text() == f"{folder}\n"
