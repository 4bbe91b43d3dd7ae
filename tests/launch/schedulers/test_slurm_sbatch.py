"""Handing a job over to sbatch."""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import slurm_sbatch
from launch.schedulers.base import Submission
from launch.schedulers.slurm_sbatch import estimate_start, hand_over, outside_of_any_job
from launch.schedulers.slurm_script import batch_script
from signs_dist.errors import UserError
from signs_dist.monitoring import waiting

JOB = Job(("--config", "c.yaml"), run_folder="/runs/a", working_folder="/work", import_folders=("/code",))


def put_sbatch(folder: Path, text: str) -> None:
    """An sbatch that leaves its arguments, and does what `text` says."""
    (folder / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> {folder}/arguments\n{text}\n')


def make_submission(folder: Path, count: int) -> Submission:
    jobs = tuple(dataclasses.replace(JOB, run_folder=f"/runs/{number}") for number in range(count))
    return Submission(ClusterConfig(time="30"), jobs, folder / "001", "name", folder / "runs.txt")


@pytest.mark.parametrize(("count", "ids"), [(1, ["7"]), (3, ["7_0", "7_1", "7_2"])])
def test_the_script_that_was_shown_is_submitted_with_a_pickle_for_each_job(
    some_slurm: Path, tmp_path: Path, count: int, ids: list[str]
) -> None:
    put_sbatch(some_slurm, f"cp $2 {tmp_path}/taken.sh; echo '7;a-cluster'")
    submission = make_submission(tmp_path, count)
    assert hand_over(submission) == ids
    script = batch_script(submission)
    assert (tmp_path / "taken.sh").read_text() == script
    assert (submission.files / "7_submission.sh").read_text() == script
    assert sorted(path.name for path in submission.files.iterdir()) == sorted(
        ["7_submission.sh", *(f"{job}_submitted.pkl" for job in ids)]
    )
    # Each task loads its own job, by the id that SLURM gives it.
    for number, job in enumerate(ids):
        delayed = DelayedSubmission.load(JobPaths(submission.files, job).submitted_pickle)
        assert delayed.function == submission.jobs[number]


def test_a_refusal_is_one_line(some_slurm: Path, tmp_path: Path) -> None:
    put_sbatch(some_slurm, "echo 'sbatch: error: Invalid account\nsbatch: error: Batch job failed' >&2; exit 1")
    told = "SLURM does not take this job: error: Invalid account error: Batch job failed"
    for call in (lambda: hand_over(make_submission(tmp_path, 1)), lambda: estimate_start("#!/bin/bash\n")):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == told


def test_slurm_is_asked_when_a_script_would_start(some_slurm: Path) -> None:
    put_sbatch(some_slurm, "cat > /dev/null; echo 'sbatch: Job 7 to start at noon\n' >&2")
    assert estimate_start("#!/bin/bash\n") == "Job 7 to start at noon"
    assert (some_slurm / "arguments").read_text() == "--test-only\n"


def test_without_slurm_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"there is no SLURM on this machine .* type --cluster local"):
        hand_over(make_submission(tmp_path, 1))
    with pytest.raises(UserError, match=r"there is no SLURM on this machine"):
        estimate_start("#!/bin/bash\n")


def test_a_controller_that_does_not_answer_is_told(some_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_sbatch(some_slurm, "exec sleep 20")
    monkeypatch.setattr(slurm_sbatch, "TEST_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"SLURM does not answer \(sbatch --test-only, within 0.2 s\)"):
        estimate_start("#!/bin/bash\n")


def test_a_submission_has_an_end_too(
    some_slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_sbatch(some_slurm, "exec sleep 20")
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    with pytest.raises(UserError, match="if squeue --me shows the job then, it was taken after all"):
        slurm_sbatch.call_sbatch("script.sh", timeout=1)
    assert "sbatch has not answered yet (0 s so far)" in capsys.readouterr().err
    limit = inspect.signature(slurm_sbatch.call_sbatch).parameters["timeout"].default
    assert limit == slurm_sbatch.SUBMIT_SECONDS < float("inf")


def test_a_job_that_submits_hands_on_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "SLURM_CONF": "/etc/x", "SBATCH_ACCOUNT": "mine"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    with outside_of_any_job():
        assert [name for name in mine if name in os.environ] == ["SLURM_CONF", "SBATCH_ACCOUNT"]
    assert all(os.environ[name] == value for name, value in mine.items())
    monkeypatch.delenv("SLURM_JOB_ID")
    with outside_of_any_job():
        assert os.environ["SLURM_CPUS_PER_TASK"] == "4"  # a person's, in a shell of a login node
