"""Whether a job fits on a partition and on its nodes: what it asks for, compared with what SLURM tells of them."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from signs_dist.errors import UserError

from ..durations import parse_duration

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

OUT_OF_SERVICE = frozenset(
    {
        *("DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL", "INVALID_REG"),
        *("MAINT", "MAINTENANCE", "NOT_RESPONDING", "NO_RESPOND", "UNKNOWN"),
    }
)
"""States of a node on which SLURM starts no job (sinfo(1), NODE STATE CODES); a * at the end: it does not answer."""
MOST_NAMED = 5
"""Nodes in a line."""


def choose_partitions(text: str | None, partitions: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The settings of the partitions that may run the job: the default one, or those of a list such as `gpu,long`.

    Args:
        text: `--partition`, or None.
        partitions: all, of `scontrol show partition`; empty where SLURM does not tell.

    Raises:
        UserError: there is no partition of a name.
    """
    known = {partition.get("PartitionName", ""): partition for partition in partitions}
    if not known:
        return []
    if text is None:
        return [partition for partition in partitions if partition.get("Default") == "YES"]
    for name in text.split(","):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"--partition {text}: this cluster has no {name}.{hint} It has {', '.join(known)}.")
    return [known[name] for name in text.split(",")]


def choose_fitting(
    cluster: ClusterConfig, partitions: Sequence[Mapping[str, str]], nodes: Sequence[Mapping[str, str]]
) -> Mapping[str, str]:
    """The first partition on which the job fits; empty without any partition.

    Raises:
        UserError: it fits on none; the message is about the first partition.
    """
    problems = []
    for partition in partitions:
        try:
            check_partition(cluster, partition)
            check_nodes(cluster, partition, nodes)
        except UserError as error:
            problems.append(error)
        else:
            return partition
    if problems:
        raise problems[0]
    return {}


def check_partition(cluster: ClusterConfig, partition: Mapping[str, str]) -> None:
    """Compare the time with what a partition allows: SLURM accepts a job that asks for more, and never starts it.

    Args:
        cluster: what the job asks for.
        partition: of `scontrol show partition`.

    Raises:
        UserError: it is too long, or the partition takes no jobs.
    """
    if partition.get("State") in ("DRAIN", "INACTIVE"):
        name, state = partition["PartitionName"], partition["State"]
        raise UserError(f"partition {name} takes no jobs now (State={state}). Type another --partition, or ask later.")
    allowed = parse_duration(partition.get("MaxTime", ""))
    if allowed is not None and cluster.minutes * 60 > allowed:
        minutes = int(allowed // 60)
        raise UserError(
            f"--time {cluster.time}: partition {partition['PartitionName']} allows at most {partition['MaxTime']}. "
            f"Type --time {minutes}, or another --partition."
        )


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node has.

    Attributes:
        name, state: as SLURM names them.
        cores: number of cores.
        megabytes: memory in MiB.
        gpus: number by kind; the kind is "" where SLURM does not tell it.
        features: those that are active, or else all.
        architecture: such as x86_64; "" where SLURM does not tell it.
        shape: `2x32x2`: sockets, cores of each, threads of each; "" where SLURM does not tell it.
    """

    name: str
    state: str
    cores: int
    megabytes: int
    gpus: Mapping[str, int]
    features: frozenset[str] = frozenset()
    architecture: str = ""
    shape: str = ""

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Node:
        """From the fields of `scontrol show nodes`."""
        gpus: dict[str, int] = {}
        for kind, count in re.findall(r"(?:^|,)gpu:(?:([^:,(]+):)?(\d+)", fields.get("Gres", "")):
            gpus[kind] = gpus.get(kind, 0) + int(count)
        name, state = fields.get("NodeName", ""), fields.get("State", "")
        told = (fields.get(each, "(null)") for each in ("ActiveFeatures", "AvailableFeatures"))
        features = next((text for text in told if text != "(null)"), "")
        shape = [fields.get(each, "") for each in ("Sockets", "CoresPerSocket", "ThreadsPerCore")]
        return cls(
            name,
            state,
            int(fields.get("CPUTot", 0)),
            int(fields.get("RealMemory", 0)),
            gpus,
            frozenset(filter(None, features.split(","))),
            fields.get("Arch", ""),
            "x".join(shape) if all(shape) else "",
        )

    @property
    def is_in_service(self) -> bool:
        """Whether SLURM starts jobs on it: it may be busy, or powered down until a job needs it."""
        return not self.state.endswith("*") and OUT_OF_SERVICE.isdisjoint(self.state.split("+"))

    def fits(self, cluster: ClusterConfig) -> bool:
        """Whether it has what a job asks of each node."""
        return (
            self.num_gpus(cluster.gpu_type) >= cluster.gpus_per_node
            and self.cores >= cluster.num_local_processes * (cluster.cpus_per_task or 1)
            and self.megabytes >= cluster.megabytes
        )

    def num_gpus(self, kind: str | None) -> int:
        """Its GPUs of a kind, or all of them."""
        return sum(self.gpus.values()) if kind is None else self.gpus.get(kind, 0)


def check_nodes(cluster: ClusterConfig, partition: Mapping[str, str], nodes: Sequence[Mapping[str, str]]) -> None:
    """Compare what a job asks of each node with what the partition's nodes have: SLURM only says that it does not fit.

    Args:
        cluster: what the job asks for.
        partition: of `scontrol show partition`.
        nodes: of `scontrol show nodes`; nodes of other partitions are ignored.

    Raises:
        UserError: no node has so many cores, so much memory or such GPUs, or too few nodes have all of it.
    """
    name = partition.get("PartitionName", "")
    own = nodes_of(name, nodes)
    if not own:
        return
    where, kind = f"the nodes of partition {name}", cluster.gpu_type
    kinds = sorted({each for node in own for each in node.gpus if each})
    if kind is not None and kind not in kinds:
        raise UserError(f"--gpu-type {kind}: {where} have {', '.join(kinds) or 'no kinds of GPU'}.")
    most_gpus = max(node.num_gpus(kind) for node in own)
    if cluster.gpus_per_node > most_gpus:
        way_out = (
            f"Type --gpus-per-node {most_gpus}, or another --partition" if most_gpus else "Name another --partition"
        )
        raise UserError(f"--gpus-per-node {cluster.gpus_per_node}: {where} have {most_gpus} at most. {way_out}.")
    tasks, cores = cluster.num_local_processes, cluster.cpus_per_task or 1
    most_cores = max(node.cores for node in own)
    if tasks * cores > most_cores:
        flag = f"--cpus-per-task {most_cores // tasks}" if most_cores >= tasks else f"--tasks-per-node {most_cores}"
        each = f"{tasks} process{'es' if tasks > 1 else ''} of {cores} core{'s' if cores > 1 else ''}"
        raise UserError(f"{each} on each node: {where} have {most_cores} cores at most. Type {flag}.")
    wanted, most_megabytes = cluster.megabytes, max(node.megabytes for node in own)
    if wanted > most_megabytes:
        raise UserError(
            f"--memory {cluster.memory}: {where} have {most_megabytes}M at most. Type --memory {most_megabytes}M."
        )
    if not any(node.fits(cluster) for node in own):
        raise UserError(f"no node of partition {name} has all that is asked for: cores, memory and GPUs together.")
    too_many = find_too_many(cluster, partition, nodes)
    if too_many is not None and cluster.num_nodes[0] > _most_nodes(cluster, partition, own):
        raise too_many


def find_too_many(
    cluster: ClusterConfig, partition: Mapping[str, str], nodes: Sequence[Mapping[str, str]]
) -> UserError | None:
    """That a partition gives fewer nodes than a job takes at most; None if it gives all, or SLURM does not tell.

    SLURM takes a range such as 1-9 where there are 3 nodes, and gives up to 3.
    """
    name = partition.get("PartitionName", "")
    own = nodes_of(name, nodes)
    most = _most_nodes(cluster, partition, own)
    least, wanted = cluster.num_nodes
    if not own or wanted <= most:
        return None
    such = ("such " if not all(node.fits(cluster) for node in own) else "") + ("node" if most == 1 else "nodes")
    legal = f"{least}-{most}" if least < most else f"{most}"
    return UserError(f"--nodes {cluster.nodes}: partition {name} gives at most {most} {such}. Type --nodes {legal}.")


def _most_nodes(cluster: ClusterConfig, partition: Mapping[str, str], own: Sequence[Node]) -> int:
    """How many of the partition's nodes a job may get, of those that have what it asks for."""
    limit, fitting = partition.get("MaxNodes", ""), sum(node.fits(cluster) for node in own)
    return min(fitting, int(limit)) if limit.isdigit() else fitting


def describe_unavailable(
    cluster: ClusterConfig, partition: Mapping[str, str], nodes: Sequence[Mapping[str, str]]
) -> list[str]:
    """What a job waits for, beside other jobs: nodes out of service without which it cannot start, or its partition."""
    name = partition.get("PartitionName", "")
    lines = [f"partition {name} is down: the job waits until it is up"] if partition.get("State") == "DOWN" else []
    fitting = [node for node in nodes_of(name, nodes) if node.fits(cluster)]
    out = [f"{node.name} is {node.state.lower()}" for node in fitting if not node.is_in_service]
    least = cluster.num_nodes[0]
    if out and len(fitting) - len(out) < least:
        lines.append(
            f"{len(fitting) - len(out)} of {len(fitting)} nodes of partition {name} that fit are in service, and the "
            f"job needs {least}: {', '.join(out[:MOST_NAMED])}{', …' if len(out) > MOST_NAMED else ''}. It waits; "
            f"sinfo --list-reasons tells why"
        )
    return lines


def nodes_of(partition: str, nodes: Sequence[Mapping[str, str]]) -> list[Node]:
    """The nodes of a partition; `nodes` are of `scontrol show nodes`."""
    return [Node.from_fields(node) for node in nodes if partition in node.get("Partitions", "").split(",")]
