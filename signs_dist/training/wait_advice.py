"""What would shorten the wait for images, with a number: said once a run, where an epoch waited for long."""

from __future__ import annotations

import dataclasses
import math

from signs_dist.data.device_batches import bytes_that_fit, describe_bytes
from signs_dist.run_folder.records import StepLine
from signs_dist.training.prepare import Prepared

LARGEST_SHARE = 0.2
"""Share of an epoch's time that may pass waiting for images without advice."""
LEAST_SECONDS, LEAST_FIRST_SECONDS = 2.0, 20.0
"""Shorter epochs tell nothing: most of their wait is for the first batch. In the first epoch the workers start."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a process gets its training images.

    Attributes:
        storage: packed, device or files, see `data.storage`.
        crops_files: whether parts of the files at their full size are taken.
        transforms: whether torchvision's transforms change image by image.
        num_workers: loader workers of the process; 0: it loads by itself.
        most_workers: workers that its cores have room for.
        image_bytes: bytes of a packed image.
        num_images: training images.
        device_bytes: bytes of the images of all splits, if the run is on a GPU that has room for them; else None.
    """

    storage: str
    crops_files: bool
    transforms: bool
    num_workers: int
    most_workers: int
    image_bytes: int
    num_images: int
    device_bytes: int | None = None

    @classmethod
    def of(cls, prepared: Prepared, *, num_cores: int, on_gpu: bool) -> Reading | None:
        """That of a prepared run whose process may use `num_cores` cores; None where it reads stored features."""
        config = prepared.config
        if prepared.features is not None:
            return None
        return cls(
            storage=config.data.storage,
            crops_files=config.augment.crop_from == "file",
            transforms=config.augment.backend == "torchvision",
            num_workers=prepared.loading.num_workers,
            most_workers=num_cores if on_gpu else max(1, num_cores - 1),  # on a CPU, training keeps a core
            image_bytes=3 * config.data.image_size**2,
            num_images=len(prepared.data.splits["train"]),
            device_bytes=bytes_that_fit(prepared.data.num_images, config.data.image_size, prepared.device),
        )


def advise(share: float, images_per_second: float, reading: Reading) -> str | None:
    """A line of advice; None where the wait is short.

    Loading and training overlap with workers, so a run that waits is as fast as they load. Without workers, its time is
    the sum of both.

    Args:
        share: of the time that passed waiting for images, 0..1.
        images_per_second: of this process.
        reading: how it gets its images.
    """
    if share <= LARGEST_SHARE or reading.storage == "device":
        return None
    share = min(share, 0.99)
    trains = images_per_second / (1 - share)
    workers = reading.num_workers
    read_seconds = workers / images_per_second if workers else share / images_per_second
    needed = max(workers + 1, math.ceil(read_seconds * trains - 1e-6))
    verb = "decoding" if reading.storage == "files" else "transforming" if reading.transforms else "reading"
    where = f"on {workers} worker{'' if workers == 1 else 's'}" if workers else "in the process that trains"
    facts = (
        f"data wait {100 * share:.0f} %: {verb} takes {_milliseconds(read_seconds)} an image {where}, training "
        f"{_milliseconds(1 / trains)}"
    )
    if reading.storage == "packed" and not reading.transforms and reading.device_bytes is not None:
        return f"{facts}. data.storage=device holds all images, {describe_bytes(reading.device_bytes)}, on the GPU."
    if needed <= reading.most_workers:
        return f"{facts}. data.num_workers={needed} would keep up."
    room = f"{needed} workers would keep up, and the cores have room for {reading.most_workers}"
    if reading.transforms:
        return f"{facts}; {room}. augment.backend=batch changes whole batches, on the device of the network."
    if reading.storage == "packed":
        rate = f"{trains * reading.image_bytes / 1e6:,.0f} MB/s"
        return f"{facts}. Put data.cache on storage that gives {rate}, or give more memory: {_gigabytes(reading)} GB."
    packed = f"data.storage=packed decodes each image once, into {_gigabytes(reading)} GB of data.cache"
    if reading.crops_files:
        packed += ", and needs augment.crop_from=square"
    return f"{facts}; {room}. {packed}."


class WaitAdvice:
    """Gives advice after the first epoch that calls for it, then no more. None: no images are read."""

    def __init__(self, reading: Reading | None) -> None:
        self._reading = reading
        self._is_first, self._is_given = True, False

    def after_epoch(self, line: StepLine, num_images: int, num_processes: int) -> str | None:
        """The advice, if it is due.

        Args:
            line: the numbers of the epoch.
            num_images: images of the epoch that this attempt trained on.
            num_processes: processes that share them.
        """
        if self._reading is None or not line.images_per_second:
            return None
        seconds = num_images / line.images_per_second
        is_telling = seconds >= (LEAST_FIRST_SECONDS if self._is_first else LEAST_SECONDS)
        self._is_first = False
        if self._is_given or not is_telling:
            return None
        advice = advise(line.data_wait_share, line.images_per_second / num_processes, self._reading)
        self._is_given = advice is not None
        return advice


def _milliseconds(seconds: float) -> str:
    value = 1000 * seconds
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


def _gigabytes(reading: Reading) -> str:
    size = reading.num_images * reading.image_bytes / 1e9
    return f"{size:,.0f}" if size >= 10 else f"{size:.2g}"
