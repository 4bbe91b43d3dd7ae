"""Whether a job fits on a partition's nodes, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from launch.cluster import ClusterConfig
from launch.schedulers.slurm_nodes import (
    check_partition,
    choose_fitting,
    choose_partitions,
    describe_unavailable,
    find_too_many,
)
from launch.schedulers.slurm_questions import parse_lines
from signs_dist.errors import UserError

PARTITIONS = parse_lines(
    "PartitionName=gpu AllowGroups=ALL Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 Nodes=n[1-3]\n"
    "PartitionName=cpu AllowGroups=ALL Default=NO MaxNodes=1 MaxTime=UNLIMITED Nodes=n[3-4]"
)


NODES = parse_lines(
    "NodeName=n1 CPUTot=32 Gres=gpu:a100:4(S:0-1) RealMemory=256000 OS=Linux 6.1 #1 SMP x Partitions=gpu\n"
    "NodeName=n2 CPUTot=32 Gres=gpu:a100:4,gpu:v100:2 RealMemory=256000 Partitions=gpu\n"
    "NodeName=n3 CPUTot=64 Gres=(null) RealMemory=512000 Partitions=gpu,cpu\n"
    "NodeName=n4 CPUTot=64 Gres=(null) RealMemory=512000 Partitions=cpu"
)


def test_more_time_than_a_partition_allows() -> None:
    partition = {"PartitionName": "short", "MaxTime": "00:30:00"}
    check_partition(ClusterConfig(time="30"), partition)
    check_partition(ClusterConfig(time="9-0"), {"PartitionName": "long", "MaxTime": "UNLIMITED"})
    check_partition(ClusterConfig(time="9-0"), {})
    with pytest.raises(UserError, match=r"--time 31: partition short allows at most 00:30:00\. Type --time 30"):
        check_partition(ClusterConfig(time="31"), partition)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nodes": "3", "memory": "200G"}, None),
        ({"nodes": "2", "gpus_per_node": 4, "cpus_per_task": 8, "memory": "250G"}, None),
        ({"gpus_per_node": 6}, None),
        ({"gpus_per_node": 2, "gpu_type": "v100"}, None),
        ({"partition": "cpu", "tasks_per_node": 64}, None),
        (
            {"partition": "gpus"},
            "--partition gpus: this cluster has no gpus. Did you mean gpu? It has gpu, cpu.",
        ),
        ({"gpus_per_node": 8}, "--gpus-per-node 8: the nodes of partition gpu have 6 at most. Type --gpus-per-node 6,"),
        ({"partition": "cpu", "gpus_per_node": 1}, "have 0 at most. Name another --partition."),
        ({"gpus_per_node": 1, "gpu_type": "h100"}, "--gpu-type h100: the nodes of partition gpu have a100, v100."),
        ({"gpus_per_node": 4, "gpu_type": "v100"}, "have 2 at most. Type --gpus-per-node 2"),
        (
            {"tasks_per_node": 2, "cpus_per_task": 40},
            "2 processes of 40 cores on each node: the nodes of partition gpu",
        ),
        ({"tasks_per_node": 2, "cpus_per_task": 40}, "have 64 cores at most. Type --cpus-per-task 32."),
        ({"tasks_per_node": 65}, "have 64 cores at most. Type --tasks-per-node 64."),
        ({"memory": "1T"}, "--memory 1T: the nodes of partition gpu have 512000M at most. Type --memory 512000M."),
        ({"gpus_per_node": 4, "tasks_per_node": 4, "memory": "400G"}, "no node of partition gpu has all that is asked"),
        ({"nodes": "4"}, "--nodes 4: partition gpu gives at most 3 nodes. Type --nodes 3."),
        ({"nodes": "3", "gpus_per_node": 4}, "--nodes 3: partition gpu gives at most 2 such nodes. Type --nodes 2."),
        ({"nodes": "2", "gpus_per_node": 6}, "gives at most 1 such node. Type --nodes 1."),
        ({"partition": "cpu", "nodes": "2"}, "--nodes 2: partition cpu gives at most 1 node. Type --nodes 1."),
    ],
)
def test_what_does_not_fit_on_the_nodes_is_told(values: dict[str, Any], told: str | None) -> None:
    cluster = ClusterConfig(**values)

    def check() -> None:
        choose_fitting(cluster, choose_partitions(cluster.partition, PARTITIONS), NODES)

    if told is None:
        check()
        return
    with pytest.raises(UserError) as caught:
        check()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nodes": "2-9"}, "--nodes 2-9: partition gpu gives at most 3 nodes. Type --nodes 2-3."),
        ({"nodes": "3-4"}, "--nodes 3-4: partition gpu gives at most 3 nodes. Type --nodes 3."),
        (
            {"nodes": "1-3", "gpus_per_node": 4},
            "--nodes 1-3: partition gpu gives at most 2 such nodes. Type --nodes 1-2.",
        ),
        ({"nodes": "1-2", "partition": "cpu"}, "--nodes 1-2: partition cpu gives at most 1 node. Type --nodes 1."),
        ({"nodes": "1-3"}, None),
        ({"nodes": "3"}, None),
    ],
)
def test_a_range_of_more_nodes_than_a_partition_has(values: dict[str, Any], told: str | None) -> None:
    cluster = ClusterConfig(**values)
    fitting = choose_fitting(cluster, choose_partitions(cluster.partition, PARTITIONS), NODES)  # SLURM takes it
    too_many = find_too_many(cluster, fitting, NODES)
    assert (None if too_many is None else str(too_many)) == told


def test_without_a_word_from_slurm_nothing_is_refused() -> None:
    assert find_too_many(ClusterConfig(nodes="1-4"), {}, []) is None
    assert find_too_many(ClusterConfig(nodes="1-4"), PARTITIONS[0], []) is None
    assert choose_partitions("gpu", []) == []
    assert choose_fitting(ClusterConfig(gpus_per_node=4), [], []) == {}
    assert choose_fitting(ClusterConfig(gpus_per_node=4), PARTITIONS[:1], []) == PARTITIONS[0]
    assert choose_partitions(None, PARTITIONS[1:]) == []  # a site may choose by other means


@pytest.mark.parametrize("state", ["DRAIN", "INACTIVE"])
def test_a_partition_that_takes_no_jobs(state: str) -> None:
    with pytest.raises(UserError, match=rf"partition gpu takes no jobs now \(State={state}\)"):
        check_partition(ClusterConfig(), {"PartitionName": "gpu", "State": state})


@pytest.mark.parametrize(
    ("states", "nodes", "told"),
    [
        (["IDLE", "ALLOCATED", "MIXED"], "3", None),
        (["IDLE", "IDLE+CLOUD+POWERED_DOWN", "MIXED+PLANNED"], "3", None),
        (["DOWN", "IDLE", "IDLE"], "2", None),
        (["DOWN", "IDLE", "IDLE"], "2-3", None),
        (
            ["DOWN", "IDLE", "IDLE"],
            "3",
            "2 of 3 nodes of partition gpu that fit are in service, and the job needs 3: n1",
        ),
        (
            ["DOWN*", "IDLE+DRAIN", "MIXED+DRAIN"],
            "1",
            "0 of 3 nodes of partition gpu that fit are in service, and",
        ),
        (
            ["IDLE*", "IDLE", "IDLE+MAINTENANCE"],
            "2",
            "n1 is idle*, n3 is idle+maintenance. It waits; sinfo",
        ),
        (["IDLE+NOT_RESPONDING", "IDLE", "IDLE"], "3", "n1 is idle+not_responding"),
    ],
)
def test_nodes_out_of_service_are_told_if_the_job_needs_them(states: list[str], nodes: str, told: str | None) -> None:
    fields = [{**node, "State": state} for node, state in zip(NODES, states, strict=False)]
    lines = describe_unavailable(ClusterConfig(nodes=nodes), PARTITIONS[0], fields)
    assert (lines == []) if told is None else (told in lines[0])


def test_a_partition_that_is_down_is_told() -> None:
    lines = describe_unavailable(ClusterConfig(), {"PartitionName": "gpu", "State": "DOWN"}, [])
    assert lines == ["partition gpu is down: the job waits until it is up"]
