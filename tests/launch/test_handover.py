"""What a submission has made is taken back, or stays."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig
from launch.handover import (
    check_request,
    check_script,
    handed_over,
    make_job,
    refuse_busy,
    taken_back,
    tell_differences,
    typed_command,
)
from launch.job import Job
from launch.jobs import note_job
from launch.request import Request
from launch.schedulers import SCHEDULERS
from launch.schedulers.base import Difference, Findings, Submission, UncertainError
from launch.snapshot import Snapshot
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from tests.slurm_cluster import answer_with, put_scontrol


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
    ("error", "stays"),
    [
        (KeyboardInterrupt(), True),
        (UserError("SLURM does not take this job"), False),
        (UncertainError("SLURM does not answer"), True),
    ],
)
def test_the_folder_of_a_job_that_slurm_may_have_taken_stays(tmp_path: Path, error: BaseException, stays: bool) -> None:
    with pytest.raises(UserError, match=r"SLURM|squeue --me"):
        fail_with(error, tmp_path / "run", "001", at_sbatch=True)
    assert (tmp_path / "run" / "submit" / "001").exists() == stays


def test_ctrl_c_at_the_handover_says_where_to_look(tmp_path: Path) -> None:
    for kind, look in (("slurm", "squeue --me"), ("local", "ps aux")):
        with pytest.raises(UserError, match=f"it may have started. Type {look}"), handed_over([], SCHEDULERS[kind]):
            raise KeyboardInterrupt


def make_request(run: Path, **values: object) -> Request:
    config = load_config(None, ["optim.lr=0.5"])
    return Request(None, (), config, run, "run", ClusterConfig(**values), accept_change=("a", "b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tasks_per_node": 2}, {"processes_per_node": 0, "signal_seconds": 0, "port": None}),
        (
            {"agent": "torchrun", "gpus_per_node": 4},
            {"processes_per_node": 4, "max_restarts": 3, "signal_seconds": 120},
        ),
        ({"kind": "local"}, {"port": None}),
    ],
)
def test_what_a_job_is_told(tmp_path: Path, values: dict[str, object], expected: dict[str, object]) -> None:
    job = make_job(make_request(tmp_path, **values), tmp_path / "001", Snapshot((Path("/code"), Path("/work")), {}))
    assert {name: getattr(job, name) for name in expected} == expected
    device = "cuda" if values.get("gpus_per_node") else "auto"
    assert job.arguments == (
        *("--config", f"{tmp_path}/001/config.yaml", "--run-dir", str(tmp_path), "--device", device),
        *("--accept-change", "a", "--accept-change", "b"),
    )
    assert job.import_folders == ("/code", "/work")
    # The settings are written down as they are now.
    assert load_config(tmp_path / "001" / "config.yaml", []).optim.lr == 0.5


def test_tasks_of_this_machine_are_given_a_port(tmp_path: Path) -> None:
    request = make_request(tmp_path, kind="local", tasks_per_node=2)
    port = make_job(request, tmp_path / "001", Snapshot((Path("/code"),), {})).port
    assert port is not None
    assert port > 1024


def test_a_run_that_has_a_job_is_refused(some_slurm: Path, tmp_path: Path) -> None:
    refuse_busy(tmp_path)
    note_job(tmp_path, "7", "001")
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=PENDING Reason=Resources'")
    with pytest.raises(
        UserError, match=r"has a job already: 7 is pending \(Resources\). To end it: python launch/submit"
    ):
        refuse_busy(tmp_path)
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=FAILED'")
    refuse_busy(tmp_path)


def test_a_doubt_is_told_only_if_slurm_refuses(
    some_slurm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job((), run_folder=str(tmp_path), working_folder="/work", import_folders=("/code",))
    submission = Submission(ClusterConfig(), (job,), tmp_path, "name")
    doubt = Findings({}, UserError("the nodes have 2 cores at most"))
    answer_with(some_slurm, "sbatch", "", code=1)
    with pytest.raises(UserError, match="2 cores at most"):
        check_script(submission, doubt)
    with pytest.raises(UserError, match="SLURM does not take this job"):
        check_script(submission, Findings({}))
    # SLURM cannot tell when a job would start whose nodes are out of service. It takes the job all the same.
    assert check_script(submission, Findings({}, lacks_nodes=True)).startswith("#!/bin/bash\n")
    with pytest.raises(UserError, match="2 cores at most"):
        check_script(submission, dataclasses.replace(doubt, lacks_nodes=True))
    (some_slurm / "sbatch").write_text("#!/bin/sh\ncat > /dev/null; echo 'sbatch: Job 7 to start now' >&2\n")
    assert check_script(submission, doubt).startswith("#!/bin/bash\n")
    assert capsys.readouterr().out == "    slurm  Job 7 to start now\n"
    # Where there is no batch script, there is nothing to ask.
    assert check_script(Submission(ClusterConfig(kind="local"), (job,), tmp_path, "name"), Findings({})) == ""
    assert capsys.readouterr().out == ""


def test_the_command_is_written_down_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed_command(["--nodes", "2"]) == ["python", "launch/submit.py", "--nodes", "2"]
    assert typed_command(["submit", "--nodes", "2"]) == ["signs-dist", "submit", "--nodes", "2"]
    assert typed_command(["sweep", "--out", "s"]) == ["signs-dist", "sweep", "--out", "s"]
    monkeypatch.setattr("sys.argv", ["/somewhere/signs_dist/sweep.py", "--out", "s"])
    assert typed_command(["--out", "s"]) == ["python", "-m", "signs_dist.sweep", "--out", "s"]


def test_too_many_nodes_are_told_before_the_batch_that_they_would_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(tmp_path / "run", nodes="9")
    monkeypatch.setattr(SCHEDULERS["slurm"], "check", lambda _: Findings({}, UserError("gives at most 3 nodes")))
    with pytest.raises(UserError, match="gives at most 3 nodes"):
        check_request(request)
    too_many = Findings({}, too_many=UserError("gives at most 4 nodes"))
    monkeypatch.setattr(SCHEDULERS["slurm"], "check", lambda _: too_many)
    with pytest.raises(UserError, match="gives at most 4 nodes"):
        check_request(request)
    monkeypatch.setattr(SCHEDULERS["slurm"], "check", lambda _: Findings({}))
    with pytest.raises(UserError, match="9 processes"):
        check_request(request)


@pytest.mark.parametrize("is_harmful", [True, False])
def test_what_slurm_has_changed_is_told_with_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_harmful: bool
) -> None:
    scheduler = SCHEDULERS["slurm"]
    found = [Difference("--nodes 2: SLURM gives 1", is_harmful)]
    monkeypatch.setattr(scheduler, "find_differences", lambda submission, job: found)
    submission = Submission(ClusterConfig(), (), tmp_path, "name")
    tell_differences(scheduler, submission, "7", "my run")
    advice = ["  differs  to take the job back: python launch/submit.py cancel 'my run'"] if is_harmful else []
    assert capsys.readouterr().out.splitlines() == ["  differs  --nodes 2: SLURM gives 1", *advice]
