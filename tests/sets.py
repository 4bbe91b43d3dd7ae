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
