"""The loader alone: how fast images come with different numbers of worker processes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Generator
from typing import Any

from signs_dist.data.loader import LoaderSettings, TrainLoader
from signs_dist.data.loader_room import require_room
from signs_dist.data.plan import Shard
from signs_dist.environment.worker_limits import read_limits
from signs_dist.errors import UserError
from signs_dist.training.prepare import Prepared
from signs_dist.tuning.rounds import Share, Timing, measure
from signs_dist.tuning.variants import thread_counts

MOST_WORKERS = 16


def worker_counts(num_cores: int, chosen: int) -> list[int]:
    """Numbers of loader workers to measure: none, 1, 2, 4 … up to the cores, and what the run uses."""
    return sorted({0, *(count for count in thread_counts(num_cores) if count <= MOST_WORKERS), chosen})


def measure_loading(
    prepared: Prepared, shard: Shard, counts: list[int], *, seconds: float, share: Share
) -> dict[int, Timing]:
    """The seconds for the images of a step by the number of workers.

    One after the other: workers that wait for their turn would load ahead meanwhile.

    Args:
        prepared: the parts of the run.
        shard: what this process loads.
        counts: numbers of workers. Those for which this machine has no room are omitted.
        seconds: to spend on each, about.
        share: gives the value of rank 0 on all processes.
    """
    found = {}
    for count in counts:
        settings = dataclasses.replace(prepared.loading, num_workers=count)
        if not share(has_room(settings)):  # `measure` asks rank 0 again: all processes load, or none
            continue
        loader = TrainLoader(prepared.sources["train"], prepared.plan, shard, settings)
        batches = _endless(loader)
        try:
            # What workers load ahead while they start would come at once.
            _skip(batches, 1 + count * settings.prefetch)
            work = functools.partial(_skip, batches)
            found[count] = measure({"load": work}, seconds=seconds, share=share)["load"]
        finally:
            batches.close()
            loader.close()
    return found


def has_room(settings: LoaderSettings) -> bool:
    """Whether the limits of this machine leave room for so many workers."""
    try:
        require_room(settings, read_limits(), num_loaders=1)
    except UserError:
        return False
    return True


def _skip(batches: Generator[Any, None, None], num_batches: int) -> None:
    for _ in itertools.islice(batches, num_batches):
        pass


def _endless(loader: TrainLoader) -> Generator[Any, None, None]:
    for epoch in itertools.count():
        yield from loader.epoch(epoch)
