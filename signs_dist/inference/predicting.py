"""Predicting the class of photos: threads read them ahead of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signs_dist.inference.model_copies import choose_num_copies, copy_model
from signs_dist.inference.parts import Model, PartReader, ReadPart, compute_shares, divide, work_ahead

Prediction = dict[str, Any]
"""`path`, `class`, `probability` and `probabilities` (of classes by name); or `path` and `error`."""

BATCHES_AHEAD = 2
"""Batches that are read ahead."""


def predict(
    model: Model,
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
        batch: photos that the network computes at the same time. None: as the model's `batch`.
        top: number of classes in `probabilities`, the most probable first. None: all classes, in their own order.
        max_megapixels: larger photos are unreadable. None: as the run's config says.
        num_threads: threads that read photos. Where the network computes on a CPU, its threads may read as well.

    Raises:
        BadImageError: a photo cannot be read. Those before it are yielded first.
        NotFiniteError: the network gives NaN or infinity for a photo.
    """
    num_together, own_threads = batch or model.batch, torch.get_num_threads()
    models = copy_model(model, choose_num_copies(model.device.type, own_threads, num_together))
    limit = max_megapixels or model.max_megapixels
    reader = PartReader(models, size=model.image_size, max_megapixels=limit, skip_bad=skip_bad)
    ahead = work_ahead(
        divide(paths, num_together, len(models)),
        reader,
        num_threads=len(models) if len(models) > 1 else num_threads,
        num_ahead=BATCHES_AHEAD * num_together,
    )
    gathered: list[ReadPart] = []
    try:
        for part in ahead:
            gathered.append(part)
            if not part.ends_batch and part.last_error is None:
                continue
            rows = list(_rows(gathered, model, top))
            gathered = []
            if rows:
                yield rows
            if part.last_error is not None:
                raise part.last_error
    finally:
        reader.stop()
        ahead.close()
        torch.set_num_threads(own_threads)  # what a thread sets holds for the threads that start after it


def _rows(parts: Sequence[ReadPart], model: Model, top: int | None) -> Iterator[Prediction]:
    """The predictions of a batch."""
    if all(part.shares is None for part in parts):
        shares = iter(compute_shares(model, np.concatenate([part.pixels for part in parts])))
    else:
        shares = (share for part in parts for share in part.shares or ())
    for part in parts:
        for place, path in enumerate(part.paths):
            if place in part.errors:
                yield {"path": str(path), "error": part.errors[place].reason}
            else:
                yield {"path": str(path)} | _describe(next(shares), model.classes, top)


def _describe(probabilities: Sequence[float], classes: Sequence[str], top: int | None) -> Prediction:
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    shown = dict(zip(classes, probabilities, strict=True))
    if top is not None:  # sorted is stable: of equal ones, the first class comes first, as for `best`
        order = sorted(range(len(classes)), key=lambda label: -probabilities[label])[:top]
        shown = {classes[label]: probabilities[label] for label in order}
    return {"class": classes[best], "probability": probabilities[best], "probabilities": shown}
