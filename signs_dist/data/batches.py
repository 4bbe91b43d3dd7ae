"""Datasets that fetch a whole batch at once: `dataset[key]` takes a `BatchKey` and returns a `Batch`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from signs_dist.data.file_crops import FileCrop, FilePart
from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import MAX_MEGAPIXELS, load_rgb, pillow_quiet_and_unlimited
from signs_dist.data.packed import PackedSplit
from signs_dist.data.paths import Paths
from signs_dist.data.plan import BatchKey
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.data.square_pixels import load_square
from signs_dist.errors import UserError

Transform = Callable[[Tensor], Tensor]
Resize = Literal["pillow", "torch"]
"""Who resizes an image that is decoded at each use."""

_NUM_TRIALS = 16
"""How often transforms are tried before a run, with other random draws each time: some act with a probability only."""
# What torchvision's transforms raise on wrong arguments, when they are made or applied.
_TRANSFORM_ERRORS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError, AssertionError)


class Batch(NamedTuple):
    """One batch, on the host or on a device.

    Attributes:
        images: [B, 3, H, W], uint8 in 0..255 or float32 in 0..1.
        labels: int64 [B].
        samples: int64 [B], numbers of the samples in their split.
        epoch: the epoch that the batch was fetched for.
        step: the step within the epoch.
    """

    images: Tensor
    labels: Tensor
    samples: Tensor
    epoch: int
    step: int

    def part(self, start: int, end: int) -> Batch:
        """The images from `start` up to, not including, `end`; views, not copies."""
        if start == 0 and end == len(self.labels):
            return self
        return self._replace(
            images=self.images[start:end], labels=self.labels[start:end], samples=self.samples[start:end]
        )

    def describe(self) -> dict[str, Any]:
        """Epoch and step, both counted from 1, and the numbers of the samples, for a report."""
        return {"epoch": self.epoch + 1, "step": self.step + 1, "samples": self.samples.tolist()}


class PackedBatches(Dataset[Batch]):
    """Batches from a packed split: one indexing operation each."""

    def __init__(self, split: PackedSplit, transform: Transform | None = None, seed: int = 0) -> None:
        self.split = split
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: BatchKey) -> Batch:
        images = torch.from_numpy(self.split.pixels[key.samples]).permute(0, 3, 1, 2)  # [B, 3, H, W], channels last
        return _assemble(images, self.split.labels, key, self.transform, self.seed)

    def __len__(self) -> int:
        return len(self.split.labels)


class FileBatches(Dataset[Batch]):
    """Batches decoded from the image files at each use, for data sets too large to pack.

    Args:
        index: the images of a split.
        image_size: side of the squares in pixels.
        transform: for each image; None: none.
        seed: of the random draws of the transform and of `crop`.
        max_megapixels: larger images are refused.
        resize: who resizes, see `data.resize`.
        crop: a random part of each image instead of the whole one.
    """

    def __init__(
        self,
        index: ImageIndex,
        image_size: int,
        transform: Transform | None = None,
        seed: int = 0,
        max_megapixels: float = MAX_MEGAPIXELS,
        *,
        resize: Resize = "pillow",
        crop: FileCrop | None = None,
    ) -> None:
        self.root = index.root
        self.reader = index.reader
        # A block, not a list: reading a list writes reference counts, which copies it into every worker.
        self.paths = Paths.of(index.paths)
        self.labels = index.labels
        self.image_size = image_size
        self.transform = transform
        self.seed = seed
        self.max_megapixels = max_megapixels
        self.resize = resize
        self.crop = crop

    def __getitem__(self, key: BatchKey) -> Batch:
        samples = key.samples.tolist()
        pixels = np.empty((len(samples), self.image_size, self.image_size, 3), np.uint8)
        parts: Sequence[FilePart | None] = [None] * len(samples)
        if self.crop is not None:
            parts = self.crop.draw(self.seed, key.epoch, key.samples)
        with pillow_quiet_and_unlimited():
            for row, sample, part in zip(pixels, samples, parts, strict=True):
                decoded = self._decode(sample, part)
                for channel in range(3):  # a quarter of the time that all three at once take
                    row[..., channel] = decoded[..., channel]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return _assemble(images, self.labels, key, self.transform, self.seed)

    def __len__(self) -> int:
        return len(self.labels)

    def _decode(self, sample: int, part: FilePart | None) -> npt.NDArray[np.uint8]:
        path = self.paths[sample]
        source, name, size, limit = self.reader.read(path), str(self.root / path), self.image_size, self.max_megapixels
        if part is not None:
            pixels = load_square(source, name=name, size=size, max_megapixels=limit, draw_part=part.draw)
            return pixels[:, ::-1] if part.mirrored else pixels
        if self.resize == "torch":
            return load_square(source, name=name, size=size, max_megapixels=limit)
        return np.asarray(load_rgb(source, name=name, size=size, max_megapixels=limit))


def _assemble(
    images: Tensor, labels: np.ndarray[Any, np.dtype[np.int64]], key: BatchKey, transform: Transform | None, seed: int
) -> Batch:
    if transform is not None:
        images = torch.stack(
            [
                _transformed(image, transform, stream_key(seed, Stream.AUGMENT, key.epoch, sample))
                for image, sample in zip(images, key.samples.tolist(), strict=True)
            ]
        )
    samples = torch.from_numpy(key.samples)
    return Batch(images, torch.from_numpy(labels[key.samples]), samples, key.epoch, key.step)


def _transformed(image: Tensor, transform: Transform, key: int) -> Tensor:
    """One image through torchvision transforms whose random draws depend on `key` alone."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it also seeds the GPUs' generators, which fork_rng does not restore here.
        torch.default_generator.manual_seed(key)
        result = transform(image)
    _require_same_shape(result, image)
    return result


def build_transform(entries: Sequence[dict[str, dict[str, Any]]], image_size: int) -> Transform:
    """Compose torchvision.transforms.v2 by name, for images uint8 [3, H, W].

    Raises:
        UserError: an unknown transform, wrong arguments, or a result that is not [3, image_size, image_size].
    """
    from torchvision.transforms import v2

    composed: Transform = v2.Compose([_build_step(*next(iter(entry.items()))) for entry in entries])
    blank = torch.zeros(3, image_size, image_size, dtype=torch.uint8)
    for key in range(_NUM_TRIALS):
        try:
            _transformed(blank, composed, key)
        except UserError:
            raise
        except _TRANSFORM_ERRORS as error:
            raise UserError(f"augment.transforms cannot be applied to an image: {_reason(error)}.") from error
    return composed


def _build_step(name: str, arguments: dict[str, Any]) -> Transform:
    """One transform of torchvision.transforms.v2."""
    from torchvision.transforms import v2

    found = {legal: getattr(v2, legal) for legal in dir(v2) if legal[0].isupper()}
    classes = {
        legal: value for legal, value in found.items() if isinstance(value, type) and issubclass(value, v2.Transform)
    }
    if name not in classes:
        raise UserError(f"augment.transforms: {name} is not in torchvision.transforms.v2.{_near(name, classes)}")
    parameters = inspect.signature(classes[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            legal = ", ".join(parameters) or "none"
            hint = _near(argument, parameters)
            raise UserError(f"augment.transforms: {name} has no argument {argument}; it has: {legal}.{hint}")
    try:
        step: Transform = classes[name](**arguments)
    except _TRANSFORM_ERRORS as error:
        raise UserError(f"augment.transforms: {name}({arguments}): {_reason(error)}.") from error
    return step


def _near(name: str, legal: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, legal, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _require_same_shape(result: Any, image: Tensor) -> None:
    if not isinstance(result, Tensor) or result.shape != image.shape:
        shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"augment.transforms must end in an image of {list(image.shape)}, not {shape}.")
