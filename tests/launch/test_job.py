"""What a task of a job does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import environment
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
