"""The photos that an export is checked on, what the run's own model gives for them, and its accuracy."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from signs_dist.data.images import load_rgb
from signs_dist.data.loader import EvaluationLoader, choose_loader_settings
from signs_dist.data.plan import Shard
from signs_dist.errors import NotFiniteError, UserError
from signs_dist.exporting.checking import RESIZED_TOLERANCE, TOLERANCE, PhotoSet
from signs_dist.inference.export_record import Result
from signs_dist.inference.scoring import OpenedSplit
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.results.intervals import wilson_interval

MOST_CHECKED = 2_000
"""Photos of the network's own size that an export is run on; of a larger split, evenly spaced ones. The accuracy is
that of all."""
MOST_RESIZED = 64
"""Larger photos of each size that an export is run on."""
SCALES = ((2.5, 1.75), (7.0, 5.0))
"""Widths and heights of the larger photos, in sides of the network's square."""
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the run's own model gives for the photos of a split, in float32 on the CPU.

    Attributes:
        result: the accuracy over all of them.
        num_of_class, num_correct_of_class: photos of each class, and those of them whose class was predicted.
        photo_sets: photos to run an export on, with the probabilities of each.
    """

    result: Result
    num_of_class: tuple[int, ...]
    num_correct_of_class: tuple[int, ...]
    photo_sets: tuple[PhotoSet, ...]


def judge(model: TrainedModel, opened: OpenedSplit, *, num_cores: int) -> Judged:
    """Run the model on a split, and choose the photos for the check.

    Args:
        model: in float32 on the CPU.
        opened: the split.
        num_cores: CPU cores to use.

    Raises:
        UserError: the split has no photos.
        NotFiniteError: the network gives NaN or infinity.
    """
    if not opened.num_images:
        raise UserError(f"{opened.data_name} has no {opened.split} images to check the export on. Give --data DIR.")
    config = model.config
    settings = choose_loader_settings(
        config.data, usable_cores=num_cores, on_gpu=False, per_sample_work=config.data.storage == "files"
    )
    loader = EvaluationLoader(opened.source, opened.num_images, config.evaluate.batch, Shard(), settings)
    chosen = set(evenly_spaced(opened.num_images, MOST_CHECKED))
    images, shares, labels, predicted, num_seen = [], [], [], [], 0
    try:
        for batch in loader:
            logits = model(batch.images)
            labels.append(batch.labels)
            predicted.append(logits.argmax(dim=1))
            kept = [place for place in range(len(logits)) if num_seen + place in chosen]
            images.append(batch.images[kept].permute(0, 2, 3, 1).contiguous().numpy())
            shares.append(logits[kept].softmax(dim=1).numpy())
            num_seen += len(logits)
    finally:
        loader.close()
    own, expected = np.concatenate(images), np.concatenate(shares)
    if not np.isfinite(expected).all():
        raise NotFiniteError(
            f"{model.source}: the network's output is not a finite number. Training has diverged, or the weights are "
            f"damaged. Choose other weights with --weights."
        )
    whole = f"{len(own):,}" if len(own) == num_seen else f"{len(own):,} of {num_seen:,}"
    sets = [PhotoSet(f"{whole} {opened.split} photos", own, expected, TOLERANCE)]
    few = own[list(evenly_spaced(len(own), MOST_RESIZED))]
    sets += [_resized(model, few, scale) for scale in SCALES]
    truth, guess = torch.cat(labels), torch.cat(predicted)
    of_class = torch.bincount(truth, minlength=len(model.classes)).tolist()
    correct_of_class = torch.bincount(truth[truth == guess], minlength=len(model.classes)).tolist()
    result = _result(opened, sum(correct_of_class), num_seen)
    return Judged(result, tuple(of_class), tuple(correct_of_class), tuple(sets))


def evenly_spaced(count: int, most: int) -> Sequence[int]:
    """At most `most` numbers below `count`, evenly spaced."""
    num_chosen = min(count, most)
    return [place * count // num_chosen for place in range(num_chosen)]


def _result(opened: OpenedSplit, num_correct: int, num_images: int) -> Result:
    return Result(
        split=opened.split,
        data=Path(opened.data_name).name,
        num_images=num_images,
        num_correct=num_correct,
        accuracy=num_correct / num_images,
        interval=wilson_interval(num_correct, num_images),
        measured="export",
    )


def _resized(model: TrainedModel, images: npt.NDArray[np.uint8], scale: tuple[float, float]) -> PhotoSet:
    """The photos at another size with sharp edges, and the probabilities of the run's own reading and resizing."""
    width, height = (round(model.image_size * factor) for factor in scale)
    large, read = [], []
    for pixels in images:
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        stream = io.BytesIO()
        image.save(stream, "BMP")
        own = load_rgb(stream.getvalue(), name="a larger photo", size=model.image_size)
        large.append(np.asarray(image))
        read.append(torch.from_numpy(np.array(own)).permute(2, 0, 1))
    parts: list[Any] = [
        model(torch.stack(read[start : start + BATCH])).softmax(dim=1).numpy() for start in range(0, len(read), BATCH)
    ]
    what = f"{len(images):,} of them at {width} x {height} pixels"
    return PhotoSet(what, np.stack(large), np.concatenate(parts), RESIZED_TOLERANCE)
