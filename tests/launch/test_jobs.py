"""Which jobs were submitted for a run."""

from __future__ import annotations

import time
from pathlib import Path

from launch.jobs import jobs_of, note_job, submission_time


def test_jobs_are_told_in_the_order_of_their_submission(tmp_path: Path) -> None:
    assert jobs_of(tmp_path) == []
    note_job(tmp_path, "7", "001")
    note_job(tmp_path, "local12", "002")
    assert jobs_of(tmp_path) == ["7", "local12"]


def test_when_a_job_was_submitted(tmp_path: Path) -> None:
    note_job(tmp_path, "7", "001")
    told = submission_time(tmp_path, "7")
    assert told is not None
    assert abs(told - time.time()) < 60
    assert submission_time(tmp_path, "8") is None
    (tmp_path / "submit" / "jobs.jsonl").write_text('{"job": "7", "time": "yesterday"}\n{"job": "9"}\n')
    assert submission_time(tmp_path, "7") is None
    assert submission_time(tmp_path, "9") is None
