"""Two sums over the bits of tensors, computed on their device: equal for equal bits, whatever the order of the sums.

The bits are read as whole numbers b[i] of at most 32 bits, and added in 64 bits, where a sum that is too large wraps
around. Whole numbers add up to the same in any order, so a GPU, a CPU and any number of threads agree.

    plain      b[0] + b[1] + …            a single flipped bit changes it, always: by a power of two below 2**32
    weighted   1·b[0] + 2·b[1] + …        two flips that cancel in the plain sum, as of one bit up and of another
                                          down, change it: by their distance times a power of two

An exclusive or would miss two flips of the same bit at two places, and a plain sum alone misses numbers that have
changed places. A pair of sums may still be equal by chance for many changed numbers, about once in 2**64.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

NUM_SUMS = 2
BLOCK = 2**20
"""Numbers that are added at a time: their bits take 8 bytes each."""
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int32, 16: torch.int32}
"""Bytes of an element → the whole numbers that it is read as. In 64 bits, a weighted sum could lose the highest."""


class BitSums:
    """Adds up the bits of tensors on one device. Nothing here waits for the device.

    Args:
        device: of the sums.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = torch.zeros(NUM_SUMS, dtype=torch.int64, device=device)
        self._weights: Tensor | None = None

    @property
    def sums(self) -> Tensor:
        """(plain, weighted), int64 [2], of all that was added so far."""
        return self._sums

    @torch.no_grad()
    def add(self, tensor: Tensor, first: int = 0) -> None:
        """Add the bits of a tensor, whose element number 0 counts as number `first`."""
        bits = bits_of(tensor)
        for start in range(0, bits.numel(), BLOCK):
            block = bits[start : start + BLOCK].to(device=self._device, dtype=torch.int64)
            plain = block.sum()
            weighted = (block * self._factors(block.numel())).sum() + plain * (first + start)
            self._sums += torch.stack([plain, weighted])

    def add_all(self, tensors: Iterable[Tensor]) -> None:
        """Add the bits of several tensors, one after the other. Small ones are put together first."""
        waiting: dict[torch.dtype, list[Tensor]] = {}
        sizes: dict[torch.dtype, int] = {}
        first = 0
        for tensor in tensors:
            bits = bits_of(tensor).to(self._device, non_blocking=True)
            if not bits.numel():
                continue
            kind = bits.dtype
            waiting.setdefault(kind, []).append(bits)
            sizes[kind] = sizes.get(kind, 0) + bits.numel()
            if sizes[kind] >= BLOCK:
                first += self._add_joined(waiting.pop(kind), first)
                sizes[kind] = 0
        for each in waiting.values():
            first += self._add_joined(each, first)

    def _add_joined(self, parts: list[Tensor], first: int) -> int:
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        self.add(joined, first)
        return joined.numel()

    def _factors(self, size: int) -> Tensor:
        """1, 2, …, size."""
        if self._weights is None or self._weights.numel() < size:
            self._weights = torch.arange(1, size + 1, dtype=torch.int64, device=self._device)
        return self._weights[:size]


def bits_of(tensor: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers, int8, int16 or int32 [N], in the order of its elements."""
    flat = tensor.detach()
    if flat.is_complex():
        flat = torch.view_as_real(flat)
    flat = flat.reshape(-1).contiguous()
    return flat.view(_BITS[flat.element_size()])
