"""What a job asks its cluster for: settings of a site in configs/cluster/*.yaml, and flags that win over them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from signs_dist.config.messages import describe_field, find_setting
from signs_dist.config.reading import read_flat
from signs_dist.config.settings import Config
from signs_dist.config.yaml_text import format_value
from signs_dist.errors import UserError

FOLDER = Path("configs") / "cluster"
KINDS = ("slurm", "local", "debug")
"""Clusters that need no file: SLURM as it is, processes of this machine, and this process itself."""

Count = Annotated[int, Field(ge=1, le=100_000)]
Word = Annotated[str, Field(min_length=1, max_length=200)]

_TIME = re.compile(
    r"(?:(?P<days>[0-9]+)-)?(?P<first>[0-9]+)(?::(?P<second>[0-9]{1,2}))?(?::(?P<third>[0-9]{1,2}))?", re.ASCII
)
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
"""Parameters of sbatch that have a flag here, which is checked: in `extra` they would go unseen."""
_OWN = (
    *("output", "error", "open-mode", "job-name", "requeue", "no-requeue", "wrap", "chdir", "overcommit", "export"),
    *("export-file", "test-only", "wait", "parsable", "kill-on-invalid-dep"),
)
"""Those that a run which is requeued depends on."""
_NODES = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class ClusterConfig(BaseModel):
    """Settings of a cluster and of a job's share of it. No hyperparameters: those are the config's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["slurm", "local", "debug"] = "slurm"
    """slurm; local: processes of this machine; debug: the submitting process itself."""
    partition: Word | None = None
    """Which queue (sbatch --partition)."""
    account: Word | None = None
    """Whose time it is (sbatch --account)."""
    qos: Word | None = None
    """Quality of service (sbatch --qos)."""
    constraint: Word | None = None
    """Features that nodes must have (sbatch --constraint)."""
    nodes: str = "1"
    """Number of nodes, or the least and the most of them, such as 1-4: the run takes what the queue gives."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of each node; one task each. 0: on the CPU."""
    gpu_type: Word | None = None
    """Kind of GPU, such as a100, as `sinfo -o %G` names it."""
    binds_gpus: bool = False
    """Let SLURM show each task its own GPU only (sbatch --gpus-per-task=1), in place of all of the node's."""
    tasks_per_node: Count | None = None
    """Processes on each node. Default: one per GPU, or 1."""
    cpus_per_task: Count | None = None
    """Cores of each process, for its threads and loader workers."""
    memory: str | None = None
    """Of each node, such as 64G."""
    time: str = "1:00:00"
    """Time limit, as sbatch takes it: minutes, hours:minutes:seconds, days-hours."""
    signal_seconds: Annotated[int, Field(ge=1, le=65535)] = 120
    """How long before the time limit SLURM sends the signal at which the run saves and is requeued."""
    max_requeues: Annotated[int, Field(ge=0)] = 50
    """How often a job may be requeued in all."""
    max_timeouts: Annotated[int, Field(ge=0)] = 20
    """How often because its time was over."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """With agent: torchrun, how often it may start the processes anew within an allocation."""
    agent: Literal["srun", "torchrun"] = "srun"
    """srun: a task for each process; torchrun: a task for each node, which starts the processes there."""
    setup: tuple[str, ...] = ()
    """Lines of shell for the batch script, before anything else, such as `module load cuda`."""
    container: str | None = None
    """What python is started by, such as `apptainer exec --nv image.sif`."""
    python: Word | None = None
    """The Python on the compute nodes. Default: the one that submits."""
    srun_args: tuple[str, ...] = ()
    """Further arguments of srun."""
    extra: dict[str, str | int | bool] = {}
    """Further parameters of sbatch by their long names, such as `reservation: course`; none that has a setting here."""

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
                f"signal_seconds={self.signal_seconds} with time={self.time}: the signal would come at once. Type "
                f"--signal-seconds {15 * parse_minutes(self.time)}, or a longer --time"
            )
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            raise ValueError(f"memory={self.memory}: a number with K, M, G or T, such as 64G")
        if self.gpus_per_node and self.tasks_per_node not in (None, self.gpus_per_node):
            raise ValueError(
                f"tasks_per_node={self.tasks_per_node} with gpus_per_node={self.gpus_per_node}: each process has one "
                f"GPU. Leave tasks_per_node away"
            )
        if (self.gpu_type or self.binds_gpus) and not self.gpus_per_node:
            raise ValueError("gpu_type and binds_gpus are about GPUs, and gpus_per_node is 0. Type --gpus-per-node 1")
        if self.binds_gpus and self.agent == "torchrun":
            raise ValueError("binds_gpus is for one task per GPU. Leave it away with agent: torchrun")
        if self.binds_gpus and self.num_nodes[0] != self.num_nodes[1]:
            raise ValueError(
                f"binds_gpus with nodes={self.nodes}: SLURM counts GPUs by tasks. Type one number of nodes"
            )
        if self.kind != "slurm" and self.nodes != "1":
            raise ValueError(f"nodes={self.nodes}: --cluster {self.kind} is this machine alone. Type --nodes 1")
        if self.kind == "debug" and self.num_local_processes > 1:
            raise ValueError("--cluster debug is this process itself. Type --cluster local for several")
        for text in self._texts():
            if not text.isprintable():
                raise ValueError(f"{text!r}: line breaks and other control characters cannot stand in a batch script")
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
        """Memory of each node, in MiB as SLURM counts it; 0 where it is not asked for."""
        if self.memory is None:
            return 0
        number, unit = (self.memory[:-1], self.memory[-1]) if self.memory[-1] in _BYTES else (self.memory, "M")
        return -(-int(number) * _BYTES[unit] // _BYTES["M"])

    @property
    def minutes(self) -> int:
        """The time limit."""
        return parse_minutes(self.time)


def parse_nodes(text: str) -> tuple[int, int]:
    """(least, most) of `2` or `1-4`. Raises ValueError."""
    found = _NODES.fullmatch(text)
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most:
        raise ValueError(f"nodes={text}: a number from 1, or the least and the most of them, such as 1-4")
    return least, most


def _refuse_owned(name: str, value: object) -> None:
    """Raise ValueError for a parameter of sbatch that is not to be set by the side."""
    plain = name.lstrip("-").replace("_", "-").lower()
    is_gpu = plain == "gres" and str(value).startswith("gpu")
    if plain in _OTHER_FLAGS or is_gpu:
        flag = "--gpus-per-node" if is_gpu else _OTHER_FLAGS[plain]
        raise ValueError(f"extra {name}={value}: that has a flag of its own. Type {flag}")
    if plain in _OWN:
        raise ValueError(f"extra {name}={value}: the job's script sets that itself, and depends on it. Leave it away")


def parse_minutes(text: str) -> int:
    """Minutes of a time as sbatch takes it (sbatch(1), --time), rounded up. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"time={text}: minutes, hours:minutes:seconds or days-hours, such as 4:00:00 or 1-12")
    first, second, third = int(found["first"]), int(found["second"] or 0), int(found["third"] or 0)
    if second >= 60 or third >= 60 or (found["days"] is not None and first >= 24):
        raise ValueError(f"time={text}: at most 59 minutes and seconds behind a colon, and 23 hours behind days")
    if found["days"] is not None:
        seconds = int(found["days"]) * 86400 + first * 3600 + second * 60 + third
    elif found["third"] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds < 60:
        raise ValueError(f"time={text}: at least one minute")
    return -(-seconds // 60)


def describe_minutes(text: str) -> str:
    """A time limit in words; where SLURM may read it otherwise than it is meant, with a hint."""
    minutes = parse_minutes(text)
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours:,} h" if hours else "", f"{rest} min" if rest else ""]
    words = " ".join(part for part in parts if part)
    if "-" not in text and text.count(":") == 1:
        words += f" (SLURM reads {text} as minutes:seconds; as hours it is {text}:00)"
    return words


def describe_memory(text: str) -> str:
    """Memory of a node, with a hint where SLURM may read it otherwise than it is meant."""
    hint = "" if text[-1] in _BYTES else f" (SLURM reads {text} as megabytes; as gigabytes it is {text}G)"
    return f"{text} of each node{hint}"


def load_cluster(name: str, flags: Mapping[str, Any]) -> ClusterConfig:
    """The settings of a cluster, with flags that win over them.

    Args:
        name: slurm, local or debug; a file; or the name of one in configs/cluster/.
        flags: values by the names of `ClusterConfig`; None for those that were not given. `extra` adds to the file's.

    Raises:
        UserError: no such cluster, an unknown setting, or a value that is not legal.
    """
    values, origins = _read_file(name)
    given = {key: value for key, value in flags.items() if value is not None}
    if "extra" in given and isinstance(values.get("extra"), dict):
        given["extra"] = values["extra"] | given["extra"]
    try:
        return ClusterConfig.model_validate(values | given)
    except ValidationError as error:
        raise UserError("\n".join(_explain(dict(item), origins, given) for item in error.errors())) from None


def _read_file(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a cluster, and where each stands."""
    if name in KINDS:
        return {"kind": name}, {}
    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = Path(name) if is_path else FOLDER / f"{name}.yaml"
    if not path.exists():
        known = [*KINDS, *sorted(file.stem for file in FOLDER.glob("*.yaml"))]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"--cluster {name}: there is no {path}.{hint} It is one of {', '.join(known)}, or a YAML file.")
    return read_flat(path, "--cluster")


def _explain(item: dict[str, Any], origins: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: where it was set, what was given, what is legal."""
    key = str(item["loc"][0]) if item["loc"] else ""
    flag = f"--{key.replace('_', '-')}"
    where = flag if key in given else f"{origins[key]}: {key}" if key in origins else key
    if item["type"] == "extra_forbidden":
        return f"{origins.get(key, flag)}: {_explain_unknown(key)}"
    if item["type"] == "value_error":
        message = str(item["msg"]).removeprefix("Value error, ")
        # It begins with the setting, as it stands in a file: where it was typed, that is the flag.
        name, _, rest = message.partition("=")
        if name in given:
            return f"--{name.replace('_', '-')} {rest}."
        return f"{origins[name]}: {message}." if name in origins else f"{message}."
    legal = describe_field(ClusterConfig.model_fields[key])
    inner = f" {item['loc'][1]}:" if len(item["loc"]) > 1 else ""
    return f"{where}:{inner} {format_value(item.get('input'))} is not legal. It takes {legal}."


def _explain_unknown(key: str) -> str:
    legal = list(ClusterConfig.model_fields)
    is_section = key in Config.model_fields
    near = [] if is_section else difflib.get_close_matches(key, legal, n=1)
    setting = key if is_section else find_setting(key, cutoff=0.9)
    if setting and not near:
        return (
            f"{key} is about training, and not about the cluster. Put {setting} into the run's config, or type it "
            f"behind --"
        )
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown setting {key}.{hint} Legal: {', '.join(legal)}; other parameters of sbatch go in extra."
