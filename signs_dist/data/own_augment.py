"""Augmentation of the user's own, which `augment.backend` names as `package.module:make`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.generators import seed_device
from signs_dist.data.order import Indices
from signs_dist.data.randomness import Stream, stream_keys
from signs_dist.errors import UserError
from signs_dist.own_code import call_own, failures_told, find_own


class OwnAugmenter:
    """`make(**augment.args)` gives a callable (images, keys) → images, which is called as `BatchAugmenter` is.

    The callable gets images float32 [B, 3, H, W] in 0..1 on the device of the model, and keys int64 [B] on the same
    device: one random number an image, a function of (seed, epoch, image). It returns images of the same shape. What it
    does may depend on images and keys alone: then an image is changed in the same way on any number of processes and
    after a resume. Torch's generator is seeded with the first key before each call, so that torch.rand may be used.

    Raises:
        UserError: it cannot be found or made, fails, or returns something else.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self.seed = seed
        self._what = f"augment.backend={config.backend}"
        self._function: Any = call_own(
            "augment.backend",
            config.backend,
            find_own("augment.backend", config.backend),
            given={},
            args=config.args,
            args_setting="augment.args",
        )
        if not callable(self._function):
            raise UserError(
                f"{self._what} returns a {type(self._function).__name__}. It must return a function "
                f"(images, keys) → images."
            )

    @torch.no_grad()
    def __call__(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Change a batch: images float32 [B, 3, H, W], sample numbers int64 [B] on the host, and the epoch."""
        keys = stream_keys(self.seed, Stream.AUGMENT, epoch, samples).astype(np.int64)
        seed_device(images.device, int(keys[0]))
        on_device = torch.from_numpy(keys).to(images.device, non_blocking=True)
        with failures_told(self._what, f"is called with images {list(images.shape)}"):
            result = self._function(images, on_device)
        if problem := _problem_of(result, images):
            raise UserError(f"{self._what} {problem}")
        # A copy: the caller changes it in place, and the function may keep its tensors.
        return torch.clone(result).to(torch.float32)


def _problem_of(result: Any, images: Tensor) -> str:
    wanted = f"It must return float images {list(images.shape)}, as it was given."
    if not isinstance(result, Tensor):
        return f"returns {'nothing (None)' if result is None else f'a {type(result).__name__}'}. {wanted}"
    if result.shape != images.shape:
        return f"returns a tensor {list(result.shape)}. {wanted}"
    if not result.is_floating_point():
        return f"returns {str(result.dtype).removeprefix('torch.')}. {wanted}"
    return "" if result.device == images.device else f"returns a tensor on {result.device}, not on {images.device}."
