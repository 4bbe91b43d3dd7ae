"""What SLURM's settings mean for a run, and whether its signal arrives."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from signs_dist.health.finding import places_of
from signs_dist.health.slurm import (
    SignalWatch,
    judge,
    judge_partitions,
    judge_preemption,
    judge_requeue,
    judge_signal,
    judge_time_to_save,
    last_save_seconds,
    read_slurm,
)
from tests.slurm_cluster import answer_with

MAIN = {"PartitionName": "main", "Default": "YES", "MaxTime": "1-00:00:00", "TotalNodes": "4", "State": "UP"}
LOW = MAIN | {"PartitionName": "low", "Default": "NO", "PreemptMode": "REQUEUE", "GraceTime": "60"}


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = judge(read_slurm(None))
    assert (finding.status, finding.measured) == ("skip", "no SLURM on this machine (no scontrol in PATH)")


def test_within_a_job_scontrol_is_needed() -> None:
    (finding,) = judge({"why": "SLURM does not answer (scontrol show config)", "in_job": True})
    assert finding.status == "warn"


def test_what_slurm_says(some_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(
        some_slurm, "scontrol", "KillWait = 30 sec\nSLURM_VERSION = 24.05\nPartitionName=main State=UP MaxTime=60"
    )
    reading = read_slurm(None)
    assert reading["config"]["KillWait"] == "30 sec"
    found = judge(reading)
    assert [each.check for each in found] == ["slurm", "requeue", "preemption", "time to save"]
    assert {each.status for each in found} == {"ok"}


@pytest.mark.parametrize(
    ("partitions", "status", "told"),
    [
        ([MAIN], "ok", "SLURM 24.05: main (the default) up to 1-00:00:00 on 4 nodes"),
        ([MAIN, LOW | {"State": "DOWN"}], "warn", "low takes no jobs now"),
        ([], "warn", "no partition"),
    ],
)
def test_partitions(partitions: list[dict[str, str]], status: str, told: str) -> None:
    finding = judge_partitions({"SLURM_VERSION": "24.05"}, partitions)
    assert finding.status == status
    assert told in finding.measured


def test_only_the_partition_of_the_job_counts() -> None:
    reading = {"config": {}, "partitions": [MAIN, LOW | {"State": "DOWN"}], "job": {"Partition": "main"}}
    assert judge({**reading, "save_seconds": None})[0].status == "ok"


def test_requeues() -> None:
    assert judge_requeue({"JobRequeue": "1"}, {}).status == "ok"
    assert judge_requeue({}, {"Requeue": "1"}).status == "ok"
    refused = judge_requeue({}, {"Requeue": "0"})
    assert (refused.status, refused.measured) == ("warn", "SLURM does not requeue this job")


@pytest.mark.parametrize(
    ("partition", "save", "status", "told"),
    [
        ({}, None, "ok", "low: REQUEUE, SIGTERM 60 s before"),
        ({"GraceTime": "0"}, None, "ok", "low: REQUEUE, 30 s after the signal"),
        ({}, 90.0, "warn", "on low there are 60 s to save, and the last save took 90 s"),
        ({"PreemptMode": "CANCEL", "GraceTime": "0"}, None, "warn", "ended and not requeued (CANCEL, GraceTime=0)"),
        ({"PreemptMode": "SUSPEND,GANG"}, 90.0, "ok", "low: suspended and resumed"),
        ({"PreemptMode": "OFF"}, 90.0, "ok", "low: never"),
    ],
)
def test_preemption(partition: dict[str, str], save: float | None, status: str, told: str) -> None:
    config = {"PreemptType": "preempt/partition_prio", "KillWait": "30 sec"}
    finding = judge_preemption(config, [LOW | partition], save)
    assert finding.status == status
    assert told in finding.measured
    assert judge_preemption({}, [LOW | partition], save).measured == "never on this cluster"


@pytest.mark.parametrize(
    ("save", "status", "mend"),
    [
        (None, "ok", ""),
        (2.0, "ok", ""),
        (40.0, "warn", "checkpoint.every_seconds"),
        (70.0, "fail", "--signal-seconds 281"),
    ],
)
def test_time_to_save(save: float | None, status: str, mend: str) -> None:
    finding = judge_time_to_save({"KillWait": "30 sec"}, save, 120)
    assert finding.status == status
    assert mend in finding.mend
    assert "SIGKILL comes 30 s after SIGTERM" in finding.measured


def test_the_last_save(tmp_path: Path) -> None:
    assert last_save_seconds(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind": "save", "epoch": 1, "step": 5, "stall_seconds": 0.1, "last_write_seconds": 4.5, "version": 2}\n'
    )
    assert last_save_seconds(tmp_path) == 4.5


def test_a_signal_that_arrives_and_one_that_does_not(some_slurm: Path) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    (some_slurm / "scancel").write_text(f"#!/bin/sh\ntest \"$*\" = '--signal=USR2 7.0' && kill -USR2 {os.getpid()}\n")
    (some_slurm / "scancel").chmod(0o755)
    watch = SignalWatch("7.0")
    try:
        assert watch.wait(0.01) is None
        assert watch.send() == ""
        assert watch.wait(5.0) is not None
        answer_with(some_slurm, "scancel", "", code=3)
        assert watch.send() == "exit code 3"
    finally:
        watch.close()
    assert signal.getsignal(signal.SIGUSR2) == before


@pytest.mark.parametrize(
    ("arrived", "problem", "status", "told"),
    [
        ({0: 0.1, 1: 0.2}, "", "ok", "SIGUSR2 of SLURM reached 2 ranks within 0.2 s"),
        ({0: 0.1, 1: None}, "", "fail", "SIGUSR2 of SLURM did not reach rank 1 on n2 within 10 s"),
        ({0: 0.1, 1: 6.0}, "", "warn", "within 6.0 s"),
        ({0: None, 1: None}, "Access denied", "warn", "SLURM does not send it: Access denied"),
    ],
)
def test_judging_the_signal(arrived: dict[int, Any], problem: str, status: str, told: str) -> None:
    finding = judge_signal(arrived, problem, places_of({0: "n1", 1: "n2"}))
    assert finding.status == status
    assert told in finding.measured
