from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional

from signs_dist.data.views import views_of


def test_one_view_is_the_images_and_two_are_they_and_their_mirrors() -> None:
    images = torch.rand(2, 3, 8, 12)
    assert [view is images for view in views_of(images, flip=False, ten_crop=None)] == [True]
    first, second = views_of(images, flip=True, ten_crop=None)
    assert first is images
    assert torch.equal(second, images.flip(3))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("fraction", "side"), [(0.875, 28), (0.5, 16), (0.9, 29), (1.0, 32)])
def test_ten_crops_are_torchvisions_enlarged(fraction: float, side: int, flip: bool) -> None:
    images = torch.rand(2, 3, 32, 32)
    views = list(views_of(images, flip=flip, ten_crop=fraction))
    assert len(views) == 10
    for ours, mirrored, theirs in zip(views[::2], views[1::2], functional.five_crop(images, [side, side]), strict=True):
        enlarged = functional.resize(theirs, [32, 32], antialias=False)
        torch.testing.assert_close(ours, enlarged, rtol=0, atol=1e-6)
        assert torch.equal(mirrored, ours.flip(3))


def test_a_crop_has_a_pixel_at_least() -> None:
    images = torch.rand(1, 3, 8, 8)
    assert all(view.shape == images.shape for view in views_of(images, flip=False, ten_crop=0.01))
