"""What a submission has made is taken back, or stays."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from launch.handover import handed_over, taken_back
from launch.schedulers import SCHEDULERS
from signs_dist.errors import UserError


def fail_with(error: BaseException, run: Path, name: str, *, at_sbatch: bool = False) -> None:
    """A submission that makes its folder and then ends."""
    with taken_back(run) as made:
        own = run / "submit" / name
        own.mkdir(parents=True)
        made.append(own)
        with handed_over(made, SCHEDULERS["slurm"]) if at_sbatch else contextlib.nullcontext():
            raise error


def test_what_a_submission_made_is_taken_back_and_nothing_else(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "new"
    with pytest.raises(UserError, match="later"):
        fail_with(UserError("later"), run, "001")
    assert not (tmp_path / "runs").exists()
    theirs = run / "submit" / "001" / "submission.json"
    with taken_back(run):
        theirs.parent.mkdir(parents=True)
        theirs.touch()
    assert theirs.exists()
    with pytest.raises(UserError, match="later"):
        fail_with(UserError("later"), run, "002")
    assert theirs.exists()
    assert not (run / "submit" / "002").exists()


@pytest.mark.parametrize(
    ("error", "stays"), [(KeyboardInterrupt(), True), (UserError("SLURM does not take this job"), False)]
)
def test_the_folder_of_a_job_that_slurm_may_have_taken_stays(tmp_path: Path, error: BaseException, stays: bool) -> None:
    with pytest.raises(UserError, match=r"SLURM|squeue --me"):
        fail_with(error, tmp_path / "run", "001", at_sbatch=True)
    assert (tmp_path / "run" / "submit" / "001").exists() == stays
