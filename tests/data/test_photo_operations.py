from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from signs_dist.data.photo_operations import OPERATIONS
from signs_dist.data.policies import NUM_MAGNITUDES

POLICIES: dict[str, Callable[..., Any]] = {
    "randaugment": v2.RandAugment,
    "trivialaugment": v2.TrivialAugmentWide,
}
SHOWN = (0, 3, 9, 15, 30)
"""Of the strengths from 0 to 30."""


def photos(count: int, height: int = 40, width: int = 56) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name: str, policy: str) -> None:
    theirs = POLICIES[policy](interpolation=v2.InterpolationMode.BILINEAR)
    table, is_signed = theirs._AUGMENTATION_SPACE[name]
    strengths = table(NUM_MAGNITUDES, 40, 56)
    values = [0.0] if strengths is None else [float(strengths[number]) for number in SHOWN]
    values += [-value for value in values if is_signed]
    images = photos(len(values))
    expected = [
        theirs._apply_image_or_video_transform(image, name, value, theirs.interpolation, theirs._fill)
        for image, value in zip(images, values, strict=True)
    ]
    result = OPERATIONS[name](images, np.array(values))
    torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=2e-5)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_image_has_the_same_bits_in_any_batch(name: str, channels_last: bool) -> None:
    images = photos(5, 96, 96)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    magnitudes = np.array([4.0, 6.0, 5.0, 7.0, 3.0]) if name == "Posterize" else np.array([0.3, -0.2, 0.9, 0.0, -0.7])
    untouched = images.clone()
    whole = OPERATIONS[name](images, magnitudes)
    for rows in ([0], [4], [3, 1], [2, 2, 2]):
        assert torch.equal(OPERATIONS[name](images[rows], magnitudes[rows]), whole[rows])
    assert torch.equal(images, untouched)


def test_an_image_of_two_pixels_has_no_inside_to_sharpen() -> None:
    images = photos(1, 2, 9)
    assert torch.equal(OPERATIONS["Sharpness"](images, np.array([0.9])), images)
