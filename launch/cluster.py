"""What a job asks its cluster for."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .durations import parse_minutes

Count = Annotated[int, Field(ge=1, le=100_000)]
Word = Annotated[str, Field(min_length=1, max_length=200)]

_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_MEMORY = re.compile(r"[0-9]+[KMGT]?", re.ASCII)
_OTHER_FLAGS = {
    "nodes": "--nodes",
    **dict.fromkeys(("ntasks", "ntasks-per-node", "ntasks-per-gpu", "tasks-per-node"), "--tasks-per-node"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-socket"), "--gpus-per-node"),
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), "--memory"),
    "signal": "--signal-seconds",
    **{name: f"--{name}" for name in ("partition", "account", "qos", "constraint", "time", "cpus-per-task")},
    **{name: f"--{name}" for name in ("gpus-per-task", "array")},
}
"""Parameters of sbatch that a flag sets. A flag's value is checked; values in `extra` are not."""
_OWN = (
    *("output", "error", "open-mode", "job-name", "requeue", "no-requeue", "wrap", "chdir", "overcommit", "export"),
    *("export-file", "test-only", "wait", "parsable", "kill-on-invalid-dep"),
)
"""Parameters that the batch script sets, because a requeue depends on them."""
_NODES = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


# Many members: one for each of a site's settings.
class ClusterConfig(BaseModel):
    """Settings of a cluster, and of what a job asks it for. Hyperparameters belong to the run's config."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: str = "slurm"
    """The scheduler: slurm; local: processes of this machine; debug: the submitting process."""
    partition: Word | None = None
    """Which queue (sbatch --partition)."""
    account: Word | None = None
    """Which account the time is charged to (sbatch --account)."""
    qos: Word | None = None
    """Quality of service (sbatch --qos)."""
    constraint: Word | None = None
    """Features that nodes must have (sbatch --constraint)."""
    nodes: str = "1"
    """Number of nodes; or the least and the most, such as 1-4: the run uses as many as SLURM gives."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of each node, with one task for each GPU. 0: the run uses the CPU."""
    gpu_type: Word | None = None
    """Kind of GPU, such as a100, as `sinfo -o %G` names it."""
    binds_gpus: bool = False
    """Let SLURM show each task its own GPU only (sbatch --gpus-per-task=1), instead of all GPUs of the node."""
    tasks_per_node: Count | None = None
    """Processes on each node. Default: one per GPU, or 1."""
    cpus_per_task: Count | None = None
    """Cores of each process, for its threads and loader workers."""
    memory: str | None = None
    """Memory of each node, such as 64G (sbatch --mem)."""
    time: str = "1:00:00"
    """Time limit, as sbatch takes it: minutes, hours:minutes:seconds, days-hours."""
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = 120
    """How long before the time limit SLURM sends the signal at which the run saves and is requeued."""
    max_requeues: Annotated[int, Field(ge=0)] = 50
    """How often a job may be requeued in all."""
    max_timeouts: Annotated[int, Field(ge=0)] = 20
    """How often a job may be requeued because its time limit was near."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """With agent: torchrun, how often it may restart the processes within an allocation."""
    agent: Literal["srun", "torchrun"] = "srun"
    """srun: a task for each process; torchrun: a task for each node, which starts the processes there."""
    setup: tuple[str, ...] = ()
    """Lines of shell that the batch script runs before the tasks, such as `module load cuda`."""
    container: str | None = None
    """The command that starts Python in a container, such as `apptainer exec --nv image.sif`."""
    python: Word | None = None
    """The Python on the compute nodes. Default: the Python that submits."""
    srun_args: tuple[str, ...] = ()
    """Further arguments of srun."""
    extra: dict[str, str | int | bool] = {}
    """Other parameters of sbatch by long name, such as `reservation: course`. Those with a setting are refused."""

    @field_validator("nodes", mode="before")
    @classmethod
    def _nodes_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("time", mode="before")
    @classmethod
    def _time_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("setup", "srun_args", mode="before")
    @classmethod
    def _lists_as_tuples(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> ClusterConfig:
        parse_nodes(self.nodes)
        if self.signal_seconds >= 60 * parse_minutes(self.time):
            raise ValueError(
                f"signal_seconds={self.signal_seconds} with time={self.time}: the signal would come at the start. Type "
                f"--signal-seconds {15 * parse_minutes(self.time)}, or a longer --time"
            )
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            raise ValueError(f"memory={self.memory}: type a number with K, M, G or T, such as 64G")
        if self.gpus_per_node and self.tasks_per_node not in (None, self.gpus_per_node):
            raise ValueError(
                f"tasks_per_node={self.tasks_per_node} with gpus_per_node={self.gpus_per_node}: each process has one "
                f"GPU. Omit tasks_per_node"
            )
        if (self.gpu_type or self.binds_gpus) and not self.gpus_per_node:
            raise ValueError("gpu_type and binds_gpus are about GPUs, and gpus_per_node is 0. Type --gpus-per-node 1")
        if self.binds_gpus and self.agent == "torchrun":
            raise ValueError("binds_gpus is for one task per GPU. Omit it with agent: torchrun")
        if self.binds_gpus and self.num_nodes[0] != self.num_nodes[1]:
            raise ValueError(
                f"binds_gpus with nodes={self.nodes}: SLURM gives GPUs for each task. Type one number of nodes"
            )
        for text in self._texts():
            if not text.isprintable():
                raise ValueError(f"{text!r}: a batch script cannot hold line breaks and other control characters")
        for name, value in self.extra.items():
            _refuse_owned(name, value)
        return self

    def _texts(self) -> list[str]:
        named = [self.partition, self.account, self.qos, self.constraint, self.gpu_type, self.container, self.python]
        extra = [*self.extra, *(value for value in self.extra.values() if isinstance(value, str))]
        return [*(text for text in named if text), *self.srun_args, *extra]

    @property
    def num_nodes(self) -> tuple[int, int]:
        """Least and most nodes."""
        return parse_nodes(self.nodes)

    @property
    def num_local_processes(self) -> int:
        """Processes on each node."""
        return self.gpus_per_node or self.tasks_per_node or 1

    @property
    def world_sizes(self) -> list[int]:
        """Every number of processes that the job may get."""
        least, most = self.num_nodes
        return [count * self.num_local_processes for count in range(least, most + 1)]

    @property
    def megabytes(self) -> int:
        """Memory of each node in MiB, as SLURM counts it; 0 if `memory` is not set."""
        if self.memory is None:
            return 0
        number, unit = (self.memory[:-1], self.memory[-1]) if self.memory[-1] in _BYTES else (self.memory, "M")
        return -(-int(number) * _BYTES[unit] // _BYTES["M"])

    @property
    def minutes(self) -> int:
        """The time limit in minutes, rounded up."""
        return parse_minutes(self.time)


def parse_nodes(text: str) -> tuple[int, int]:
    """(least, most) of `2` or `1-4`. Raises ValueError."""
    found = _NODES.fullmatch(text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise ValueError(f"nodes={text}: type a number from 1, or the least and the most nodes, such as 1-4")
    return least, most


def _refuse_owned(name: str, value: object) -> None:
    """Raise ValueError for a parameter of sbatch that `extra` must not set: a flag or the batch script sets it."""
    plain = name.lstrip("-").replace("_", "-").lower()
    is_gpu = plain == "gres" and str(value).startswith("gpu")
    if plain in ("cluster", "clusters"):
        raise ValueError(
            f"extra {name}={value}: sbatch alone would submit there, and SLURM's other commands ask another cluster. "
            f"Type SLURM_CLUSTERS={value} before this command, which they all read"
        )
    if plain in _OTHER_FLAGS or is_gpu:
        flag = "--gpus-per-node" if is_gpu else _OTHER_FLAGS[plain]
        raise ValueError(f"extra {name}={value}: a flag sets this parameter. Type {flag}")
    if plain in _OWN:
        raise ValueError(f"extra {name}={value}: the batch script sets this parameter, and depends on it. Omit it")


def describe_memory(text: str) -> str:
    """Memory of a node; without a unit, with a hint that SLURM reads megabytes."""
    hint = "" if text[-1] in _BYTES else f" (SLURM reads {text} as megabytes; as gigabytes it is {text}G)"
    return f"{text} of each node{hint}"
