"""The flags of a submission, and the request that they make."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist import train
from signs_dist.errors import UserError

from .request import Request
from .schedulers import SCHEDULERS

if TYPE_CHECKING:
    from .cluster import ClusterConfig

FLAGS = {
    "partition": (str, "NAME", "which queue"),
    "account": (str, "NAME", "which account the time is charged to"),
    "qos": (str, "NAME", "quality of service"),
    "constraint": (str, "FEATURES", "what nodes must have"),
    "nodes": (str, "N", "number of nodes, or the least and the most, such as 1-4 (default: 1)"),
    "gpus_per_node": (int, "N", "GPUs of each node, one process each; 0: on the CPU (default: 0)"),
    "gpu_type": (str, "NAME", "kind of GPU, such as a100"),
    "tasks_per_node": (int, "N", "processes on each node (default: one per GPU, or 1)"),
    "cpus_per_task": (int, "N", "cores of each process"),
    "memory": (str, "64G", "memory of each node"),
    "time": (str, "4:00:00", "time limit (default: 1:00:00)"),
    "signal_seconds": (int, "N", "how long before the limit the run is saved and requeued (default: 120)"),
    "max_requeues": (int, "N", "how often the job may be requeued in all (default: 50)"),
    "max_timeouts": (int, "N", "how often because its time limit was near (default: 20)"),
    "max_restarts": (int, "N", "with --agent torchrun: restarts within an allocation (default: 3)"),
}
"""Settings of `ClusterConfig` that have a flag: (type, placeholder, help)."""


def read_flags(options: argparse.Namespace) -> dict[str, Any]:
    """What the flags set, by the names of `ClusterConfig`. Raises `UserError`."""
    extra = {}
    for entry in options.extra or ():
        name, found, value = entry.partition("=")
        if not name.lstrip("-"):
            raise UserError(f"--extra {entry!r}: type NAME=VALUE, such as --extra reservation=course")
        extra[name.lstrip("-")] = value if found else True
    flags = {name: getattr(options, name) for name in FLAGS}
    binds = True if options.gpus_per_task else None
    return {**flags, "agent": options.agent, "binds_gpus": binds, "extra": extra or None}


def read_request(options: argparse.Namespace, arguments: Sequence[str]) -> Request:
    """The run that is asked for.

    Args:
        options: the flags of the submission.
        arguments: those of signs_dist.train.

    Raises:
        UserError: a value that is not legal, or flags that make no sense in a job.
    """
    from signs_dist.config.file_text import refuse_pipe
    from signs_dist.config.reading import accepted_names
    from signs_dist.run_folder.folder import default_run_path

    from .cluster_file import load_cluster

    cluster = load_cluster(options.cluster, read_flags(options))
    if options.max_restarts is not None and cluster.agent != "torchrun":
        raise UserError(
            "--max-restarts is for --agent torchrun, which restarts processes within an allocation. Type --agent "
            "torchrun as well, or omit --max-restarts: --max-requeues limits how often the job is requeued."
        )
    given = train.build_parser().parse_intermixed_args(list(arguments))
    _refuse_for_jobs(given, cluster)
    refuse_pipe(given.config)
    name = given.config.stem if given.config else "default"
    run_path = Path(given.run_dir or default_run_path(name, datetime.datetime.now())).absolute()
    if run_path.exists() and not run_path.is_dir():
        raise UserError(f"--run-dir {given.run_dir} is a file. Name a folder.")
    return Request(
        given.config,
        tuple(given.overrides),
        train.read_decided_config(given.config, given.overrides, run_path).config,
        run_path,
        shown_path=str(given.run_dir or run_path.relative_to(Path.cwd())),
        cluster=cluster,
        arguments=tuple(arguments),
        device=given.device,
        accept_change=tuple(given.accept_change),
        accepted=frozenset(accepted_names(given.accept_change)),
        is_quiet=given.quiet,
        data_on_nodes=options.data_on_nodes,
        is_snapshot=not options.no_snapshot,
        is_new_folder=given.run_dir is None,
    )


def _refuse_for_jobs(given: argparse.Namespace, cluster: ClusterConfig) -> None:
    """Raise `UserError` for flags of signs_dist.train that make no sense in a job."""
    if given.dp or given.device_ids is not None:
        raise UserError("--dp is one process with several GPUs. Omit it: each process of a job has a GPU of its own.")
    if given.explain:
        raise UserError("--explain trains nothing. Type it after python -m signs_dist.train")
    if given.device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {given.device}: omit it, each process takes the GPU that the job gives it.")
    if given.run_dir == Path():
        raise UserError("--run-dir is this folder itself. Name a new folder for the run, or omit --run-dir.")
    is_job = not SCHEDULERS[cluster.kind].is_this_process
    if is_job and not cluster.gpus_per_node and given.device == "cuda":
        raise UserError("--device cuda with --gpus-per-node 0. Ask for GPUs, such as --gpus-per-node 4")
