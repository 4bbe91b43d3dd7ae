"""Predicting the class of photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.errors import NotFiniteError
from signs_dist.inference.trained_model import TrainedModel

Prediction = dict[str, Any]
"""`path`, `class`, `probability` and `probabilities` (of each class by name); or `path` and `error`."""


def predict(
    model: TrainedModel, paths: Sequence[Path], *, skip_bad: bool, max_megapixels: float | None = None
) -> Iterator[Prediction]:
    """Predict the class of each photo, in the given order.

    Args:
        model: a trained model.
        paths: the files of the photos.
        skip_bad: whether an unreadable photo gives a `Prediction` with `error` instead of raising one.
        max_megapixels: larger photos are unreadable. None: as the run's config says.

    Raises:
        BadImageError: a photo cannot be read.
        NotFiniteError: the network gives NaN or infinity for a photo.
    """
    limit = max_megapixels or model.config.data.max_megapixels
    for start in range(0, len(paths), model.config.evaluate.batch):
        rows: list[Prediction] = []
        pixels = []
        for path in paths[start : start + model.config.evaluate.batch]:
            try:
                image = load_rgb(path, name=str(path), size=model.image_size, max_megapixels=limit)
                pixels.append(np.asarray(image))
                rows.append({"path": str(path)})
            except BadImageError as error:
                if not skip_bad:
                    raise
                rows.append({"path": str(path), "error": error.reason})
        shares: Iterator[list[float]] = iter(())
        if pixels:
            logits = model(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
            if not logits.isfinite().all():
                raise NotFiniteError(
                    f"{model.source}: the network's output is not a finite number. Training has diverged, or the "
                    f"weights are damaged. Choose other weights with --weights."
                )
            shares = iter(logits.softmax(dim=1).tolist())
        yield from (row if "error" in row else row | _describe(next(shares), model.classes) for row in rows)


def _describe(probabilities: Sequence[float], classes: Sequence[str]) -> Prediction:
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {
        "class": classes[best],
        "probability": probabilities[best],
        "probabilities": dict(zip(classes, probabilities, strict=True)),
    }
