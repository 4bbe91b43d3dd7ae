"""Which runs have a job that waits or runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.queue import ask_queue
from signs_dist.results.queued import QueuedJob
from tests.results.runs import make_finished, make_run
from tests.slurm_cluster import answer_with


def submitted(path: Path, job: str) -> Path:
    make_run(path)
    note_job(path, job, "001")
    return path


def test_one_question_for_all_jobs(tmp_path: Path, some_slurm: Path) -> None:
    runs = [submitted(tmp_path / name, job) for name, job in (("a", "7"), ("b", "8_3"), ("c", "8_4"), ("d", "9"))]
    asked = tmp_path / "asked"
    lines = "7_N/A|PENDING|(Priority)\n8_3|RUNNING|n[1-2]\n8_4|COMPLETED|n1"
    answer_with(some_slurm, "squeue", lines)
    squeue = some_slurm / "squeue"
    squeue.write_text(squeue.read_text().replace("\n", f'\necho "$@" >> {asked}\n', 1))
    answer = ask_queue(runs)
    assert answer.jobs == {
        runs[0]: QueuedJob("7", True, "Priority"),
        runs[1]: QueuedJob("8_3", False, "", "n[1-2]"),
    }
    assert (answer.unknown, answer.problem) == ({}, "")
    assert asked.read_text().count("--jobs 7,8,9") == 1


def test_a_slurm_that_does_not_answer_leaves_the_jobs_unknown(tmp_path: Path, some_slurm: Path) -> None:
    answer_with(some_slurm, "squeue", "Unable to contact slurm controller", code=1)
    run = submitted(tmp_path / "a", "7")
    answer = ask_queue([run])
    assert answer.jobs == {}
    assert "SLURM does not answer: Unable to contact slurm controller" in answer.problem
    assert answer.unknown == {run: answer.problem}


def test_a_controller_that_has_forgotten_all_jobs_has_answered(tmp_path: Path, some_slurm: Path) -> None:
    answer_with(some_slurm, "squeue", "slurm_load_jobs error: Invalid job id specified", code=1)
    answer = ask_queue([submitted(tmp_path / "a", "7")])
    assert (answer.jobs, answer.unknown, answer.problem) == ({}, {}, "")


def test_without_slurm_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run = submitted(tmp_path / "a", "7")
    answer = ask_queue([run])
    assert (answer.jobs, answer.problem) == ({}, "")
    assert answer.unknown == {run: "there is no SLURM on this machine to ask about job 7."}


def test_finished_runs_and_runs_without_a_job_are_not_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    finished = tmp_path / "a"
    note_job(make_run(finished), "7", "001")
    make_finished(finished)
    assert ask_queue([finished, make_run(tmp_path / "b")]).unknown == {}


def test_a_job_of_this_machine_that_has_ended(tmp_path: Path) -> None:
    answer = ask_queue([submitted(tmp_path / "a", "local999999999")])
    assert (answer.jobs, answer.unknown) == ({}, {})
