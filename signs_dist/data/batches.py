"""Data sets that are asked for a whole batch at once: by a `BatchKey`, they return a `Batch`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import load_rgb
from signs_dist.data.packed import PackedSplit
from signs_dist.data.plan import BatchKey
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.errors import UserError

Transform = Callable[[Tensor], Tensor]


class Batch(NamedTuple):
    """One batch, on the host or on a device.

    Attributes:
        images: [B, 3, H, W], uint8 in 0..255 or float32 in 0..1.
        labels: int64 [B].
        samples: int64 [B], the samples' numbers in their split.
        epoch: the epoch it was fetched for.
        step: the step within the epoch.
    """

    images: Tensor
    labels: Tensor
    samples: Tensor
    epoch: int
    step: int


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
    """Batches decoded from image files each time; for sets too large to pack."""

    def __init__(self, index: ImageIndex, image_size: int, transform: Transform | None = None, seed: int = 0) -> None:
        self.root = index.root
        # One array instead of a list of objects: reading a list would copy it, page by page, into every worker.
        self.paths = np.array(index.paths)
        self.labels = index.labels
        self.image_size = image_size
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: BatchKey) -> Batch:
        pixels = np.stack([self._decode(sample) for sample in key.samples.tolist()])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return _assemble(images, self.labels, key, self.transform, self.seed)

    def __len__(self) -> int:
        return len(self.labels)

    def _decode(self, sample: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        path = self.root / str(self.paths[sample])
        return np.asarray(load_rgb(path, name=str(path), size=self.image_size))


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
        torch.manual_seed(key)
        return transform(image)


def build_transform(entries: Sequence[dict[str, dict[str, Any]]], image_size: int) -> Transform:
    """Compose torchvision.transforms.v2 by name, for images uint8 [3, H, W].

    Raises:
        UserError: an unknown transform, wrong arguments, or a result that is not [3, image_size, image_size].
    """
    import difflib

    from torchvision.transforms import v2

    legal = sorted(name for name in dir(v2) if isinstance(getattr(v2, name), type) and name[0].isupper())
    steps = []
    for entry in entries:
        ((name, arguments),) = entry.items()
        if name not in legal:
            near = difflib.get_close_matches(name, legal, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"augment.transforms: {name} is not in torchvision.transforms.v2.{hint}")
        try:
            steps.append(getattr(v2, name)(**arguments))
        except (TypeError, ValueError) as error:
            raise UserError(f"augment.transforms: {name}({arguments}): {error}.") from error
    composed: Transform = v2.Compose(steps)
    try:
        result = _transformed(torch.zeros(3, image_size, image_size, dtype=torch.uint8), composed, 0)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"augment.transforms cannot be applied to an image: {error}") from error
    if not isinstance(result, Tensor) or result.shape != (3, image_size, image_size):
        shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"augment.transforms must end in an image of [3, {image_size}, {image_size}], not {shape}.")
    return composed
