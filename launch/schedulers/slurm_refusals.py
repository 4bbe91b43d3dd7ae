"""What to type when SLURM refuses a job: its own messages say only what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from signs_dist.errors import UserError

if TYPE_CHECKING:
    from ..cluster import ClusterConfig


_Advice = Callable[["ClusterConfig"], str]


def _of_account(cluster: ClusterConfig) -> str:
    given = f"--account {cluster.account}: " if cluster.account else "no --account was given: "
    return f"{given}sacctmgr show associations user=$USER format=account,partition,qos lists those that you may use."


def _of_qos(cluster: ClusterConfig) -> str:
    given = f"--qos {cluster.qos}: " if cluster.qos else "no --qos was given: "
    return f"{given}sacctmgr show associations user=$USER format=account,partition,qos lists those that you may use."


def _of_policy(cluster: ClusterConfig) -> str:
    return (
        f"--nodes {cluster.nodes}, --time {cluster.time} or the number of your jobs is more than your account or QOS "
        f"allows: sacctmgr show qos lists its limits. Type a smaller number, or another --qos."
    )


def _of_constraint(cluster: ClusterConfig) -> str:
    given = f"--constraint {cluster.constraint}: " if cluster.constraint else ""
    return f"{given}sinfo --format='%N %f' lists the features that nodes have."


def _of_reservation(cluster: ClusterConfig) -> str:
    name = cluster.extra.get("reservation", "")
    return f"--extra reservation={name}: scontrol show reservation lists those that there are."


def _of_extra(cluster: ClusterConfig) -> str:
    given = ", ".join(name if value is True else f"{name}={value}" for name, value in cluster.extra.items())
    return f"--extra gave {given}." if given else ""


def _of_partition(cluster: ClusterConfig) -> str:
    return f"--partition {cluster.partition or '(the default one)'}: sinfo --summarize lists those that there are."


def _of_group(cluster: ClusterConfig) -> str:
    name = cluster.partition or ""
    return f"scontrol show partition {name}".rstrip() + " lists who may use it. Type another --partition or --account."


def _of_time(cluster: ClusterConfig) -> str:
    return f"--time {cluster.time}: sinfo --format='%P %l' lists the longest time of each partition."


def _of_nodes(cluster: ClusterConfig) -> str:
    asked = [f"--nodes {cluster.nodes}"]
    if cluster.gpus_per_node:
        kind = f" --gpu-type {cluster.gpu_type}" if cluster.gpu_type else ""
        asked.append(f"--gpus-per-node {cluster.gpus_per_node}{kind}")
    if cluster.memory:
        asked.append(f"--memory {cluster.memory}")
    return f"{' '.join(asked)}: sinfo --format='%P %D %c %m %G' lists the nodes, cores, MB and GPUs of each partition."


_ADVICE: tuple[tuple[str, _Advice], ...] = (
    (r"job violates|QOS(Max|Grp)|Assoc(Max|Grp)", _of_policy),
    (r"qos", _of_qos),
    (r"invalid account|account/partition", _of_account),
    (r"feature", _of_constraint),
    (r"reservation", _of_reservation),
    (r"group not permitted|not permitted to use|access/permission denied", _of_group),
    (r"time limit", _of_time),
    (r"node configuration|node count|generic resource|\bgres\b|memory spec|processors requested", _of_nodes),
    (r"partition", _of_partition),
    (r"specification|license|node name|dependency|unrecognized option", _of_extra),
)
"""(what SLURM's message holds, what to type). The first that fits. The messages are those of slurm_errno.c."""


def refusal(told: str, cluster: ClusterConfig) -> UserError:
    """The error for a job that SLURM refuses.

    Args:
        told: SLURM's message, in one line.
        cluster: what the job asks for.
    """
    fitting = (advice(cluster) for pattern, advice in _ADVICE if re.search(pattern, told, re.IGNORECASE))
    hint = next(fitting, "")
    told = told or "it gave no reason."
    separator = " " if told.endswith(".") else ". "
    return UserError(f"SLURM does not take this job: {told}{separator + hint if hint else ''}")
