"""The settings and the files of the cluster that `slurm.dev_cluster` starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

MIN_CREDENTIAL_SECONDS = 5
"""A requeued job waits for its credential to expire, 120 s by default. SLURM accepts no shorter time than this."""

SACCT = """#!/bin/sh
# submitit asks sacct for the states of jobs. The sacct of SLURM needs a database; this script asks the controller.
ids=
while [ $# -gt 0 ]; do
  case $1 in -j) ids="$ids,$2"; shift ;; esac
  shift
done
echo "JobID|State|NodeList"
squeue --noheader --array --states=all --jobs="${ids#,}" --format='%i|%T|%N' 2>/dev/null
exit 0
"""


# Many members: one for each property of the cluster.
@dataclasses.dataclass(frozen=True)
class ClusterPlan:
    """The settings of a cluster.

    Attributes:
        folder: absolute path of the cluster's files.
        num_nodes, num_cpus, num_gpus, memory_mb: number of nodes; cores, fake GPUs and memory (MB) of each node.
        grace_seconds: how long a preempted job of partition `low` may continue (GraceTime).
        kill_seconds: between SIGTERM and SIGKILL (KillWait; SLURM's default is 30).
        sends_user_signal: whether preemption sends the signal that a job asked for with --signal.
        user: the user of the daemons.
        ports: one for the controller, then one for each node.
        first_job_id: the first job id. A launcher may compute ports from job ids, and clusters share this machine's
            ports, so clusters need different ids.
    """

    folder: Path
    num_nodes: int = 4
    num_cpus: int = 4
    num_gpus: int = 2
    memory_mb: int = 4000
    grace_seconds: int = 8
    kill_seconds: int = 5
    sends_user_signal: bool = True
    user: str = "root"
    ports: tuple[int, ...] = ()
    first_job_id: int = 1

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes: addresses of this machine, which need no entry in /etc/hosts."""
        return [f"127.0.1.{number}" for number in range(1, self.num_nodes + 1)]

    @property
    def config_path(self) -> Path:
        """The path of slurm.conf, which a client needs as SLURM_CONF."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def socket_path(self) -> Path:
        """The socket of munged."""
        return self.folder / "munge" / "socket"


def slurm_conf(plan: ClusterPlan) -> str:
    """The text of slurm.conf (slurm.conf(5))."""
    folder = plan.folder
    gpus = f" Gres=gpu:fake:{plan.num_gpus}" if plan.num_gpus else ""
    settings = {
        "ClusterName": "dev",
        "SlurmctldHost": "localhost(127.0.0.1)",
        "SlurmctldPort": plan.ports[0],
        "SlurmUser": plan.user,
        "SlurmdUser": plan.user,
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthInfo": f"socket={plan.socket_path},cred_expire={MIN_CREDENTIAL_SECONDS}",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.%n.pid",
        "SlurmctldLogFile": folder / "log" / "slurmctld.log",
        "SlurmdLogFile": folder / "log" / "slurmd.%n.log",
        "SlurmdSpoolDir": folder / "spool" / "%n",
        "StateSaveLocation": folder / "state",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "SlurmdParameters": "config_overrides",  # a node may have more cores than this machine
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        **({"SlurmctldParameters": "preempt_send_user_signal"} if plan.sends_user_signal else {}),
        "JobRequeue": 1,
        "ReturnToService": 2,
        "KillWait": plan.kill_seconds,
        "SlurmdTimeout": 10,
        "MinJobAge": 3600,
        "FirstJobId": plan.first_job_id,
        "MailProg": "/bin/true",
        "GresTypes": "gpu",
    }
    nodes = [
        f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={plan.num_cpus} "
        f"RealMemory={plan.memory_mb}{gpus} State=UNKNOWN"
        for name, port in zip(plan.nodes, plan.ports[1:], strict=True)
    ]
    partitions = [
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
        "PartitionName=short Nodes=ALL MaxTime=30 State=UP PriorityTier=10 PreemptMode=OFF",
        "PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE "
        f"GraceTime={plan.grace_seconds}",
        "PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=20 PreemptMode=OFF",
    ]
    return "\n".join([*(f"{name}={value}" for name, value in settings.items()), *nodes, *partitions, ""])


def gres_conf(plan: ClusterPlan) -> str:
    """The text of gres.conf: any device file counts as a GPU."""
    gpus = [
        f"NodeName={name} Name=gpu Type=fake File={plan.folder}/dev/node{number}-gpu[0-{plan.num_gpus - 1}]"
        for number, name in enumerate(plan.nodes, start=1)
        if plan.num_gpus
    ]
    return "\n".join(["AutoDetect=off", *gpus, ""])
