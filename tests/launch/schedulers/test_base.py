"""The state of a job, in any scheduler."""

from __future__ import annotations

import pytest

from launch.schedulers.base import JobState


def test_a_waiting_job_says_so() -> None:
    assert JobState("7", "PENDING").is_waiting
    assert not JobState("7", "RUNNING").is_waiting


@pytest.mark.parametrize(
    ("state", "waits", "lives"),
    [
        *(("PENDING", True, True), ("REQUEUE_HOLD", True, True), ("RUNNING", False, True), ("COMPLETING", False, True)),
        *(("A_STATE_TO_COME", False, True), ("OUT_OF_MEMORY", False, False), ("ENDED", False, False)),
        ("", False, False),
    ],
)
def test_which_states_are_alive(state: str, waits: bool, lives: bool) -> None:
    assert (JobState("7", state).is_waiting, JobState("7", state).is_alive) == (waits, lives)
