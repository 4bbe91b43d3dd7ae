"""Handing a job over to sbatch."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths

from launch.cluster import ClusterConfig
from launch.job import Job
from launch.schedulers import slurm_sbatch
from launch.schedulers.base import Submission, UncertainError
from launch.schedulers.slurm_sbatch import estimate_start, hand_over, parse_numbers
from launch.schedulers.slurm_script import batch_script
from signs_dist.errors import UserError
from signs_dist.monitoring import waiting

JOB = Job(("--config", "c.yaml"), run_folder="/runs/a", working_folder="/work", import_folders=("/code",))
CLUSTER = ClusterConfig()


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
    told = "SLURM does not take this job: error: Invalid account error: Batch job failed. no --account was given: "
    for call in (lambda: hand_over(make_submission(tmp_path, 1)), lambda: estimate_start("#!/bin/bash\n", CLUSTER)):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)


def test_a_refusal_that_a_sites_sbatch_prints_to_its_output_is_told_too(some_slurm: Path, tmp_path: Path) -> None:
    put_sbatch(some_slurm, "echo 'Your project has no hours left'; exit 1")
    for call in (lambda: hand_over(make_submission(tmp_path, 1)), lambda: estimate_start("#!/bin/bash\n", CLUSTER)):
        with pytest.raises(UserError, match="SLURM does not take this job: Your project has no hours left"):
            call()


def test_slurm_is_asked_when_a_script_would_start(some_slurm: Path) -> None:
    put_sbatch(some_slurm, "cat > /dev/null; echo 'sbatch: Job 7 to start at noon\n' >&2")
    assert estimate_start("#!/bin/bash\n", CLUSTER) == "Job 7 to start at noon"
    assert (some_slurm / "arguments").read_text() == "--test-only\n"


def test_without_slurm_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"there is no SLURM on this machine .* type --cluster local"):
        hand_over(make_submission(tmp_path, 1))
    with pytest.raises(UserError, match=r"there is no SLURM on this machine"):
        estimate_start("#!/bin/bash\n", CLUSTER)


def test_a_controller_that_does_not_answer_is_told(some_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_sbatch(some_slurm, "exec sleep 20")
    monkeypatch.setattr(slurm_sbatch, "TEST_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"SLURM does not answer \(sbatch --test-only, within 0.2 s\)"):
        estimate_start("#!/bin/bash\n", CLUSTER)


def test_a_submission_has_an_end_too(
    some_slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_sbatch(some_slurm, "exec sleep 20")
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    with pytest.raises(UncertainError, match="Type squeue --me when it does: if the job is there, cancel it"):
        slurm_sbatch.call_sbatch("script.sh", options=(), timeout=1)
    assert "sbatch has not answered yet (0 s so far)" in capsys.readouterr().err
    limit = inspect.signature(slurm_sbatch.call_sbatch).parameters["timeout"].default
    assert limit == slurm_sbatch.SUBMIT_SECONDS < float("inf")


def test_banners_of_a_sites_sbatch_are_not_the_answer(some_slurm: Path) -> None:
    put_sbatch(some_slurm, "cat > /dev/null; echo 'Checking job 17 of 50\nsbatch: Job 7 to start at noon\nBye.' >&2")
    assert estimate_start("#!/bin/bash\n", CLUSTER) == "Job 7 to start at noon"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7\n", ["7"]),
        ("7;cluster\n", ["7"]),
        ("Checking job 17 of 50\n7\n", ["7"]),
        ("17\n7\n", ["7", "17"]),
        ("7\nBye 99.\n", ["7"]),
        (" 7 \r\n", ["7"]),
        ("Submitted batch job 7\n", ["7"]),
        ("Quota: 17 of 50\nSubmitted batch job 7 on cluster x\n", ["7"]),
        ("7.5\n-7\n7 8\n", []),
        ("Checking job 17 of 50\n", []),
        ("", []),
    ],
)
def test_what_may_be_the_number_of_the_job(text: str, numbers: list[str]) -> None:
    assert parse_numbers(text) == numbers


JOBS = """case "$4" in
  "") {all} ;;
  17) echo "JobId=17 JobName=theirs Command=/else/where.sh WorkDir=/ StdOut=/else/17.out Power=" ;;
  7) echo "JobId=7 JobName=name {where} Power=" ;;
  *) echo 'Invalid job id specified' >&2; exit 1 ;;
esac
"""
"""A scontrol that knows a job of another person's, and ours."""


@pytest.mark.parametrize(
    ("sbatch", "where", "number"),
    [
        ("echo Checking job 17 of 50; echo 7", "Command={script} WorkDir=/", "7"),
        ("echo 7; echo 17", "Command={script} WorkDir=/", "7"),
        ("echo 99; echo 7; echo 17 jobs wait", "Command={script} WorkDir=/", "7"),
        # A site's program submits a copy of the script, or prints no number where one looks for it.
        ("echo 7", "Command=/site/copy.sh WorkDir=/ StdOut={folder}/7_0_log.out", "7"),
        ("echo Thank you.", "Command={script} WorkDir=/", "7"),
        ("echo 7 >&2", "Command={script} WorkDir=/", "7"),
        ("echo 17", "Command={script} WorkDir=/", "7"),
        # It ends with another code after the submission.
        ("echo 7; exit 3", "Command={script} WorkDir=/", "7"),
    ],
)
def test_the_true_job_is_found_whatever_a_sites_sbatch_prints(
    some_slurm: Path, tmp_path: Path, sbatch: str, where: str, number: str
) -> None:
    put_sbatch(some_slurm, sbatch)
    submission = make_submission(tmp_path, 1)
    place = where.format(script=submission.files / "submission.sh", folder=submission.files)
    lines = 'for each in 17 7; do "$0" --oneliner show job "$each"; done'
    put_jobs(some_slurm, JOBS.format(all=lines, where=place))
    assert hand_over(submission) == [number]
    assert (submission.files / f"{number}_submitted.pkl").exists()


def put_jobs(folder: Path, text: str) -> None:
    (folder / "scontrol").write_text(f"#!/bin/sh\n{text}")
    (folder / "scontrol").chmod(0o755)


def test_the_number_of_an_array_is_found_and_not_an_elements(some_slurm: Path, tmp_path: Path) -> None:
    submission = make_submission(tmp_path, 3)
    put_sbatch(some_slurm, "echo Thank you.")
    line = f"JobId=9 ArrayJobId=7 ArrayTaskId=2 Command={submission.files}/submission.sh WorkDir=/"
    put_jobs(some_slurm, f"echo '{line}'\n")
    assert hand_over(submission) == ["7_0", "7_1", "7_2"]


def test_an_sbatch_that_ends_well_without_a_submission_is_told(some_slurm: Path, tmp_path: Path) -> None:
    put_sbatch(some_slurm, "echo Checking job 17 of 50; echo 17; echo over quota >&2")
    put_jobs(some_slurm, JOBS.format(all="true", where="Command=/else/where.sh WorkDir=/"))
    with pytest.raises(UserError, match="SLURM knows no job of") as caught:
        hand_over(make_submission(tmp_path, 1))
    assert "It printed: Checking job 17 of 50 17 over quota" in str(caught.value)
    assert f"sbatch is {some_slurm}/sbatch. " in str(caught.value)
    assert not isinstance(caught.value, UncertainError)


def test_without_a_number_and_without_an_answer_the_job_may_wait(some_slurm: Path, tmp_path: Path) -> None:
    put_jobs(some_slurm, "echo 'Unable to contact slurm controller' >&2; exit 1\n")
    put_sbatch(some_slurm, "echo Thank you.")
    with pytest.raises(UncertainError, match=r"the job may wait. It printed: Thank you\.\nType squeue --me"):
        hand_over(make_submission(tmp_path / "a", 1))
    put_sbatch(some_slurm, "echo 17 of 50; echo 7")
    assert hand_over(make_submission(tmp_path / "b", 1)) == ["7"]


def test_sbatch_does_what_the_script_says_whatever_the_environment(
    some_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = {"SBATCH_TIMELIMIT": "3", "SBATCH_EXPORT": "NONE", "SLURM_EXPORT_ENV": "NONE", "SBATCH_JOB_NAME": "x"}
    acting = {"SBATCH_RESERVATION": "course", "SBATCH_WCKEY": "mine", "SLURM_CPU_BIND": "cores"}
    for name, value in (ignored | acting).items():
        monkeypatch.setenv(name, value)
    put_sbatch(some_slurm, f"env > {tmp_path}/environment; echo 7")
    hand_over(make_submission(tmp_path, 1))
    seen = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert {name for name in (ignored | acting) if name in seen} == set(acting)
    estimate_start(batch_script(make_submission(tmp_path, 1)), CLUSTER)
    seen = (tmp_path / "environment").read_text()
    assert "SBATCH_TIMELIMIT" not in seen
    assert "SBATCH_RESERVATION=course" in seen
