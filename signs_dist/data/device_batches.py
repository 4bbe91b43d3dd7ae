"""Batches from a packed split that is held in the memory of the device: `data.storage=device`.

The plan's numbers of the samples are all that crosses to the device at a step; images and labels are gathered there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from signs_dist.data.batches import Batch
from signs_dist.data.packed import PackedSplit
from signs_dist.data.plan import BatchKey
from signs_dist.errors import UserError

USABLE_SHARE = 0.5
"""Share of the device's free memory that images may take. The rest is for weights, activations and libraries."""
_PIECE_BYTES = 2**24


class DeviceBatches(Dataset[Batch]):
    """Batches that are gathered on a device: the same bits, in the same memory order, as `PackedBatches` gives.

    Images and labels of a batch are on the device, the numbers of its samples on the host. A process has one; worker
    processes cannot share it.

    Args:
        split: the packed split. Its pixels are copied to the device here.
        device: a GPU, or the CPU: then the pixels are in the memory of this process.

    Raises:
        torch.OutOfMemoryError: see `require_room_on_device`, which tells it before.
    """

    def __init__(self, split: PackedSplit, device: torch.device) -> None:
        self.pixels = _copied(split, device)
        self.labels = torch.from_numpy(np.array(split.labels)).to(device)
        self.device = device

    def __getitem__(self, key: BatchKey) -> Batch:
        samples = torch.from_numpy(key.samples)
        index = samples
        if self.device.type == "cuda":
            # From page-locked memory, the copy is queued behind the steps before, and the host does not wait for them.
            index = samples.pin_memory().to(self.device, non_blocking=True)
        images = self.pixels.index_select(0, index).permute(0, 3, 1, 2)  # [B, 3, H, W], channels last
        return Batch(images, self.labels.index_select(0, index), samples, key.epoch, key.step)

    def __len__(self) -> int:
        return len(self.labels)


def _copied(split: PackedSplit, device: torch.device) -> Tensor:
    """The pixels on the device, uint8 [N, side, side, 3], copied in pieces: the host holds one at a time."""
    pixels = torch.empty(split.pixels.shape, dtype=torch.uint8, device=device)
    rows_per_piece = max(1, _PIECE_BYTES // max(1, split.pixels[:1].nbytes))
    for start in range(0, len(pixels), rows_per_piece):
        end = start + rows_per_piece
        pixels[start:end] = torch.from_numpy(np.array(split.pixels[start:end]))
    return pixels


def pixel_bytes(num_images: int, image_size: int) -> int:
    """Bytes of so many decoded images."""
    return num_images * 3 * image_size**2


def usable_bytes(free_bytes: int) -> int:
    """How much of a device's free memory images may take."""
    return int(USABLE_SHARE * free_bytes)


def find_free_bytes(device: torch.device) -> int | None:
    """Free memory of a GPU, or of this machine for the CPU; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return _read_available(Path("/proc/meminfo"))


def _read_available(meminfo: Path) -> int | None:
    """MemAvailable of proc(5), in bytes; None where there is no such line."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def require_room_on_device(
    num_images: int, image_size: int, device: torch.device, free_bytes: int | None, *, num_sharing: int = 1
) -> None:
    """Refuse images that do not fit into the memory of a device.

    Args:
        num_images: of all splits of the run.
        image_size: side in pixels.
        device: where each process holds all of them.
        free_bytes: from `find_free_bytes`; None: it is not known, and nothing is refused.
        num_sharing: processes whose images are in the same memory.

    Raises:
        UserError: it says how much is needed and free, and what to type.
    """
    needed = pixel_bytes(num_images, image_size)
    if free_bytes is None or needed * num_sharing <= usable_bytes(free_bytes):
        return
    each = f"in each of {num_sharing} processes " if num_sharing > 1 else ""
    where = f"on {device}" if device.type == "cuda" else "in the memory of this machine"
    raise UserError(
        f"data.storage=device needs {describe_bytes(needed)} {each}for {num_images:,} images of {image_size} x "
        f"{image_size}. {describe_bytes(free_bytes)} are free {where}, of which images may take "
        f"{describe_bytes(usable_bytes(free_bytes))}: the rest is kept for weights and activations. "
        f"Type data.storage=packed, or a smaller data.image_size."
    )


def bytes_that_fit(num_images: int, image_size: int, device: torch.device) -> int | None:
    """Bytes of so many images, if `device` is a GPU that has room for them; else None."""
    needed = pixel_bytes(num_images, image_size)
    if device.type != "cuda":
        return None
    return needed if needed <= usable_bytes(find_free_bytes(device) or 0) else None


def describe_bytes(num_bytes: int) -> str:
    """Such as `13 MB` or `3.2 GB`."""
    if num_bytes < 999.5e6:
        return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 9.95e6 else f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:,.0f} GB" if num_bytes >= 99.5e9 else f"{num_bytes / 1e9:.1f} GB"
