"""What SLURM has noted of a job, compared with what was asked for.

Between sbatch and the queue a site's plugins, defaults and limits may change a job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..durations import describe_minutes, parse_duration
from .base import Difference, Submission
from .slurm_script import task_shape

if TYPE_CHECKING:
    from ..cluster import ClusterConfig

_BYTES_PER_UNIT = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_EMPTY = ("", "(null)", "N/A")


def parse_fields(shown: str) -> dict[str, str]:
    """The fields of the first line of `scontrol --oneliner show job`; a value ends at a space."""
    return dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", shown.split("\n")[0]))


def compare(submission: Submission, shown: str) -> list[Difference]:
    """What SLURM has made of a job, where that is not what was asked for; empty where it does not tell.

    Args:
        submission: what was handed over.
        shown: what `scontrol --oneliner show job` says.
    """
    fields, cluster = parse_fields(shown), submission.cluster
    if "JobId" not in fields:
        return []
    found = [
        *_compare_time(cluster, fields),
        *_compare_nodes(cluster, fields),
        *_compare_gpus(cluster, fields),
        *_compare_memory(cluster, fields),
        *_compare_names(cluster, fields),
    ]
    if fields.get("Requeue", "1") != "1":
        found.append(Difference("requeue: SLURM does not requeue this job, so it ends at its time limit", True))
    if "StdOut" in fields and f" StdOut={submission.files}/" not in shown:
        found.append(Difference(f"output: SLURM writes it to {fields['StdOut']}, where `logs` does not look"))
    return found


def _compare_time(cluster: ClusterConfig, fields: Mapping[str, str]) -> Iterator[Difference]:
    given = fields.get("TimeLimit", "")
    seconds = parse_duration(given)
    if given in ("UNLIMITED", "INFINITE"):
        yield Difference(f"--time {cluster.time}: SLURM gives no time limit")
    elif seconds is not None and seconds != cluster.minutes * 60:
        words = describe_minutes(str(int(seconds // 60))) if seconds >= 60 else given
        effect = ""
        if seconds <= cluster.signal_seconds:
            effect = f", and the signal {cluster.signal_seconds} s before it comes at the start: no step is made"
        elif seconds < cluster.minutes * 60:
            effect = ": the run is saved and requeued that often"
        yield Difference(f"--time {cluster.time}: SLURM gives {words}{effect}", seconds < cluster.minutes * 60)


def _compare_nodes(cluster: ClusterConfig, fields: Mapping[str, str]) -> Iterator[Difference]:
    """Nodes, tasks, and cores of a task."""
    least, most = cluster.num_nodes
    if found := re.fullmatch(r"(\d+)(?:-(\d+))?", fields.get("NumNodes", "")):
        few, many = int(found[1]), int(found[2] or found[1])
        if few < least or many > most:
            given = str(few) if few == many else found[0]
            yield Difference(f"--nodes {cluster.nodes}: SLURM gives {given}", few < least)
    tasks, cores = task_shape(cluster)
    total = tasks * most
    given = fields.get("NumTasks", "")
    if given.isdigit() and int(given) != total:
        yield Difference(f"{total} task{'' if total == 1 else 's'} in all: SLURM starts {given}", True)
    is_range = least != most
    wanted, given = (cores or 1) * (tasks if is_range else 1), fields.get("CPUs/Task", "")
    if (cores or is_range) and given.isdigit() and int(given) != wanted:
        yield Difference(f"{wanted} cores of each task: SLURM gives {given}", int(given) < wanted)


def _compare_gpus(cluster: ClusterConfig, fields: Mapping[str, str]) -> Iterator[Difference]:
    # `gres:gpu:a100:4` or `gres/gpu:4`; later releases write = before the count.
    texts = {name: fields.get(name, "") for name in ("TresPerNode", "TresPerTask", "TresPerJob")}
    given = {name: _count_gpus(text) for name, text in texts.items()}
    flag = f"--gpus-per-node {cluster.gpus_per_node}"
    if not cluster.gpus_per_node:
        if any(given.values()):
            yield Difference(f"{flag}: SLURM gives GPUs all the same, which the run does not use")
        return
    per_node = given["TresPerTask"] * cluster.num_local_processes if cluster.binds_gpus else given["TresPerNode"]
    if per_node != cluster.gpus_per_node:
        yield Difference(f"{flag}: SLURM gives {per_node or 'none'}", per_node < cluster.gpus_per_node)
    elif cluster.gpu_type and f":{cluster.gpu_type}" not in "".join(texts.values()):
        yield Difference(f"--gpu-type {cluster.gpu_type}: SLURM gives GPUs of any kind")


def _count_gpus(text: str) -> int:
    found = re.findall(r"gpu(?::[^:=,]*[^:=,\d][^:=,]*)?(?:[:=](\d+))?(?:,|$|\()", text)
    return sum(int(count or 1) for count in found)


def _compare_memory(cluster: ClusterConfig, fields: Mapping[str, str]) -> Iterator[Difference]:
    given = fields.get("MinMemoryNode", "")
    found = re.fullmatch(r"([\d.]+)([KMGT]?)", given)
    if found is None or not cluster.megabytes:
        return
    megabytes = float(found[1]) * _BYTES_PER_UNIT[found[2]] / 2**20
    if abs(megabytes - cluster.megabytes) > 0.01 * cluster.megabytes:  # SLURM rounds to two digits of a unit
        yield Difference(f"--memory {cluster.memory}: SLURM gives {given} on each node", megabytes < cluster.megabytes)


def _compare_names(cluster: ClusterConfig, fields: Mapping[str, str]) -> Iterator[Difference]:
    partitions = (cluster.partition or "").split(",")
    given = fields.get("Partition", "")
    if cluster.partition and given and not set(given.split(",")) <= set(partitions):
        yield Difference(f"--partition {cluster.partition}: SLURM takes {given}")
    asked = {
        "--account": (cluster.account, "Account"),
        "--qos": (cluster.qos, "QOS"),
        "--constraint": (cluster.constraint, "Features"),
        "--extra reservation": (cluster.extra.get("reservation"), "Reservation"),
    }
    for flag, (wanted, name) in asked.items():
        given = fields.get(name, "")
        # Without accounting SLURM notes no account and no QOS; it writes accounts in small letters.
        if wanted is not None and given not in _EMPTY and given.strip("[]").lower() != str(wanted).strip("[]").lower():
            yield Difference(f"{flag} {wanted}: SLURM takes {given}")
