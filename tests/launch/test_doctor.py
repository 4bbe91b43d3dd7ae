"""Submitting the doctor: the job that is made, and following it; the real one is in tests/end_to_end/."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from launch import doctor, follow
from launch.cluster import ClusterConfig
from launch.doctor import follow_doctor, make_doctor_job
from launch.request import Request
from launch.schedulers.base import JobState
from launch.snapshot import Snapshot
from launch.submit import main
from signs_dist.config.reading import load_config
from signs_dist.doctor import build_parser


def a_request(folder: Path, *words: str) -> tuple[Request, argparse.Namespace]:
    given = build_parser().parse_intermixed_args(list(words))
    config = load_config(given.config, given.overrides)
    cluster = ClusterConfig(nodes="2", signal_seconds=90)
    return Request(given.config, tuple(given.overrides), config, folder / "runs" / "doctor", "", cluster), given


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ([], []),
        (["--quiet", "--run-dir", "/runs/a", "--json", "mine.json"], ["--run-dir", "/runs/a"]),
        (["optim.lr=0.5"], ["--config", "{folder}/config.yaml"]),
    ],
)
def test_the_job_runs_the_doctor(tmp_path: Path, words: list[str], arguments: list[str]) -> None:
    request, given = a_request(tmp_path, *words)
    job = make_doctor_job(request, given, tmp_path, Snapshot((tmp_path,), {}))
    own = ["--json", f"{tmp_path}/runs/doctor/doctor.json", "--signal-seconds", "90", "--device", "auto"]
    quiet = ["--quiet"] if "--quiet" in words else []
    assert list(job.arguments) == [word.format(folder=tmp_path) for word in arguments] + own + quiet
    assert job.module == "signs_dist.doctor"
    build_parser().parse_intermixed_args(list(job.arguments))
    if "--config" in job.arguments:
        assert "lr: 0.5" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(("status", "code"), [("fail", 1), ("warn", 0), (None, 7)])
def test_following_a_job_to_its_end(
    tmp_path: Path,
    status: str | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "logs" / "job7.0.rank0.txt"
    log.parent.mkdir()
    states = [JobState("7", "PENDING"), JobState("7", "RUNNING", nodes="n[1-2]"), JobState("7", "FAILED", exit_code=7)]

    def ask(job: str) -> JobState:
        state = states.pop(0)
        if state.state == "RUNNING":
            log.write_text("ok    names\n")
        if state.state == "FAILED":
            log.write_text("ok    names\nfail  ports\n")
            if status is not None:
                (tmp_path / "doctor.json").write_text(json.dumps({"status": status}))
        return state

    monkeypatch.setattr(follow, "ask_state", ask)
    monkeypatch.setattr(follow, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(doctor, "POLL_SECONDS", 0.0)
    assert follow_doctor(tmp_path, "7") == code
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if not line.startswith("job 7: ")] == ["ok    names", "fail  ports"]
    assert "job 7: running on n[1-2]\n" in said.out
    assert ("the doctor has not ended: job 7 is failed." in said.err) == (status is None)


def test_a_requeued_job_is_followed_from_the_beginning_of_its_new_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    states = [JobState("7", "RUNNING"), JobState("7", "RUNNING"), JobState("7", "COMPLETED", exit_code=0)]

    def ask(job: str) -> JobState:
        if len(states) == 3:
            (logs / "job7.0.rank0.txt").write_text("ok    versions\nok    cores\n")
        if len(states) == 2:
            (logs / "job7.1.rank0.txt").write_text("ok    names\n")
        if len(states) == 1:
            (tmp_path / "doctor.json").write_text(json.dumps({"status": "ok"}))
        return states.pop(0)

    monkeypatch.setattr(follow, "ask_state", ask)
    monkeypatch.setattr(follow, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(doctor, "POLL_SECONDS", 0.0)
    assert follow_doctor(tmp_path, "7") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("job 7: ")]
    assert said == ["ok    versions", "ok    cores", "ok    names"]


def test_help_names_the_doctor_and_not_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: python launch/submit.py doctor ")
    assert "Examine the nodes that a run with these flags would get" in said
    assert "Exit codes: 0 no fail, 1 a fail, 2 wrong input or refused by SLURM." in said
