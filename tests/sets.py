"""Small data sets that tests make for themselves."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200))
"""The colour that gives a class away, so that a small network learns it in seconds."""


def write_colour_set(root: Path, *, counts: Mapping[str, int], size: int = 16, num_classes: int = 3) -> Path:
    """Write `counts[split]` images per class in the layout of SIGNS: noisy squares, each class of another colour."""
    for split, count in counts.items():
        folder = root / f"{split}_signs"
        folder.mkdir(parents=True)
        for label in range(num_classes):
            for number in range(count):
                name = f"{label}_IMG_{number:04d}.jpg"
                noise = np.random.default_rng(zlib.crc32(f"{split}/{name}".encode())).normal(0, 40, (size, size, 3))
                pixels = (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name, quality=95)
    return root


def small_run(root: Path, *more: str, epochs: int, global_batch: int) -> list[str]:
    """Settings of a run on a colour set: BatchNorm, dropout, an average and clipping, in micro-batches of 2."""
    return [
        f"data.root={root}",
        f"data.cache={root}/cache",
        "data.image_size=16",
        "model.name=signs_net",
        "model.args={channels: 4, dropout: 0.3}",
        f"train.epochs={epochs}",
        f"train.global_batch={global_batch}",
        "train.micro_batch=2",
        "ema.decay=0.9",
        "optim.clip_norm=1.0",
        *more,
    ]
