"""One split of a data set as a PyTorch dataset: `dataset[i]` is (image, label)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.utils.data import Dataset

from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex, has_split, index_split
from signs_dist.data.images import MAX_MEGAPIXELS, load_rgb
from signs_dist.data.names import SPLITS
from signs_dist.data.paths import Paths
from signs_dist.data.shards.opening import find_shards, index_shards
from signs_dist.data.sources.opening import open_roots
from signs_dist.errors import UserError


def _index(root: Path, split: str) -> ImageIndex:
    if split in SPLITS and (shards := find_shards(root)):
        return _named(index_shards(root, shards, cache=Path(DataConfig().cache)), root, split)
    has_folders = root.is_dir() and any(has_split(root, name) for name in SPLITS)
    if has_folders or split not in SPLITS or not root.exists():
        takes_classes_of_train = split != "train" and has_split(root, "train")
        classes = index_split(root, "train").classes if takes_classes_of_train else None
        return index_split(root, split, classes=classes)
    return _named(open_roots(DataConfig(), [root]).splits, root, split)


def _named(splits: Mapping[str, ImageIndex], root: Path, split: str) -> ImageIndex:
    if split not in splits:
        raise UserError(f"{root} has no split {split}. Choose the split {' or '.join(splits)}.")
    return splits[split]


class SignsDataset(Dataset[tuple[Any, int]]):
    """The images of one split of a folder, table or tar shards, decoded when read, for your own training loop.

    It reads what training reads as `data.root`, and its labels are those of training. Images that are not split are
    divided as in training with the default settings: the division is in data/splits of the current folder, and is
    written there if it is missing.

    Args:
        root: the data set's folder, a table of images, or a folder of tar shards.
        split: train, val or test.
        transform: called with the PIL image (RGB, upright). None: the image is a float32 tensor [3, height, width] in
            0..1.
        image_size: images of another size are resized to image_size x image_size. None: each keeps its size.
        max_megapixels: an image with a larger width times height, in millions, is refused when it is read.

    Attributes:
        classes: class names in the order of their labels: those of train, or of this split if there is no train.
        class_to_idx: class name → label.
        labels: int64 [N], one for each image.

    Raises:
        UserError: no such folder, or it is not a data set. Reading a broken image raises BadImageError.

    Example:
        >>> import torch, signs_dist as sd
        >>> from torchvision.transforms import v2
        >>> flip = v2.RandomHorizontalFlip()
        >>> train = sd.SignsDataset("photos", "train", image_size=16)
        >>> image, label = train[0]
        >>> list(image.shape), train.classes[label]
        ([3, 16, 16], '0')
        >>> for images, labels in torch.utils.data.DataLoader(train, batch_size=4, shuffle=True):
        ...     flipped = flip(images)
        >>> len(train), list(flipped.shape)
        (12, [4, 3, 16, 16])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transform: Callable[[Any], Any] | None = None,
        *,
        image_size: int | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
    ):
        index = _index(Path(root), split)
        self.root = index.root
        self.split = split
        self.transform = transform
        self.image_size = image_size
        self.max_megapixels = max_megapixels
        self.classes = index.classes
        self.class_to_idx = {name: label for label, name in enumerate(index.classes)}
        self.labels = index.labels
        self._reader = index.reader
        # A block, not a list: reading a list writes reference counts, which copies it into every DataLoader worker.
        self._paths = Paths.of(index.paths)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """The file of one image, or its name in a shard. A negative index counts from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")  # ends `for image, label in dataset`
        return self.root / self._paths[index]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """All (path, label) pairs, as torchvision's ImageFolder has them."""
        return [(str(self.path(index)), int(self.labels[index])) for index in range(len(self))]

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.path(index)
        source = self._reader.read(self._paths[index])
        image = load_rgb(source, name=str(path), size=self.image_size, max_megapixels=self.max_megapixels)
        label = int(self.labels[index])
        if self.transform is not None:
            return self.transform(image), label
        pixels = torch.from_numpy(numpy.array(image))  # [height, width, 3] uint8
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div_(255), label
