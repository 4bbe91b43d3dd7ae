"""SLURM's notations: attempts of a job, node lists, tasks of a node."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from signs_dist.environment.variables import parse_number, read_number


def parse_tasks_per_node(text: str, node: int) -> int | None:
    """Tasks on one node by SLURM's short form, such as `4`, `2(x3)` or `2(x2),1`; None if the text does not give them.

    Args:
        text: the counts of consecutive nodes; `(x3)` repeats one (srun's manual, SLURM_TASKS_PER_NODE).
        node: number of the node among the nodes of the step, from 0.
    """
    found, first = None, 0
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", part)
        if match is None:
            return None
        last = first + int(match[2] or 1)
        found = int(match[1]) if first <= node < last else found
        first = last
    return found


@dataclasses.dataclass(frozen=True)
class JobAttempt:
    """An attempt of a SLURM job: the job's id, as SLURM's commands take it, and how many times it was requeued."""

    job: str
    restart_count: int

    @property
    def mark(self) -> str:
        """The name of this attempt in file names."""
        return f"{self.job}.{self.restart_count}"

    @classmethod
    def from_mark(cls, mark: str) -> JobAttempt | None:
        """The attempt that has this mark; None for anything else, such as "" outside of SLURM."""
        found = re.fullmatch(r"(\w+)\.([0-9]{1,9})", mark)
        return cls(found[1], int(found[2])) if found else None

    def is_after(self, other: JobAttempt | None) -> bool:
        """Whether this is a later attempt of the same job."""
        return other is not None and self.job == other.job and self.restart_count > other.restart_count


def read_job_attempt(environment: Mapping[str, str]) -> JobAttempt:
    """The job attempt that this environment belongs to. A job of submitit's local executor has the id `local<id>`.

    Raises:
        UserError: a variable is not a number.
    """
    array, element = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{element}" if array and element else environment.get("SLURM_JOB_ID")
    return JobAttempt(
        job or f"local{environment.get('SUBMITIT_LOCAL_JOB_ID', '')}",
        read_number(environment, "SLURM_RESTART_COUNT", 0),
    )


def read_node_list(environment: Mapping[str, str]) -> str:
    """The machines of the job that this environment belongs to, in SLURM's short form; "" outside of a job."""
    return environment.get("SLURM_JOB_NODELIST", "")


def node_name(environment: Mapping[str, str], host: str) -> str:
    """What SLURM calls this machine; outside of a job its `host` name."""
    return environment.get("SLURMD_NODENAME") or host


def job_variables(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that a SLURM job sets for its processes; empty outside of a job.

    SLURM_CONF, SLURM_CLUSTERS and SLURM_JWT are omitted: they name the cluster and the user, not the job.
    """
    if "SLURM_JOB_ID" not in environment:
        return []
    prefixes, kept = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"), ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
    return [name for name in environment if name.startswith(prefixes) and name not in kept]


def find_default_partition(environment: Mapping[str, str]) -> str | None:
    """The partition that sbatch uses if a script names none (sbatch(1), INPUT ENVIRONMENT VARIABLES)."""
    return environment.get("SBATCH_PARTITION")


def first_node(text: str) -> str:
    """The first machine of a node list in SLURM's short form, such as `n[03-05,9],gpu1`; "" for an empty one."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", text)
    assert first is not None  # it also matches the empty text
    return re.sub(r"\[([^\]]*)\]", lambda found: re.split(r"[,-]", found[1])[0], first[0])


def read_granted_cores(environment: Mapping[str, str]) -> int | None:
    """Cores of the job on this machine (SLURM_CPUS_ON_NODE); None outside of a job's step."""
    return parse_number(environment.get("SLURM_CPUS_ON_NODE")) if "SLURM_PROCID" in environment else None


def slurm_version(config: Mapping[str, str]) -> str:
    """SLURM's version, such as 24.05.3, from the settings of `scontrol show config`; "" without it."""
    return config.get("SLURM_VERSION", "")


def read_step(environment: Mapping[str, str]) -> str:
    """The step that this environment belongs to, as SLURM's commands take it, such as `12.0`; "" outside of one."""
    job, step = environment.get("SLURM_JOB_ID"), environment.get("SLURM_STEP_ID")
    return f"{job}.{step}" if job and step else ""
