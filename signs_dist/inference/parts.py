"""Photos in parts: threads read the next ones ahead, and on a CPU compute their probabilities as well."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.errors import NotFiniteError
from signs_dist.inference.exported_model import ExportedModel
from signs_dist.inference.trained_model import TrainedModel

Model = TrainedModel | ExportedModel
Pixels = npt.NDArray[np.uint8]
Shares = list[list[float]]
"""The probabilities of each class, for each photo."""

CHUNK = 8
"""Photos of a part that a thread reads without computing."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Photos of one batch that one thread takes.

    Attributes:
        paths: the photos.
        ends_batch: whether they are the last of their batch.
        is_computed: whether the thread computes their probabilities too.
    """

    paths: Sequence[Path]
    ends_batch: bool
    is_computed: bool


@dataclasses.dataclass(frozen=True)
class ReadPart:
    """What a thread made of a part.

    Attributes:
        paths: its photos, up to one that ends the work.
        errors: why a photo cannot be read, by its place in `paths`.
        pixels: of the others, uint8 [N, S, S, 3].
        shares: of the others; None where they are not computed yet.
        last_error: why the next photo cannot be read, where that ends the work.
        ends_batch: as of the part.
    """

    paths: Sequence[Path]
    errors: dict[int, BadImageError]
    pixels: Pixels
    shares: Shares | None
    last_error: BadImageError | None
    ends_batch: bool


def divide(paths: Iterable[Path], num_together: int, num_computing: int) -> Iterator[Part]:
    """Batches of paths, in parts.

    With several threads that compute, a whole batch has a part for each. A smaller one, such as the last, is computed
    by all cores in one forward pass.

    Args:
        paths: may be endless.
        num_together: photos of a batch.
        num_computing: threads that compute; 1 for none beside the caller.
    """
    remaining = iter(paths)
    while batch := list(itertools.islice(remaining, num_together)):
        is_computed = num_computing > 1 and len(batch) == num_together
        size = math.ceil(len(batch) / num_computing) if is_computed else CHUNK
        for start in range(0, len(batch), size):
            yield Part(batch[start : start + size], start + size >= len(batch), is_computed)


def work_ahead(
    parts: Iterable[Part], read: Callable[[Part], ReadPart], *, num_threads: int, num_ahead: int
) -> Generator[ReadPart, None, None]:
    """What `read` makes of each part, in the given order, while threads read the next ones.

    Args:
        parts: may be endless.
        read: is called in several threads at once.
        num_threads: how many.
        num_ahead: photos that are taken ahead of those that are yielded, at least; they come in parts.
    """
    remaining = iter(parts)
    waiting: collections.deque[tuple[int, Future[ReadPart]]] = collections.deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="photos")
    try:
        while True:
            while sum(count for count, _ in waiting) <= num_ahead and (part := next(remaining, None)) is not None:
                waiting.append((len(part.paths), pool.submit(read, part)))
            if not waiting:
                return
            yield waiting.popleft()[1].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class PartReader:
    """Reads the photos of a part, and computes their probabilities where the part says so. For several threads.

    Args:
        models: a copy of the model for each thread that computes.
        size: side in pixels of the network's input.
        max_megapixels: larger photos are unreadable.
        skip_bad: whether to go on after an unreadable photo.
    """

    def __init__(self, models: Sequence[Model], *, size: int, max_megapixels: float, skip_bad: bool) -> None:
        self._unused = list(models)
        self._size = size
        self._max_megapixels = max_megapixels
        self._skip_bad = skip_bad
        self._of_thread = threading.local()
        self._is_stopping = False

    def stop(self) -> None:
        """Nobody wants the rest: threads end after the photo that they read now."""
        self._is_stopping = True

    def __call__(self, part: Part) -> ReadPart:
        """Read a part."""
        errors: dict[int, BadImageError] = {}
        pixels, num_read = np.empty((len(part.paths), self._size, self._size, 3), np.uint8), 0
        last_error = None
        for place, path in enumerate(part.paths):
            if self._is_stopping:
                break
            try:
                image = load_rgb(path, name=str(path), size=self._size, max_megapixels=self._max_megapixels)
            except BadImageError as error:
                if not self._skip_bad:
                    last_error = error
                    break
                errors[place] = error
            else:
                pixels[num_read] = np.asarray(image)
                num_read += 1
        pixels, paths = pixels[:num_read], part.paths[: num_read + len(errors)]
        shares = compute_shares(self._own_model(), pixels) if part.is_computed and not self._is_stopping else None
        return ReadPart(paths, errors, pixels, shares, last_error, part.ends_batch)

    def _own_model(self) -> Model:
        """The copy of this thread, which computes with this thread alone."""
        model: Model | None = getattr(self._of_thread, "model", None)
        if model is None:
            torch.set_num_threads(1)
            model = self._of_thread.model = self._unused.pop()
        return model


def compute_shares(model: Model, pixels: Pixels) -> Shares:
    """The probabilities of photos, uint8 [N, S, S, 3].

    Raises:
        NotFiniteError: the network gives NaN or infinity.
    """
    if not len(pixels):
        return []
    logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    if not logits.isfinite().all():
        raise NotFiniteError(
            f"{model.source}: the network's output is not a finite number. Training has diverged, or the "
            f"weights are damaged. Choose other weights with --weights."
        )
    shares: Shares = logits.softmax(dim=1).tolist()
    return shares
