"""The sections of the picture of some steps: their images as they went into the network, with what the network said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from torch import Tensor

from signs_dist.replaying.picture import Section, Tile, to_pixels
from signs_dist.replaying.records import MicroBatch, Step
from signs_dist.replaying.told import number, sample_rows


def make_sections(
    steps: Sequence[Step], files: Mapping[int, str], classes: Sequence[str], factor: Tensor, offset: Tensor
) -> list[Section]:
    """A section for each micro-batch.

    Args:
        steps: with images float32 [B, 3, H, W].
        files: the names of the samples.
        classes: the names of the classes.
        factor, offset: of the run's `ImagePreparer`, on the CPU.
    """
    return [
        Section(
            f"step {step.step:,} (epoch {step.epoch}, step {step.step_of_epoch}) · micro-batch {each.number} · loss "
            f"{number(each.loss)}",
            _tiles(each, files, classes, factor, offset),
        )
        for step in steps
        for each in step.micro_batches
    ]


def _tiles(
    micro_batch: MicroBatch, files: Mapping[int, str], classes: Sequence[str], factor: Tensor, offset: Tensor
) -> list[Tile]:
    pixels = to_pixels(micro_batch.images, factor, offset)
    return [
        Tile(
            image,
            (
                PurePath(files[row["sample"]]).name,
                f"class {row['label']}",
                f"predicted {row['predicted']}",
                f"loss {number(row['loss'])}",
            ),
            is_wrong=not row["is_hit"] or not math.isfinite(row["loss"]),
        )
        for image, row in zip(pixels, sample_rows(micro_batch, classes), strict=True)
    ]
