"""From the pixels of photos to probabilities in one module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from signs_dist.data.views import views_of
from signs_dist.inference.whole_network import WholeNetwork

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class Seen(nn.Module):
    """Keeps its input."""

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.mean(dim=(2, 3))


def make(*, flip_average: bool = False) -> WholeNetwork:
    return WholeNetwork(Seen(), image_size=16, mean=MEAN, std=STD, flip_average=flip_average)


def pixels(height: int, width: int, num_images: int = 2) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (num_images, height, width, 3), dtype=np.uint8)


def values_of(whole: WholeNetwork) -> np.ndarray:
    """What the network saw, as values of 0 to 255 in [N, H, W, 3]."""
    seen = whole.network.images.permute(0, 2, 3, 1)
    return ((seen * torch.tensor(STD) + torch.tensor(MEAN)) * 255).numpy()


def test_photos_of_its_own_size_pass_unchanged() -> None:
    whole, images = make(), pixels(16, 16)
    logits, probabilities = whole(torch.from_numpy(images))
    np.testing.assert_allclose(values_of(whole), images, atol=1e-3)
    assert torch.equal(probabilities, logits.softmax(dim=1))


@pytest.mark.parametrize(("height", "width"), [(50, 33), (16, 90), (7, 5), (200, 16)])
def test_resizing_is_that_of_pillow(height: int, width: int) -> None:
    whole, images = make(), pixels(height, width)
    whole(torch.from_numpy(images))
    expected = [np.asarray(Image.fromarray(each).resize((16, 16), Image.Resampling.BICUBIC)) for each in images]
    assert np.abs(values_of(whole) - np.stack(expected)).max() < 1.01  # halves are rounded to another side


def test_the_average_over_a_photo_and_its_mirror() -> None:
    class Left(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, :, 0].mean(dim=2)

    images = torch.from_numpy(pixels(16, 16))
    both = WholeNetwork(Left(), image_size=16, mean=MEAN, std=STD, flip_average=True)
    one = WholeNetwork(Left(), image_size=16, mean=MEAN, std=STD, flip_average=False)
    expected = (one(images)[0] + one(images.flip(2))[0]) / 2
    torch.testing.assert_close(both(images)[0], expected)


def test_the_average_over_ten_crops() -> None:
    images = torch.from_numpy(pixels(16, 16))
    whole = WholeNetwork(Seen(), image_size=16, mean=MEAN, std=STD, flip_average=True, ten_crop=0.5)
    inputs = (images.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    views = list(views_of(inputs, flip=True, ten_crop=0.5))
    assert len(views) == 10
    torch.testing.assert_close(whole(images)[0], torch.stack([Seen()(view) for view in views]).mean(dim=0))
