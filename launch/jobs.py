"""Which jobs were submitted for a run: a line each in the run folder."""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

from signs_dist.run_folder.folder import RunFolder, timestamp

SUBMIT = "submit"
"""Folder in a run folder: what belongs to its submissions."""
JOBS = "jobs.jsonl"
"""In that folder: the jobs."""
CLOCK_SECONDS = 60.0
"""How much the clocks of machines may differ."""


def note_job(run_path: Path, job: str, submission: str) -> None:
    """Write down that a job was submitted for a run.

    Args:
        run_path: the run folder.
        job: its id.
        submission: the name of the submission's folder, such as 001.
    """
    folder = RunFolder(run_path)
    (run_path / SUBMIT).mkdir(exist_ok=True)
    folder.append(run_path / SUBMIT / JOBS, {"job": job, "submission": submission, "time": timestamp()})


def jobs_of(run_path: Path) -> list[str]:
    """The ids of the jobs that were submitted for a run, the newest last."""
    return [str(line["job"]) for line in RunFolder(run_path).read_lines(run_path / SUBMIT / JOBS) if "job" in line]


def submission_time(run_path: Path, job: str) -> float | None:
    """When a job was submitted, in seconds since 1970; None where that is not written down."""
    for line in RunFolder(run_path).read_lines(run_path / SUBMIT / JOBS):
        if line.get("job") == job:
            with contextlib.suppress(LookupError, ValueError, TypeError):
                return datetime.datetime.fromisoformat(line["time"]).timestamp()
    return None


def is_finished(run_path: Path, job: str) -> bool:
    """Whether a run has a result, and not only that of an earlier job which this job is to train further."""
    folder = RunFolder(run_path)
    if not folder.is_finished:
        return False
    submitted = submission_time(run_path, job)
    with contextlib.suppress(OSError):
        return submitted is None or folder.result.stat().st_mtime > submitted - CLOCK_SECONDS
    return False
