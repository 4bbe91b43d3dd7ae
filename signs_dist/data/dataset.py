"""One split of a data set as PyTorch users know it: `dataset[i]` is (image, label)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.utils.data import Dataset

from signs_dist.data.folder import ImageIndex, has_split, index_split
from signs_dist.data.images import load_rgb


class SignsDataset(Dataset[tuple[Any, int]]):
    """Images of a folder, decoded when asked for.

    `dataset[i]` is `(image, label)`. The image is `transform(PIL image)`, or without a transform a float32 tensor
    [3, height, width] in 0..1. The label is an int, an index into `classes`.

    Paths and labels are kept in two numpy arrays: a list of Python strings would be copied page by page into every
    DataLoader worker, because reading an object writes its reference count.

    Args:
        root: the data set's folder, with flat SIGNS names or class folders (see `signs_dist.data.folder`).
        split: train, val or test.
        transform: called with the PIL image (RGB, upright), such as a torchvision transform.
        image_size: images of another size are resized to image_size x image_size. None: each keeps its own.
        classes: legal classes in the order of their labels. None: those of train, or of this split if it is alone.

    Raises:
        UserError: no such folder, or it is not a legal data set. Asking for a broken image raises BadImageError.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transform: Callable[[Any], Any] | None = None,
        image_size: int | None = None,
        *,
        classes: Sequence[str] | None = None,
    ):
        folder = Path(root)
        if classes is None and split != "train" and has_split(folder, "train"):
            classes = index_split(folder, "train").classes
        self._set_index(index_split(folder, split, classes=classes))
        self.transform = transform
        self.image_size = image_size

    @classmethod
    def of_index(
        cls, index: ImageIndex, transform: Callable[[Any], Any] | None = None, image_size: int | None = None
    ) -> SignsDataset:
        """The data set of an index that was already made."""
        dataset = cls.__new__(cls)
        dataset._set_index(index)
        dataset.transform = transform
        dataset.image_size = image_size
        return dataset

    def _set_index(self, index: ImageIndex) -> None:
        self.root = index.root
        self.split = index.split
        self.classes = index.classes
        self.class_to_idx = {name: number for number, name in enumerate(index.classes)}
        self.labels = index.labels
        # Names end to end in one array, and where each one ends: file names of any length take no padding.
        encoded = [os.fsencode(path) for path in index.paths]
        self._path_bytes = numpy.frombuffer(b"".join(encoded), dtype=numpy.uint8)
        self._path_ends = numpy.cumsum([len(path) for path in encoded], dtype=numpy.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """The file of one image. A negative index counts from the end."""
        index = self._checked(index)
        start = int(self._path_ends[index - 1]) if index else 0
        return self.root / os.fsdecode(self._path_bytes[start : int(self._path_ends[index])].tobytes())

    @property
    def samples(self) -> list[tuple[str, int]]:
        """All (path, label) pairs, as torchvision's ImageFolder has them. Made anew at each call."""
        return [(str(self.path(index)), int(self.labels[index])) for index in range(len(self))]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.path(index)
        image = load_rgb(path, name=str(path), size=self.image_size)
        label = int(self.labels[index])
        if self.transform is not None:
            return self.transform(image), label
        pixels = torch.from_numpy(numpy.array(image))  # [height, width, 3] uint8
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div_(255), label

    def _checked(self, index: int) -> int:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"image {index} of {len(self)}")  # ends `for image, label in dataset`
        return int(position)
