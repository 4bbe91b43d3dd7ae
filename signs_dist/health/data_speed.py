"""The speed of disk and loader against the network's, and how many loader workers would do."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.settings import Config
from signs_dist.environment.context import Context
from signs_dist.health.finding import Finding

CHECK = "data"
SECONDS = 0.4
MOST_FILES = 256
MOST_BYTES = 64 * 2**20
MOST_BATCH = 32
ENOUGH = 0.9
"""A loader counts as fast enough from this part of the network's speed on: both numbers have their noise."""


@dataclasses.dataclass(frozen=True)
class DataSpeed:
    """What one rank measured; speeds are in images per second.

    Attributes:
        network: of one rank, without images from the loader.
        loader: number of workers → the loader's speed.
        num_workers: what the config chooses.
        storage: data.storage.
        num_ranks: on this machine: each has a loader, and they share the disk.
        disk_bytes: bytes per second of some photos that were not in memory; None where none were read.
        image_bytes: of one photo, on average.
    """

    network: float
    loader: Mapping[int, float]
    num_workers: int
    storage: str
    num_ranks: int
    disk_bytes: float | None = None
    image_bytes: float = 0.0


def measure(config: Config, context: Context, device: str, seconds: float = SECONDS) -> dict[str, Any]:
    """`DataSpeed` of this rank as plain values.

    Raises:
        UserError: the data or the model cannot be used.
    """
    import torch

    from signs_dist.benching.loading import measure_loading, worker_counts
    from signs_dist.benching.run import with_whole_images
    from signs_dist.console.screen import Screen
    from signs_dist.distributed.strategy import SingleProcess
    from signs_dist.monitoring.pulse import Pulse
    from signs_dist.training.bare import BareNetwork
    from signs_dist.training.prepare import prepare
    from signs_dist.training.process import Process
    from signs_dist.tuning import rounds

    strategy = SingleProcess(torch.device(device))
    screen = Screen(is_terminal=False, quiet=True, is_silent=True)
    disk, image_bytes = _read_some(config.data.root)
    prepared = prepare(with_whole_images(config), Process(context, device, strategy, screen, Pulse()))
    batch = min(MOST_BATCH, prepared.plan.micro_batches.size)
    layout, threads = config.train.channels_last, prepared.way.num_threads
    network = BareNetwork(prepared.config, len(prepared.data.classes), batch, strategy.device, channels_last=layout)
    way = network.way(threads, prepared.precision.name)
    timing = rounds.measure({"network": way}, seconds=seconds)["network"]
    most = 0 if config.data.storage == "device" else context.cores_per_process
    counts = worker_counts(most, prepared.loading.num_workers)
    loading = measure_loading(prepared, strategy.shard, counts, seconds=seconds, share=lambda value: value)
    step = prepared.plan.global_batch
    return {
        "network": batch / timing.seconds,
        "loader": {str(count): step / each.seconds for count, each in loading.items()},
        "num_workers": prepared.loading.num_workers,
        "storage": config.data.storage,
        "num_ranks": context.local_world_size,
        "disk_bytes": disk,
        "image_bytes": image_bytes,
    }


def from_plain(values: Mapping[str, Any]) -> DataSpeed:
    """From what `measure` returns, also after JSON, whose keys are texts."""
    loader = {int(count): rate for count, rate in values["loader"].items()}
    return DataSpeed(**{**values, "loader": loader})


def _read_some(root: str | tuple[str, ...] | None) -> tuple[float | None, float]:
    """(bytes per second of some photos, bytes of one on average); (None, 0) without photos."""
    folders = (root,) if isinstance(root, str) else root or ()
    total, count, spent = 0, 0, 0.0
    for path in itertools.islice(itertools.chain.from_iterable(map(_files, folders)), MOST_FILES):
        try:
            with path.open("rb", buffering=0) as stream:
                if hasattr(os, "posix_fadvise"):  # from the disk, and not from memory
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                started = time.perf_counter()
                total += len(stream.read())
                spent += time.perf_counter() - started
        except OSError:
            continue
        count += 1
        if total > MOST_BYTES:
            break
    return (total / max(spent, 1e-6), total / count) if count and total else (None, 0.0)


def _files(folder: str) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".tar")):
                yield Path(where, name)


def judge(speed: DataSpeed) -> Finding:
    """Whether the images come as fast as the network takes them; else what would do."""
    own = speed.loader.get(speed.num_workers)
    need = ENOUGH * speed.network
    enough = min((count for count, rate in speed.loader.items() if rate >= need), default=None)
    best = max(speed.loader, key=lambda count: speed.loader[count], default=0)
    chosen = (
        f"{own:,.0f} images/s with {_workers(speed.num_workers)}"
        if own
        else f"no room for {_workers(speed.num_workers)}"
    )
    disk = "" if speed.disk_bytes is None else f"; disk {speed.disk_bytes / speed.image_bytes:,.0f} photos/s"
    told = f"network {speed.network:,.0f} images/s on each rank, loader {chosen}{disk}"
    expected = "images as fast as the network takes them"
    reads = speed.num_ranks * speed.network * speed.image_bytes
    if speed.disk_bytes is not None and speed.storage == "files" and speed.disk_bytes < ENOUGH * reads:
        return Finding(
            CHECK,
            "warn",
            told,
            f"{speed.num_ranks * speed.network:,.0f} photos/s from the disk, for all ranks of this machine",
            "data.storage=packed reads each photo once; or copy the photos to a disk of this machine",
        )
    if own is not None and own >= need:
        fewer = f"; {_workers(enough)} would do" if enough is not None and enough < speed.num_workers else ""
        return Finding(CHECK, "ok", told + fewer, expected)
    if enough is not None:
        return Finding(CHECK, "warn", f"{told}; {_workers(enough)} would do", expected, f"data.num_workers={enough}")
    fastest = (
        f"the fastest is {speed.loader[best]:,.0f} images/s with {_workers(best)}" if speed.loader else "none fits"
    )
    mend = (
        "data.storage=packed"
        if speed.storage == "files"
        else "a machine with more cores for each rank, or smaller images"
    )
    return Finding(CHECK, "warn", f"{told}; {fastest}", expected, mend)


def _workers(count: int) -> str:
    return "no workers" if count == 0 else "1 worker" if count == 1 else f"{count} workers"
