"""The config's section on augmentation. The docstrings below the settings are the manual, as in `settings`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from signs_dist.config.dotted_names import DottedName
from signs_dist.config.section import Probability, Section

Alpha = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=100)]
Shares = Annotated[tuple[Share, Share], Field(strict=False)]
Ratios = Annotated[tuple[Ratio, Ratio], Field(strict=False)]


class AugmentConfig(Section):
    """Random changes to training images. What happens to an image depends only on the seed, the epoch and the image."""

    backend: Literal["batch", "torchvision", "none"] | DottedName = "batch"
    """batch: the settings below, on whole batches on the device. torchvision: `transforms`, image by image. none:
    nothing. Or your own function, as package.module:make."""
    flip: Probability = 0.5
    """Probability of a left-right mirror."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 25.0
    """Rotation by an angle uniform in ± this many degrees."""
    shift: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Shift along each axis, uniform in ± this fraction of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Zoom by a factor uniform in 1 ± this."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.2
    """All pixels are multiplied by a factor uniform in 1 ± this."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The pixels' distances from the image's mean are multiplied by a factor uniform in 1 ± this."""
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Side of a square, as a fraction of the image's side, that is filled with the image's mean. 0: no square."""
    crop_scale: Shares | None = None
    """A random part with a share of the area in this range is enlarged to the whole. [0.08, 1] is usual. null: none."""
    crop_ratio: Ratios = (0.75, 1.333333)
    """For crop_scale: range of the part's width by its height."""
    crop_from: Literal["square", "file"] = "square"
    """For crop_scale. square: the part is cut from the resized image. file: from the image as its file has it."""
    policy: Literal["none", "randaugment", "trivialaugment"] = "none"
    """randaugment: num_ops random operations of 14, of one magnitude. trivialaugment: one, of a random magnitude."""
    num_ops: Annotated[int, Field(ge=1, le=14)] = 2
    """For randaugment: operations on each image, one after the other."""
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """For randaugment: strength of the operations, of 30."""
    erase: Probability = 0.0
    """Probability that a random rectangle is erased."""
    erase_area: Shares = (0.02, 0.33)
    """For erase: range of the rectangle's share of the area."""
    erase_fill: Literal["mean", "noise"] = "mean"
    """For erase: fill with the image's mean, or with a random colour for each pixel."""
    mixup: Alpha = 0.0
    """MixUp: images of a micro-batch are blended in pairs, with shares of Beta(this, this). 0.2 is usual. 0: none."""
    cutmix: Alpha = 0.0
    """CutMix: a box of an image comes from another one; its area is of Beta(this, this). 1 is usual. 0: none."""
    mix_probability: Probability = 1.0
    """Probability that an image is mixed. With both mixup and cutmix, half of the mixed images get each."""
    transforms: tuple[dict[str, dict[str, Any]], ...] = Field(default=(), strict=False)
    """For backend torchvision: a list of `Name: {argument: value}` from torchvision.transforms.v2, in order."""
    args: dict[str, Any] = Field(default={})
    """Arguments of your own augment.backend."""

    @model_validator(mode="after")
    def _ranges_are_legal(self) -> AugmentConfig:
        for key in ("crop_scale", "crop_ratio", "erase_area"):
            given = getattr(self, key)
            if given is not None and given[0] > given[1]:
                raise ValueError(f"augment.{key}={list(given)}: type [smallest, largest].")
        return self

    @model_validator(mode="after")
    def _crops_of_files_have_a_size(self) -> AugmentConfig:
        if self.crop_from == "file" and self.crop_scale is None:
            raise ValueError("augment.crop_from=file needs augment.crop_scale, such as augment.crop_scale=[0.08, 1].")
        return self

    @model_validator(mode="after")
    def _transforms_match_backend(self) -> AugmentConfig:
        if not self.transforms and self.backend == "torchvision":
            raise ValueError(
                "augment.backend=torchvision needs augment.transforms, such as [{RandomRotation: {degrees: 25}}]."
            )
        wrong = [entry for entry in self.transforms if len(entry) != 1]
        if wrong:
            raise ValueError(f"augment.transforms takes one `Name: {{...}}` per entry, not {wrong[0]}.")
        return self
