"""`plan_loader`: batches of any data set by a plan, for a user's own training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sized
from typing import Any, Protocol, cast

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from signs_dist.data.generators import all_generators_kept, seed_all
from signs_dist.data.loader import LoaderSettings, TrainLoader
from signs_dist.data.loader_room import require_room
from signs_dist.data.plan import BatchKey, EpochPlan, Shard
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.environment.worker_limits import read_limits
from signs_dist.errors import UserError, require_kind

Collate = Callable[[list[Any]], Any]
"""Makes one batch of a list of samples."""


class HasShard(Protocol):
    """What `plan_loader` reads of the processes that `connect` gives."""

    @property
    def shard(self) -> Shard:
        """This process's part of the data."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of this process: batches for a GPU are copied to page-locked memory."""
        ...


def plan_loader(
    dataset: Dataset[Any],
    plan: EpochPlan,
    processes: HasShard,
    epoch: int,
    first_step: int = 0,
    *,
    num_workers: int = 0,
    prefetch: int = 2,
    timeout_seconds: float = 1800.0,
    collate_fn: Collate = default_collate,
) -> Iterator[Any]:
    """Iterate over one epoch: one batch a step, with this process's samples of that step.

    `random`, `numpy.random` and torch's generator are seeded for each sample from (plan.seed, epoch, sample). So a
    sample that is augmented at random is the same on any number of processes and workers, and after a resume. The
    generators of the calling process are left as they were.

    Args:
        dataset: any data set with `__getitem__` and `__len__`.
        plan: which samples at which step.
        processes: from `connect`.
        epoch: from 0. Each epoch has another order.
        first_step: the step to begin with; no batch before it is loaded.
        num_workers: processes that load. 0: this process loads.
        prefetch: batches that each worker loads ahead.
        timeout_seconds: how long the workers may take for a batch. A wait of 10 seconds is told on standard error.
        collate_fn: makes one batch of a list of samples, as in torch's DataLoader. It must keep their order, along the
            first dimension of each tensor.

    Raises:
        UserError: the data set has no length, or its length is not the plan's; or a process would have no micro-batch;
            or a limit of this machine is too low for the workers.
        LoadingError: a worker ended, or gave no batch within `timeout_seconds`.
        ValueError: the epoch has no step `first_step`.

    Example:
        >>> import torch, signs_dist as sd
        >>> dataset = torch.utils.data.TensorDataset(torch.arange(10.0))
        >>> plan = sd.EpochPlan(len(dataset), global_batch=4, micro_batch=2, seed=0)
        >>> with sd.connect() as processes:
        ...     batches = list(sd.plan_loader(dataset, plan, processes, epoch=0))
        >>> [len(numbers) for numbers, in batches]
        [4, 4]
    """
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        raise UserError(
            f"plan_loader takes a data set with __getitem__ and __len__, not {type(dataset).__name__}: a plan chooses "
            f"samples by their number."
        )
    if len(dataset) != plan.num_samples:
        raise UserError(
            f"the plan is for {plan.num_samples:,} samples, and the data set has {len(dataset):,}. "
            f"Type EpochPlan(len(dataset), …)."
        )
    for name, number in (("epoch", epoch), ("first_step", first_step)):
        require_kind(name, number, int, "plan_loader(dataset, plan, processes, epoch=0)")
        if number < 0:
            raise UserError(f"{name}={number}: type 0 or more.")
    samples = _SeededSamples(dataset, plan.seed, collate_fn)
    if not 0 < timeout_seconds < math.inf:
        raise UserError(f"timeout_seconds={timeout_seconds}: type a number of seconds above 0.")
    settings = LoaderSettings(num_workers, prefetch, processes.device.type == "cuda", timeout_seconds)
    require_room(settings, read_limits(), num_loaders=1)
    return TrainLoader(samples, plan, processes.shard, settings).epoch(epoch, first_step)


class _SeededSamples(Dataset[Any]):
    """Fetches a whole batch by its key. The random generators are seeded for each sample."""

    def __init__(self, dataset: Dataset[Any], seed: int, collate: Collate) -> None:
        self.dataset, self.seed, self.collate = dataset, seed, collate

    def __getitem__(self, key: BatchKey) -> Any:
        with all_generators_kept():
            return self.collate([self._fetch(key.epoch, sample) for sample in key.samples.tolist()])

    def __len__(self) -> int:
        return len(cast("Sized", self.dataset))

    def _fetch(self, epoch: int, sample: int) -> Any:
        seed_all(stream_key(self.seed, Stream.AUGMENT, epoch, sample))
        return self.dataset[sample]
