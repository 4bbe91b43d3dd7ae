"""SLURM's notations, as tables."""

from __future__ import annotations

import pytest

from signs_dist.environment.slurm_job import (
    JobAttempt,
    find_default_partition,
    first_node,
    job_variables,
    node_name,
    parse_tasks_per_node,
    read_granted_cores,
    read_job_attempt,
    read_node_list,
    read_step,
    slurm_version,
)


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("4", [4, None]),
        ("2(x3)", [2, 2, 2, None]),
        ("2(x2),1", [2, 2, 1, None]),
        ("3,2(x2)", [3, 2, 2, None]),
        ("1(x999999999)", [1, 1]),
        ("", [None]),
        ("2,", [None]),
        ("2(x)", [None]),
        ("2x3", [None]),
    ],
)
def test_tasks_per_node(text: str, nodes: list[int | None]) -> None:
    assert [parse_tasks_per_node(text, node) for node in range(len(nodes))] == nodes


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", ""),
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("n[03-05,9],gpu1", "n03"),
        ("n[9,12-14]", "n9"),
        ("127.0.1.[1-2]", "127.0.1.1"),
        ("rack[1-2]-n[01-04]", "rack1-n01"),
        ("a,b[1-2]", "a"),
    ],
)
def test_the_first_machine_of_a_list(text: str, first: str) -> None:
    assert first_node(text) == first


@pytest.mark.parametrize(
    ("environment", "mark"),
    [
        ({"SLURM_JOB_ID": "7"}, "7.0"),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, "7.2"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3.0"),
        ({"SUBMITIT_LOCAL_JOB_ID": "4711"}, "local4711.0"),
    ],
)
def test_an_attempt_of_a_job_has_a_name(environment: dict[str, str], mark: str) -> None:
    assert read_job_attempt(environment).mark == mark


@pytest.mark.parametrize(
    ("mark", "attempt"),
    [("7.0", JobAttempt("7", 0)), ("7_3.2", JobAttempt("7_3", 2)), ("", None), ("7", None), ("7.x", None)],
)
def test_a_name_gives_the_attempt_back(mark: str, attempt: JobAttempt | None) -> None:
    assert JobAttempt.from_mark(mark) == attempt
    assert attempt is None or attempt.mark == mark


def test_an_attempt_is_after_earlier_ones_of_its_job() -> None:
    second = JobAttempt("7", 1)
    assert second.is_after(JobAttempt("7", 0))
    assert not second.is_after(second)
    assert not second.is_after(JobAttempt("8", 0))
    assert not second.is_after(None)


def test_the_variables_of_a_job_but_not_of_the_cluster_or_user() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SRUN_DEBUG": "3", "SUBMITIT_EXECUTOR": "slurm"}
    assert job_variables({**job, "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "x", "PATH": "/bin"}) == list(job)
    assert job_variables({"SLURM_CPU_BIND": "cores"}) == []  # a person's, outside of a job


def test_the_partition_of_sbatch() -> None:
    assert find_default_partition({"SBATCH_PARTITION": "gpu"}) == "gpu"
    assert find_default_partition({}) is None


def test_the_machine_and_the_machines_of_a_job() -> None:
    environment = {"SLURMD_NODENAME": "n7", "SLURM_JOB_NODELIST": "n[7-8]"}
    assert (node_name(environment, "host"), read_node_list(environment)) == ("n7", "n[7-8]")
    assert (node_name({}, "host"), read_node_list({})) == ("host", "")


def test_the_step_and_its_cores() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_CPUS_ON_NODE": "4"}
    assert (read_step(job), read_granted_cores(job)) == ("7.0", 4)
    assert (read_step({"SLURM_JOB_ID": "7"}), read_granted_cores({"SLURM_CPUS_ON_NODE": "4"})) == ("", None)


def test_the_version() -> None:
    assert (slurm_version({"SLURM_VERSION": "24.05.3"}), slurm_version({})) == ("24.05.3", "")
