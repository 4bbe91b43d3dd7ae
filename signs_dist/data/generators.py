"""Seeds the random generators of Python, NumPy and torch by a key from `randomness`, and restores their states."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_WORD = 2**32 - 1


def seed_device(device: torch.device, key: int) -> None:
    """Seed the generator of one device, from which dropout draws there.

    torch.manual_seed would seed the generators of all devices, which is slow.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)
    else:
        torch.default_generator.manual_seed(key)


def seed_all(key: int) -> None:
    """Seed `random`, `numpy.random` and torch's generator of the CPU."""
    random.seed(key)
    # Python and NumPy use the same algorithm: with the same words they would draw the same numbers.
    np.random.seed([key & _WORD, key >> 32, 1])
    torch.default_generator.manual_seed(key)


@contextlib.contextmanager
def device_generator_kept(device: torch.device) -> Iterator[None]:
    """After the block the generator of `device` has the state from before it."""
    before = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_rng_state(before, device)
        else:
            torch.set_rng_state(before)


@contextlib.contextmanager
def all_generators_kept() -> Iterator[None]:
    """After the block `random`, `numpy.random` and torch's generator of the CPU have the state from before it."""
    python, numpy = random.getstate(), np.random.get_state()
    with device_generator_kept(torch.device("cpu")):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
