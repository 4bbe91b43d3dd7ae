"""Measure how many images of a folder of JPEGs one core prepares at 224 pixels, beside torchvision's ImageFolder.

    python benchmarks/jpeg_folder.py
    python benchmarks/jpeg_folder.py --sizes 500x375 --num-photos 400 --num-workers 1

The photos are drawn: smooth shades, edges and a camera's noise, saved with quality 90 and 4:2:0. Each side goes through
the whole folder, from files to normalised float32 batches, with one thread, in turn with the others; a figure is the
median. It is the processor time of this process and its workers, which other programs hardly change. simplejpeg is
measured where it is installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import resource
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from signs_dist.config.settings import AugmentConfig, DataConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import FileBatches, Resize
from signs_dist.data.file_crops import FileCrop
from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.loader import EvaluationLoader, LoaderSettings, TrainLoader
from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.training.image_preparer import ImagePreparer

SIDE, RESIZED = 224, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES = 2
NUM_DRAWN = 8
"""Photos that are drawn; the others are copies of them."""
CROPS = AugmentConfig(
    flip=0.5, rotate_degrees=0, shift=0, scale=0, brightness=0, contrast=0, crop_scale=(0.08, 1.0), crop_from="file"
)
OURS, DOCUMENTED = "signs_dist", "torchvision, as documented"

Pass = Callable[[int], Iterable[Any]]
"""The batches of an epoch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["500x375", "4000x3000"], help="width x height of the photos")
    parser.add_argument("--num-photos", type=int, help="photos of a size (default: 256, 32 of more than a megapixel)")
    parser.add_argument("--batch", type=int, default=32, help="images of a batch (default: 32)")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each side (default: 5)")
    parser.add_argument("--num-workers", type=int, default=0, help="worker processes (default: 0, this process loads)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        num_photos = options.num_photos or (32 if width * height > 1e6 else 256)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            num_bytes = write_photos(root / "train", width, height, num_photos)
            index = index_split(root, "train")
            print(f"{num_photos} photos of {size}, {num_bytes / num_photos / 1000:,.0f} kB each")
            compare("train: random crop, flip", training_sides(index, options), num_photos, options.repeats)
            compare("evaluate", evaluation_sides(index, options), num_photos, options.repeats)


def write_photos(folder: Path, width: int, height: int, num_photos: int) -> int:
    """Write photos in class folders. Returns the bytes that they take."""
    drawn = [draw_photo(width, height, seed) for seed in range(min(NUM_DRAWN, num_photos))]
    num_bytes = 0
    for number in range(num_photos):
        path = folder / f"class{number % NUM_CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn[number % len(drawn)].save(path, quality=90, subsampling="4:2:0")
        num_bytes += path.stat().st_size
    return num_bytes


def draw_photo(width: int, height: int, seed: int) -> Image.Image:
    """A picture with details of several sizes, some edges, and noise, another for each seed."""
    draw = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 120, np.float32)
    for num_columns, strength in ((4, 50), (16, 25), (64, 12), (256, 5)):
        coarse = draw.normal(0, strength, (max(2, num_columns * height // width), num_columns, 3)).astype(np.float32)
        coarse = 0.4 * coarse + 1.2 * coarse.mean(axis=2, keepdims=True)
        for channel in range(3):
            shade = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(shade)
    for _ in range(20):
        left, top = draw.integers(0, width), draw.integers(0, height)
        pixels[top : top + height // 5, left : left + width // 5] += draw.normal(0, 25, 3).astype(np.float32)
    pixels += draw.normal(0, 4, (height, width, 1)).astype(np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def training_sides(index: ImageIndex, options: argparse.Namespace) -> dict[str, Pass]:
    """Each side's random crops, flips and normalisation."""
    from torchvision.transforms import v2

    crop_and_flip = [v2.RandomResizedCrop(SIDE, antialias=True), v2.RandomHorizontalFlip()]
    return {OURS: functools.partial(our_training, index, options)} | torchvision_sides(index, options, crop_and_flip)


def evaluation_sides(index: ImageIndex, options: argparse.Namespace) -> dict[str, Pass]:
    """Ours resizes the whole photo; torchvision resizes, and crops the centre."""
    from torchvision.transforms import v2

    resize_and_crop = [v2.Resize(RESIZED, antialias=True), v2.CenterCrop(SIDE)]
    return {
        OURS: functools.partial(our_evaluation, index, options, "torch"),
        f"{OURS}, data.resize=pillow": functools.partial(our_evaluation, index, options, "pillow"),
    } | torchvision_sides(index, options, resize_and_crop)


def our_training(index: ImageIndex, options: argparse.Namespace, epoch: int) -> Iterator[Any]:
    """Batches of our loader, prepared as in training."""
    images = FileBatches(index, SIDE, crop=FileCrop.of(CROPS), resize="torch")
    loader = TrainLoader(images, EpochPlan(len(index), options.batch, 0), Shard(), _settings(options))
    try:
        yield from map(_preparer(BatchAugmenter(CROPS, 0)), loader.epoch(epoch))
    finally:
        loader.close()


def our_evaluation(index: ImageIndex, options: argparse.Namespace, resize: Resize, epoch: int) -> Iterator[Any]:
    """Batches of our loader, prepared as in an evaluation."""
    images = FileBatches(index, SIDE, resize=resize)
    loader = EvaluationLoader(images, len(index), options.batch, Shard(), _settings(options))
    try:
        yield from map(_preparer(None), loader)
    finally:
        loader.close()


def _settings(options: argparse.Namespace) -> LoaderSettings:
    return LoaderSettings(options.num_workers, prefetch=2, pin_memory=False)


def _preparer(augment: BatchAugmenter | None) -> ImagePreparer:
    config = DataConfig(mean=MEAN, std=STD)
    return ImagePreparer.create(config, torch.device("cpu"), channels_last=True, augment=augment)


def torchvision_sides(index: ImageIndex, options: argparse.Namespace, changes: list[Any]) -> dict[str, Pass]:
    """ImageFolder with its DataLoader: as torchvision documents it, and with faster decoders, normalising batches."""
    from torchvision import io, tv_tensors
    from torchvision.transforms import v2

    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    on_pillow = v2.Compose([v2.ToImage(), *changes, *finish])
    on_tensors, on_batch = v2.Compose(changes), v2.Compose(finish)

    def decode(path: str) -> Any:
        return tv_tensors.Image(io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB))

    def batches(transform: Any, batch_transform: Any, loader: Any) -> Iterator[Any]:
        from torchvision.datasets import ImageFolder

        chosen = {} if loader is None else {"loader": loader}
        folder = ImageFolder(str(index.root / "train"), transform=transform, **chosen)
        settings = {"batch_size": options.batch, "shuffle": True, "num_workers": options.num_workers}
        for images, labels in DataLoader(folder, **settings):
            yield (images if batch_transform is None else batch_transform(images)), labels

    sides: dict[str, Pass] = {
        DOCUMENTED: lambda _: batches(on_pillow, None, None),
        "torchvision.io, normalising batches": lambda _: batches(on_tensors, on_batch, decode),
    }
    if importlib.util.find_spec("simplejpeg") is not None:
        simplejpeg: Any = importlib.import_module("simplejpeg")

        def decode_simply(path: str) -> Any:
            pixels = simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB")
            return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))

        sides["simplejpeg, normalising batches"] = lambda _: batches(on_tensors, on_batch, decode_simply)
    return sides


def compare(title: str, sides: dict[str, Pass], num_photos: int, repeats: int) -> None:
    """Print the images a second of one core for each side, and how many times those of each other side ours are."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for epoch in range(repeats + 1):
        for name, batches in sides.items():
            started = processor_seconds()
            for _ in batches(epoch):
                pass
            if epoch:  # the first pass fills caches
                seconds[name].append(processor_seconds() - started)
    print(f"{title}:")
    for name, own in seconds.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(own, seconds[OURS], strict=True))
        print(f"  {name:36} {num_photos / statistics.median(own):8,.0f} images/s a core   {ratio:5.2f} times the time")


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
