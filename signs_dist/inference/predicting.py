"""Predicting the class of photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.inference.trained_model import TrainedModel

Prediction = dict[str, Any]
"""`path`, `class`, `probability` and `probabilities` (class to share); or `path` and `error`."""


def predict(model: TrainedModel, paths: Sequence[Path], *, skip_bad: bool) -> Iterator[Prediction]:
    """Predict each photo, in the order given.

    Args:
        model: a trained model.
        paths: files.
        skip_bad: whether a photo that cannot be read gives a `Prediction` with `error`, in place of an error.

    Raises:
        BadImageError: a photo that cannot be read.
    """
    for start in range(0, len(paths), model.config.evaluate.batch):
        rows: list[Prediction] = []
        pixels = []
        for path in paths[start : start + model.config.evaluate.batch]:
            try:
                pixels.append(np.asarray(load_rgb(path, name=str(path), size=model.image_size)))
                rows.append({"path": str(path)})
            except BadImageError as error:
                if not skip_bad:
                    raise
                rows.append({"path": str(path), "error": error.reason})
        shares: Iterator[list[float]] = iter(())
        if pixels:
            shares = iter(model(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)).softmax(dim=1).tolist())
        yield from (row if "error" in row else row | _describe(next(shares), model.classes) for row in rows)


def _describe(probabilities: Sequence[float], classes: Sequence[str]) -> Prediction:
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {
        "class": classes[best],
        "probability": probabilities[best],
        "probabilities": dict(zip(classes, probabilities, strict=True)),
    }
