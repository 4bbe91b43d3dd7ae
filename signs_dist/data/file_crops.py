"""Random crops of whole image files, as torchvision's RandomResizedCrop draws them.

A crop depends on (seed, epoch, sample) and on the width and height of the image: it is known before a pixel is decoded.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.augment import FLIP_DRAW
from signs_dist.data.order import Indices
from signs_dist.data.randomness import Stream, stream_key, uniform
from signs_dist.data.rectangles import NUM_DRAWS, Range, draw_crops
from signs_dist.data.square_pixels import Box, DrawPart


class FilePart(NamedTuple):
    """What is taken of an image: a part, which `draw` tells from the width and height, mirrored or not."""

    draw: DrawPart
    mirrored: bool


@dataclasses.dataclass(frozen=True)
class FileCrop:
    """How crops are drawn.

    Attributes:
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width by height, in pixels of the file.
        flip: probability of a left-right mirror. Of pixels that are copied anyway, it takes no time.
    """

    area: Range
    ratio: Range
    flip: float

    @classmethod
    def of(cls, config: AugmentConfig) -> FileCrop | None:
        """The crops of a config; None where it crops no files."""
        if config.crop_scale is None or config.crop_from != "file":
            return None
        return cls(config.crop_scale, config.crop_ratio, config.flip)

    def draw(self, seed: int, epoch: int, samples: Indices) -> list[FilePart]:
        """The part of each sample. Mirrors are those that `BatchAugmenter` would draw."""
        draws = uniform(stream_key(seed, Stream.CROP, epoch), samples, NUM_DRAWS)
        mirrors = uniform(stream_key(seed, Stream.AUGMENT, epoch), samples, FLIP_DRAW + 1)[:, FLIP_DRAW] < self.flip
        parts = [functools.partial(self._draw_part, row[None]) for row in draws]
        return [FilePart(part, mirrored) for part, mirrored in zip(parts, mirrors.tolist(), strict=True)]

    def _draw_part(self, draws: npt.NDArray[np.float32], width: int, height: int) -> Box:
        centres, half_sides = draw_crops(draws, self.area, self.ratio, height / width)
        (y, x), (half_height, half_width) = centres[0].tolist(), half_sides[0].tolist()
        left, right = _edges(x, half_width, width)
        top, bottom = _edges(y, half_height, height)
        return left, top, right, bottom


def _edges(centre: float, half_side: float, side: int) -> tuple[int, int]:
    """The edges of a part in whole pixels, at least one apart; centre and half side in coordinates from -1 to 1."""
    length = min(side, max(1, round(half_side * side)))
    first = min(side - length, max(0, round((1 + centre - half_side) / 2 * side)))
    return first, first + length
