"""What an export says about itself: classes, preprocessing, results, config and the hash of its weights."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from signs_dist.errors import UserError
from signs_dist.inference.export_files import Format

VERSION = 1
"""Of the record. A later version that this code cannot read has a larger number."""


class _Part(BaseModel):
    """A part of the record. Fields of a later release are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Preprocessing(_Part):
    """From a photo to the network's input.

    Attributes:
        photo: how its pixels are read.
        image_size: side in pixels of the square that a photo is resized to; its width and height are not kept in
            proportion.
        resize: how: bicubic with antialiasing, as by Pillow.
        mean, std: of each channel: the input is (pixel / 255 - mean) / std.
        is_inside: whether the exported graph does it, and takes uint8 [N, H, W, 3]. If not, it takes the input itself,
            float32 [N, 3, S, S].
    """

    photo: str = "8-bit RGB, upright by EXIF, transparent pixels white"
    image_size: int = Field(ge=1)
    resize: str = "bicubic, antialiased, without keeping the proportions"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    is_inside: bool


class Result(_Part):
    """The accuracy on a set of images.

    Attributes:
        split: train, val, test, or all for photos that are not split.
        data: the name of the data set.
        num_images, num_correct: counted images.
        accuracy: their ratio.
        interval: the 95 % Wilson interval of the accuracy.
        measured: by whom: `export` computes in float32 on a CPU; `run` is what the run's result.json says.
    """

    split: str
    data: str
    num_images: int
    num_correct: int
    accuracy: float
    interval: tuple[float, float]
    measured: str


# Many members: one for each thing that an export says about itself.
class ExportRecord(_Part):
    """The record of an export.

    Attributes:
        version: of the record.
        format: safetensors, onnx or torch.
        name: of the run.
        trained_on: the name of its data set.
        network: `model.name`.
        network_args: `model.args`.
        classes: names by label.
        preprocessing: from pixels to input.
        flip_average: whether predictions are averaged over each image and its mirror.
        ten_crop: the side of the ten crops over which predictions are averaged, as a fraction; None without them.
        views_are_inside: whether the exported graph averages.
        max_megapixels: larger photos are refused by `predict`, as in the run.
        batch: images per forward pass of `predict`.
        weights: which file of the run they come from, after how many epochs.
        weights_sha256: as `signs_dist.weights_sha256`.
        results: accuracies.
        config: the run's settings, without paths of the machine.
        versions: of signs_dist and torch.
    """

    version: int = VERSION
    format: Format
    name: str
    trained_on: str
    network: str
    network_args: dict[str, Any]
    classes: tuple[str, ...] = Field(min_length=1)
    preprocessing: Preprocessing
    flip_average: bool
    ten_crop: float | None = None
    views_are_inside: bool
    max_megapixels: float
    batch: int = Field(ge=1)
    weights: str
    weights_sha256: str
    results: tuple[Result, ...]
    config: dict[str, Any]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _is_readable(self) -> ExportRecord:
        if self.version > VERSION:
            raise ValueError(f"its version is {self.version}; this release reads up to {VERSION}: update signs_dist")
        return self

    def to_json(self) -> str:
        """As one line of JSON."""
        return self.model_dump_json()


def read_record(text: str | None, path: object) -> ExportRecord:
    """The record in the metadata of the file `path`.

    Raises:
        UserError: there is none, or it is not one of ours.
    """
    if not text:
        raise UserError(
            f"{path} was not written by signs_dist.export: its metadata have no record `signs_dist` with the classes "
            f"and the preprocessing. To make one: python -m signs_dist.export RUN_DIR"
        )
    try:
        return ExportRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "version"
        problem = f"{key}: {first['msg']}"
        raise UserError(f"{path}: the record `signs_dist` in its metadata is damaged: {problem}.") from error
