"""What tasks of a job leave for the decision on a requeue."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from launch.notices import last_attempt, leave_notice, note_code, note_signal, own_failures, read_notices


def test_notices_are_read_by_attempt(tmp_path: Path) -> None:
    first, second = {"SLURM_JOB_ID": "7"}, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    assert last_attempt(tmp_path, "7") == "7.0"
    leave_notice(tmp_path, first, 1, "SIGUSR2")
    leave_notice(tmp_path, first, 0, "code75")
    leave_notice(tmp_path, second, 0, "code2")
    leave_notice(tmp_path, {"SLURM_JOB_ID": "77"}, 0, "code2")
    assert read_notices(tmp_path, "7.0") == [(0, "code75"), (1, "SIGUSR2")]
    assert read_notices(tmp_path, "7.1") == [(0, "code2")]
    assert last_attempt(tmp_path, "7") == "7.1"


@pytest.mark.parametrize(
    ("codes", "own"), [([0, 3, 75, 143], []), ([3, 2], [(1, 2)]), ([1, 137, 74], [(0, 1), (1, 137), (2, 74)])]
)
def test_a_task_that_lost_another_or_was_stopped_did_not_fail_by_itself(
    codes: list[int], own: list[tuple[int, int]]
) -> None:
    notices = [(rank, f"code{code}") for rank, code in enumerate(codes)]
    assert own_failures([*notices, (0, "SIGTERM")]) == own


def test_a_folder_that_cannot_be_written_to_ends_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "submit").write_text("a file where the folder should be")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    note_signal(tmp_path, 0, signal.SIGTERM)
    note_code(tmp_path, 0, 2)
    assert read_notices(tmp_path, "7.0") == []
