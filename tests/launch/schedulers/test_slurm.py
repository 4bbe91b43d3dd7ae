"""What a submission to SLURM finds out and tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.cluster import ClusterConfig
from launch.request import Request
from launch.schedulers.slurm import Slurm, describe_nodes, describe_requeue, describe_variables
from launch.schedulers.slurm_questions import parse_config
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from tests.slurm_cluster import answer_with, put_scontrol


def test_the_devices_are_told() -> None:
    assert describe_nodes(ClusterConfig()) == "1 node, 1 process on each, started by srun, on the CPU"
    told = describe_nodes(ClusterConfig(nodes="1-4", gpus_per_node=2, agent="torchrun"))
    assert told.startswith("1 to 4 nodes, 2 processes on each, started by torchrun; each sees all of the job's GPUs")


CONFIG = """\
Configuration data as of 2026-11-25T22:00:00
KillWait                = 30 sec
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SlurmctldParameters     = enable_configless,preempt_send_user_signal
"""


@pytest.mark.parametrize(
    ("changes", "partition", "told"),
    [
        ({}, {"PreemptMode": "REQUEUE", "GraceTime": "60"}, "signalled 60 s before, saved and requeued"),
        (
            {},
            {"PreemptMode": "REQUEUE", "GraceTime": "0"},
            "SIGTERM, saved if that takes less than 30 s, and requeued by SLURM",
        ),
        ({"SlurmctldParameters": "(null)"}, {"GraceTime": "60"}, "SIGTERM, saved if that takes less than 30 s"),
        ({}, {"PreemptMode": "OFF"}, "never on this partition"),
        ({"PreemptType": "preempt/none"}, {}, "never on this partition"),
        ({}, {"PreemptMode": "CANCEL"}, "CANCEL on this partition, so the job is not requeued"),
        (
            {},
            {"PreemptMode": "CANCEL", "GraceTime": "9"},
            "signalled 9 s before, saved, and requeued by the job's own script (CANCEL on",
        ),
        ({}, {"PreemptMode": "SUSPEND,GANG"}, "SLURM suspends the job, and resumes it where it was"),
    ],
)
def test_what_a_requeue_will_do(changes: dict[str, str], partition: dict[str, str], told: str) -> None:
    lines = describe_requeue({**parse_config(CONFIG), **changes}, partition, ClusterConfig())
    assert lines[0] == "at the time limit: saved and requeued 120 s before it, at most 20 times; 50 requeues in all"
    assert told in lines[1]


def test_an_array_that_squeue_has_forgotten_is_asked_for_by_its_jobs(some_slurm: Path) -> None:
    answer_with(some_slurm, "squeue", "7_0 RUNNING\n7_1 COMPLETED")
    assert Slurm().find_alive(["7_0", "7_1"]) == {"7_0"}
    answer_with(some_slurm, "squeue", "", code=1)
    put_scontrol(some_slurm, "echo 'Invalid job id specified' >&2; exit 1")
    answer_with(some_slurm, "sacct", "COMPLETED")
    assert Slurm().find_alive(["7_0"]) == set()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(("7", "/home/my runs/a=1"), ("7_3", "/home/my runs/a=1"), ("runs/a", None), ("local7", None), ("7;x", None)),
        *((name, None) for name in ("0", "00", "07", "4294967303", "٧")),
    ],
)
def test_the_run_of_a_job_is_found_by_where_its_script_writes(some_slurm: Path, name: str, found: str | None) -> None:
    output = "/home/my runs/a=1/submit/002/submitit/7_0_log.out"
    answer_with(some_slurm, "scontrol", f"JobId=7 StdErr=/x StdOut={output} Power=")
    assert Slurm().find_run(name) == (None if found is None else Path(found))


def test_logs_of_a_trial_lie_in_the_folder_of_its_array(tmp_path: Path) -> None:
    for path in ("grid/a/submit/001/submitit/6_0_log.out", "grid/submit/001/submitit/7_1_0_log.out"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    assert [path.name for path in Slurm().logs(tmp_path / "grid" / "a", "7_1")] == ["7_1_0_log.out"]
    assert [path.name for path in Slurm().logs(tmp_path / "grid" / "a", "6")] == ["6_0_log.out"]


PARTITIONS = "PartitionName=main Default=YES MaxTime=UNLIMITED\nPartitionName=gpu Default=NO MaxTime=UNLIMITED"
NODES = "NodeName=n1 CPUTot=2 RealMemory=500 Gres=(null) Partitions=main"


def put_answers(folder: Path) -> None:
    """A scontrol that tells of a small cluster."""
    (folder / "scontrol").write_text(
        f'#!/bin/sh\ncase "$*" in\n'
        f"  *config) echo 'KillWait = 30 sec' ;;\n  *partition) echo '{PARTITIONS}' ;;\n"
        f"  *nodes) echo '{NODES}' ;;\nesac\n"
    )
    (folder / "scontrol").chmod(0o755)


def make_request(**values: Any) -> Request:
    config = load_config(None, [])
    return Request(None, (), config, Path("/nowhere/run"), "run", ClusterConfig(**values))


def test_what_is_found_out_before_the_queue(some_slurm: Path) -> None:
    put_answers(some_slurm)
    findings = Slurm().check(make_request(memory="400"))
    assert findings.doubt is None
    assert findings.lines["memory"] == ["400 of each node (SLURM reads 400 as megabytes; as gigabytes it is 400G)"]
    assert list(findings.lines) == ["devices", "time", "memory", "waits", "env", "signal", "requeue"]


def test_a_job_that_does_not_fit_is_refused_if_its_partition_was_named(
    some_slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_answers(some_slurm)
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    told = "the nodes of partition main have 2 cores at most"
    with pytest.raises(UserError, match=told):
        Slurm().check(make_request(tasks_per_node=4, partition="main"))
    # Not named: the site may route the job elsewhere, so SLURM itself is asked later.
    doubt = Slurm().check(make_request(tasks_per_node=4)).doubt
    assert told in str(doubt)


def test_a_range_that_reaches_beyond_the_nodes_is_noted(some_slurm: Path) -> None:
    put_answers(some_slurm)
    findings = Slurm().check(make_request(nodes="1-9"))
    assert findings.doubt is None
    assert "--nodes 1-9: partition main gives at most" in str(findings.too_many)


def test_where_no_slurm_answers_it_says_what_to_type(some_slurm: Path) -> None:
    put_scontrol(some_slurm, "exit 1")
    with pytest.raises(UserError, match=r"no SLURM answers on this machine .* type --cluster local"):
        Slurm().check(make_request())


def test_the_variables_that_act_and_those_that_do_not_are_told() -> None:
    environment = {
        "SBATCH_PARTITION": "gpu",
        "SBATCH_TIMELIMIT": "3",
        "SBATCH_EXPORT": "NONE",
        "SBATCH_RESERVATION": "x",
    }
    cluster = ClusterConfig(time="2:00:00", partition="gpu")
    assert describe_variables(cluster, environment) == [
        "acts on the job: SBATCH_PARTITION=gpu",
        "acts on the job: SBATCH_RESERVATION=x",
        "ignored, since the job's settings say otherwise: SBATCH_EXPORT=NONE, SBATCH_TIMELIMIT=3",
    ]
    assert describe_variables(cluster, {"PATH": "/bin"}) == []
    # In a job SLURM's own variables are no news.
    assert describe_variables(cluster, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}) == []


def test_a_cluster_that_sbatch_alone_would_take_is_refused(some_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_answers(some_slurm)
    monkeypatch.setenv("SBATCH_CLUSTERS", "other")
    with pytest.raises(UserError, match=r"SBATCH_CLUSTERS=other: .* Type SLURM_CLUSTERS=other before this command"):
        Slurm().check(make_request())


def test_a_filter_of_squeue_does_not_hide_a_job(some_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    (some_slurm / "squeue").write_text('#!/bin/sh\n[ -n "$SQUEUE_PARTITION" ] || echo "7_0 RUNNING"\n')
    (some_slurm / "squeue").chmod(0o755)
    assert Slurm().find_alive(["7_0"]) == {"7_0"}
