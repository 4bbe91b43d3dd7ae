"""The program of each task of a SLURM job, launch.task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from submitit.core.utils import DelayedSubmission, JobPaths, pickle_load

from launch.program import program
from tests.processes import environment


def test_a_task_calls_the_job_that_was_pickled_for_it(tmp_path: Path) -> None:
    """submitit loads the pickle by SLURM's variables, and leaves the result beside it: what we rely on of it."""
    for element in ("7_0", "7_1"):
        DelayedSubmission(str.upper, f"job {element}").dump(JobPaths(tmp_path, element).submitted_pickle)
    told = subprocess.run(
        [sys.executable, *program("task"), str(tmp_path)],
        env=environment(
            SUBMITIT_EXECUTOR="slurm",
            SLURM_JOB_ID="8",
            SLURM_ARRAY_JOB_ID="7",
            SLURM_ARRAY_TASK_ID="1",
            SLURM_PROCID="3",
        ),
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert pickle_load(JobPaths(tmp_path, "7_1", 3).result_pickle) == ("success", "JOB 7_1")
