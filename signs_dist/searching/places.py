"""Which part of this machine each job of a sweep gets: cores of its own, or a GPU of its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from signs_dist.environment.cores import read_usable_cores, share_of_cores
from signs_dist.environment.devices import parse_visible
from signs_dist.errors import UserError


@dataclasses.dataclass(frozen=True)
class Place:
    """The part of one job.

    Attributes:
        cores: numbers of its cores; () to leave it those of this process.
        gpu: its name in CUDA_VISIBLE_DEVICES; None on the CPU.
        num_threads: what OMP_NUM_THREADS is set to; None to leave it.
    """

    cores: tuple[int, ...] = ()
    gpu: str | None = None
    num_threads: int | None = None

    def variables(self) -> dict[str, str]:
        """The environment variables that the place sets."""
        threads = {} if self.num_threads is None else {"OMP_NUM_THREADS": str(self.num_threads)}
        return threads | ({} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu})


def choose_places(jobs: int | None, device: str, num_gpus: int) -> list[Place]:
    """The part of this machine that each job gets.

    Args:
        jobs: how many run at once; None: as `choose_num_jobs`.
        device: auto, cpu or cuda.
        num_gpus: how many GPUs CUDA shows.

    Raises:
        UserError: cuda is asked for and there is no GPU, or there are fewer than jobs.
    """
    gpus = name_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), num_gpus) if num_gpus and device != "cpu" else ()
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: this machine shows no GPU. Type --device auto, which then runs on the CPU.")
    num_jobs = choose_num_jobs(jobs, len(gpus))
    return share_machine(num_jobs, read_cores(), read_usable_cores(os.environ), gpus, os.environ)


def choose_num_jobs(asked: int | None, num_gpus: int) -> int:
    """How many jobs there are at once: as asked, else one per GPU, else one.

    Raises:
        UserError: there are fewer GPUs.
    """
    if asked is None:
        return max(1, num_gpus)
    if asked < 1:
        raise UserError(f"--jobs {asked}: at least 1.")
    if num_gpus and asked > num_gpus:
        raise UserError(
            f"--jobs {asked}: each job has a GPU of its own, and this machine shows {num_gpus}. Type --jobs "
            f"{num_gpus}, or add --device cpu."
        )
    return asked


def share_machine(
    num_jobs: int, cores: Sequence[int], usable_cores: int, gpus: Sequence[str], environment: Mapping[str, str]
) -> list[Place]:
    """The place of each job.

    Args:
        num_jobs: how many run at once; at most as many as GPUs, if there are GPUs.
        cores: numbers of the cores that this process may use.
        usable_cores: how many of them it may keep busy, from `read_usable_cores`.
        gpus: their names in CUDA_VISIBLE_DEVICES; () for jobs on the CPU.
        environment: a person's OMP_NUM_THREADS in it is left.

    Returns:
        As many places as jobs. All have the same number of cores, so that no job computes with another number of
        threads: of 8 cores, each of 3 jobs gets 2. More jobs than cores share them in turn.
    """
    names: list[str | None] = list(gpus[:num_jobs]) or [None] * num_jobs
    if num_jobs == 1:
        return [Place(gpu=names[0])]
    share = share_of_cores(len(cores), num_jobs)
    threads = None if "OMP_NUM_THREADS" in environment else share_of_cores(usable_cores, num_jobs)
    starts = [number * share % len(cores) for number in range(num_jobs)]
    return [
        Place(tuple(cores[start : start + share]), name, threads) for start, name in zip(starts, names, strict=True)
    ]


def read_cores() -> list[int]:
    """Numbers of the cores that this process may use; all where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def name_gpus(visible: str | None, num_devices: int) -> tuple[str, ...]:
    """The names of the GPUs that this process sees, for CUDA_VISIBLE_DEVICES of its jobs.

    Args:
        visible: CUDA_VISIBLE_DEVICES, or None.
        num_devices: how many GPUs CUDA shows.
    """
    names = parse_visible(visible)
    if names is None:
        return tuple(map(str, range(num_devices)))
    # CUDA shows one of several MIG instances to a process; each job can have one of them.
    return names if any(name.startswith("MIG-") for name in names) else names[:num_devices]
