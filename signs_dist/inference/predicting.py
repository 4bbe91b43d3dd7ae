"""Predicting the class of photos: threads decode ahead while the network computes."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.errors import NotFiniteError
from signs_dist.inference.exported_model import ExportedModel
from signs_dist.inference.trained_model import TrainedModel

Prediction = dict[str, Any]
"""`path`, `class`, `probability` and `probabilities` (of classes by name); or `path` and `error`."""
Pixels = npt.NDArray[np.uint8]
Decoded = Pixels | BadImageError
"""The pixels of a photo, [S, S, 3], or why it has none."""

CHUNK = 8
"""Photos that a thread decodes in one go."""
BATCHES_AHEAD = 2
"""Batches that are decoded ahead."""


def predict(
    model: TrainedModel | ExportedModel,
    paths: Iterable[Path],
    *,
    skip_bad: bool,
    batch: int | None = None,
    top: int | None = None,
    max_megapixels: float | None = None,
    num_threads: int = 1,
) -> Iterator[list[Prediction]]:
    """Predict the class of each photo, in the given order, and yield the photos of a batch together.

    A photo is read when it is among the next few batches: `paths` may be endless.

    Args:
        model: a trained model.
        paths: the files of the photos.
        skip_bad: whether an unreadable photo gives a `Prediction` with `error` instead of raising one.
        batch: photos per forward pass. None: as the model's `batch`.
        top: number of classes in `probabilities`, the most probable first. None: all classes, in their own order.
        max_megapixels: larger photos are unreadable. None: as the run's config says.
        num_threads: threads that decode.

    Raises:
        BadImageError: a photo cannot be read. Those before it are yielded first.
        NotFiniteError: the network gives NaN or infinity for a photo.
    """
    limit = max_megapixels or model.max_megapixels
    num_together = batch or model.batch

    def decode(path: Path) -> Decoded:
        try:
            return np.asarray(load_rgb(path, name=str(path), size=model.image_size, max_megapixels=limit))
        except BadImageError as error:
            return error

    decoded = decode_ahead(paths, decode, num_threads=num_threads, num_ahead=BATCHES_AHEAD * num_together)
    while some := list(itertools.islice(decoded, num_together)):
        error = None
        if not skip_bad:
            some, error = _before_bad(some)
        if some:
            shares = iter(_probabilities(model, [found for _, found in some if not isinstance(found, BadImageError)]))
            yield [
                {"path": str(path), "error": found.reason}
                if isinstance(found, BadImageError)
                else {"path": str(path)} | _describe(next(shares), model.classes, top)
                for path, found in some
            ]
        if error is not None:
            decoded.close()
            raise error


def _before_bad(some: list[tuple[Path, Decoded]]) -> tuple[list[tuple[Path, Decoded]], BadImageError | None]:
    """The photos before the first that cannot be read, and why it cannot; all photos where each can."""
    for place, (_, found) in enumerate(some):
        if isinstance(found, BadImageError):
            return some[:place], found
    return some, None


def decode_ahead(
    paths: Iterable[Path], decode: Callable[[Path], Decoded], *, num_threads: int, num_ahead: int
) -> collections.abc.Generator[tuple[Path, Decoded], None, None]:
    """Each path with what `decode` makes of it, in the given order, while threads decode the next ones.

    Args:
        paths: may be endless.
        decode: is called in several threads at once.
        num_threads: how many.
        num_ahead: paths that are taken ahead of the one that is yielded, at least; they come in chunks.
    """
    remaining = iter(paths)
    waiting: collections.deque[tuple[list[Path], Future[list[Decoded]]]] = collections.deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
    try:
        while True:
            while len(waiting) * CHUNK <= num_ahead and (chunk := list(itertools.islice(remaining, CHUNK))):
                waiting.append((chunk, pool.submit(_decode_all, decode, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            yield from zip(chunk, future.result(), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_all(decode: Callable[[Path], Decoded], paths: Sequence[Path]) -> list[Decoded]:
    return [decode(path) for path in paths]


def _probabilities(model: TrainedModel | ExportedModel, pixels: Sequence[Pixels]) -> list[list[float]]:
    """The probabilities of each class, for each of the photos."""
    if not pixels:
        return []
    logits = model(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    if not logits.isfinite().all():
        raise NotFiniteError(
            f"{model.source}: the network's output is not a finite number. Training has diverged, or the "
            f"weights are damaged. Choose other weights with --weights."
        )
    shares: list[list[float]] = logits.softmax(dim=1).tolist()
    return shares


def _describe(probabilities: Sequence[float], classes: Sequence[str], top: int | None) -> Prediction:
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    shown = dict(zip(classes, probabilities, strict=True))
    if top is not None:  # sorted is stable: of equal ones, the first class comes first, as for `best`
        order = sorted(range(len(classes)), key=lambda label: -probabilities[label])[:top]
        shown = {classes[label]: probabilities[label] for label in order}
    return {"class": classes[best], "probability": probabilities[best], "probabilities": shown}
