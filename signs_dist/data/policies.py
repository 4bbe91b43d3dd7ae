"""RandAugment and TrivialAugment: which operation is applied to which image, and how strongly.

Operations and magnitudes are those of torchvision.transforms.v2.RandAugment and TrivialAugmentWide.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.batch_pixels import Numbers
from signs_dist.data.order import Indices
from signs_dist.data.photo_operations import OPERATIONS
from signs_dist.data.randomness import Stream, stream_key, uniform

NUM_MAGNITUDES = 31
"""Strengths of an operation, from 0 to 30."""
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
"""Operations whose magnitude is negated for half of the images."""


def magnitudes_of(policy: str, height: int, width: int) -> Mapping[str, Numbers]:
    """The NUM_MAGNITUDES magnitudes of each operation, as `photo_operations` takes them.

    Args:
        policy: randaugment (Cubuk et al., "RandAugment", NeurIPS 2020) or trivialaugment (Müller and Hutter,
            "TrivialAugment", ICCV 2021, its wide space).
        height, width: of the images in pixels.
    """
    is_wide = policy == "trivialaugment"
    largest = {
        **dict.fromkeys(("ShearX", "ShearY"), 0.99 if is_wide else 0.3),
        "TranslateX": 32.0 if is_wide else 150 / 331 * width,
        "TranslateY": 32.0 if is_wide else 150 / 331 * height,
        "Rotate": 135.0 if is_wide else 30.0,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.99 if is_wide else 0.9),
    }
    strength = np.arange(NUM_MAGNITUDES) / (NUM_MAGNITUDES - 1)
    lost_bits = 6 if is_wide else 4
    return {
        **dict.fromkeys(OPERATIONS, np.zeros(NUM_MAGNITUDES)),
        **{name: value * strength for name, value in largest.items()},
        "Posterize": np.round(8 - lost_bits * strength),
        "Solarize": 1 - strength,
    }


class Policy:
    """Applies random operations to a batch: RandAugment or TrivialAugment, as `config.policy` says.

    Call it as a `BatchAugmenter`.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self._policy = config.policy
        self._num_ops = config.num_ops if config.policy == "randaugment" else 1
        self._strength = config.magnitude if config.policy == "randaugment" else None
        self._seed = seed

    def __call__(self, images: Tensor, samples: Indices, epoch: int) -> Tensor:
        """Change a batch. The given tensor is not modified."""
        images = images.clamp(0, 1)  # a copy
        tables = magnitudes_of(self._policy, *images.shape[2:])
        draws = uniform(stream_key(self._seed, Stream.POLICY, epoch), samples, 3 * self._num_ops).astype(np.float64)
        for first in range(0, 3 * self._num_ops, 3):
            chosen = (draws[:, first] * len(OPERATIONS)).astype(np.int64)
            drawn = (draws[:, first + 1] * NUM_MAGNITUDES).astype(np.int64)
            strengths = drawn if self._strength is None else np.full_like(drawn, self._strength)
            signs = np.where(draws[:, first + 2] < 0.5, -1.0, 1.0)
            for number, (name, operation) in enumerate(OPERATIONS.items()):
                rows = np.flatnonzero(chosen == number)
                if name == "Identity" or not rows.size:
                    continue
                magnitudes = tables[name][strengths[rows]] * (signs[rows] if name in SIGNED else 1.0)
                index = torch.from_numpy(rows).to(images.device, non_blocking=True)
                images.index_copy_(0, index, operation(images[index], magnitudes))
        return images
