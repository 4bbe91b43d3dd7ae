"""What a task of a job does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.job import _set_launcher_variables
from launch.notices import read_notices
from tests.processes import REPOSITORY, environment, program_command
from tests.slurm_cluster import put_scontrol


def test_what_the_snapshot_lacks_is_found_where_it_lies(tmp_path: Path) -> None:
    for name, text in (("copy/both.py", "x = 'copy'"), ("here/both.py", "x = 'here'"), ("here/ignored.py", "y = 1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "started").mkdir()
    program = tmp_path / "started" / "program.py"  # Python looks beside it, not in the folder that it works in
    program.write_text(
        f"from launch.job import _enter\n_enter({str(tmp_path / 'here')!r}, [{str(tmp_path / 'copy')!r}])\n"
        "import both, ignored\nprint(both.x, ignored.y)\n"
    )
    told = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=environment())
    assert told.stdout == "copy 1\n", told.stderr


SIGNALLED = """
import os, signal, sys, time
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment
from launch.job import Job
delayed = DelayedSubmission(Job((), run_folder=sys.argv[1], working_folder=".", import_folders=(".",)))
delayed.set_timeout(timeout_min=30, max_num_timeout=3)
SlurmJobEnvironment()._handle_signals(JobPaths(sys.argv[1]), delayed)
os.kill(os.getpid(), signal.SIGUSR2)
time.sleep(20)
"""


def test_submitit_requeues_nothing_before_our_handler_is_there(some_slurm: Path, tmp_path: Path) -> None:
    put_scontrol(some_slurm, "exit 0")
    job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_NODEID": "0"}
    place = {"SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "n1"}
    told = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tmp_path)],
        env=environment() | job | place | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 75, told.stderr
    assert [path.name for path in (tmp_path / "submit" / "notices").iterdir()] == ["7.0.0.SIGUSR2"]
    assert not (some_slurm / "calls").exists()  # scontrol


CALL = """
import sys
from launch.job import Job
run, working, imports, *arguments = sys.argv[1:]
print("returned", Job(tuple(arguments), run, working, (imports,))(), file=sys.__stderr__)
"""


def call_job(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A job's task, as submitit calls it on a node."""
    (tmp_path / "work").mkdir(exist_ok=True)
    return subprocess.run(
        program_command(tmp_path, CALL, str(tmp_path / "run"), str(tmp_path / "work"), str(REPOSITORY), *arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("variables", "mark", "stem"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, "7.2", "job7.2"),
        ({"SUBMITIT_LOCAL_JOB_ID": "7"}, "local7.0", "local7.0"),
    ],
)
def test_a_task_says_what_it_does_in_a_log_of_its_own(
    tmp_path: Path, variables: dict[str, str], mark: str, stem: str
) -> None:
    ended = call_job(tmp_path, "--explain", **variables)
    assert ended.returncode == 0, ended.stderr
    log = tmp_path / "run" / "logs" / f"{stem}.rank0.txt"
    assert ended.stdout == f"the output of this task continues in {log}\n"
    assert "train.global_batch" in log.read_text()
    assert log.read_text().endswith(f"returned {tmp_path}/run\n")
    assert read_notices(tmp_path / "run", mark) == []


def test_a_task_that_fails_ends_with_its_code_and_leaves_it(tmp_path: Path) -> None:
    ended = call_job(tmp_path, "optim.lr=fast", SLURM_JOB_ID="7")
    assert ended.returncode == 2
    assert "optim.lr=fast" in (tmp_path / "run" / "logs" / "job7.0.rank0.txt").read_text()
    assert read_notices(tmp_path / "run", "7.0") == [(0, "code2")]


def test_paths_in_the_config_are_relative_to_where_the_job_was_submitted(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.yaml").write_text("seed: 5\n")
    ended = call_job(tmp_path, "--explain", "--config", "mine.yaml", SLURM_JOB_ID="7")
    assert ended.returncode == 0, ended.stderr
    assert "mine.yaml" in (tmp_path / "run" / "logs" / "job7.0.rank0.txt").read_text()


def test_a_task_of_this_machine_takes_its_rank_from_submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"JOB_ID": "7", "NTASKS": "3", "GLOBALID": "2", "LOCALID": "2", "NODEID": "0", "JOB_NUM_NODES": "1"}
    for name, value in given.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in names:
        monkeypatch.setenv(name, "")  # restored after the test
    _set_launcher_variables(29_000)
    assert [os.environ[name] for name in names] == ["2", "3", "2", "3", "127.0.0.1", "29000"]
