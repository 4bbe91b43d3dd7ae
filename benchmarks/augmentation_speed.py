"""Measure how many images a second each augmentation prepares, alone and beside torchvision's own, image by image.

    python benchmarks/augmentation_speed.py --side 224 --batch 32

The images are random. A batch is prepared as in training: converted from bytes, changed, normalised. On the CPU it is
the processor time of one thread, which other programs hardly change; on a GPU the time until the batch is ready.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from signs_dist.config.settings import AugmentConfig, DataConfig
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.batches import Batch, build_transform
from signs_dist.data.mixing import BatchMixer, mixes
from signs_dist.training.image_preparer import ImagePreparer

NOTHING: dict[str, Any] = {
    "flip": 0.0,
    "rotate_degrees": 0.0,
    "shift": 0.0,
    "scale": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": NOTHING,
    "the defaults": {},
    "crop_scale: [0.08, 1]": NOTHING | {"crop_scale": (0.08, 1.0)},
    "policy: randaugment": NOTHING | {"policy": "randaugment"},
    "policy: trivialaugment": NOTHING | {"policy": "trivialaugment"},
    "erase: 0.25": NOTHING | {"erase": 0.25},
    "erase: 0.25, erase_fill: noise": NOTHING | {"erase": 0.25, "erase_fill": "noise"},
    "mixup: 0.2": NOTHING | {"mixup": 0.2},
    "cutmix: 1": NOTHING | {"cutmix": 1.0},
}
TRANSFORMS = ({"RandAugment": {}}, {"TrivialAugmentWide": {}})
NUM_CLASSES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224, help="side of the images in pixels (default: 224)")
    parser.add_argument("--batch", type=int, default=32, help="images of a batch (default: 32)")
    parser.add_argument("--repeats", type=int, default=20, help="batches that are measured (default: 20)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    pixels = torch.randint(256, (options.batch, options.side, options.side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(NUM_CLASSES, (options.batch,))

    def prepare_with(config: AugmentConfig) -> Callable[[int], object]:
        mixer = BatchMixer(config, 0, num_classes=NUM_CLASSES, micro_batch=options.batch) if mixes(config) else None
        prepare = ImagePreparer.create(
            DataConfig(), device, channels_last=True, augment=BatchAugmenter(config, 0), mix=mixer
        )
        return lambda epoch: prepare(Batch(pixels, labels, torch.arange(options.batch), epoch, 0))

    for name, settings in SETTINGS.items():
        report(name, prepare_with(AugmentConfig(**settings)), options, device)
    for entry in TRANSFORMS:
        transform = build_transform([entry], options.side)
        report(f"torchvision's {next(iter(entry))}", lambda _: [transform(image) for image in pixels], options, device)  # noqa: B023


def report(name: str, work: Callable[[int], object], options: argparse.Namespace, device: torch.device) -> None:
    """Print the images per second of `work`, which prepares a batch of an epoch."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    for epoch in range(options.repeats + 2):
        started = clock()
        work(epoch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - started)
    median = statistics.median(seconds[2:])
    print(f"{name:32} {options.batch / median:9,.0f} images/s  {1000 * median:8.1f} ms a batch")


if __name__ == "__main__":
    main()
