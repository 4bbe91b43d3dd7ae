from __future__ import annotations

import pytest
import torch

from signs_dist.data.progressive import resized, side_of_epoch, sides_until

SIZES = ((0.5, 0.4), (0.75, 0.7))


@pytest.mark.parametrize(
    ("num_epochs", "sides"),
    [
        (1, [64]),
        (2, [32, 64]),
        (3, [32, 32, 64]),
        (4, [32, 32, 48, 64]),
        (10, [32] * 4 + [48] * 3 + [64] * 3),
        (16, [32] * 7 + [48] * 5 + [64] * 4),
    ],
)
def test_the_side_of_each_epoch(num_epochs: int, sides: list[int]) -> None:
    assert [side_of_epoch(SIZES, epoch, num_epochs=num_epochs, image_size=64) for epoch in range(num_epochs)] == sides


def test_a_share_that_ends_with_an_epoch_does_not_take_the_next() -> None:
    assert 0.07 * 100 > 7  # by rounding
    assert [side_of_epoch([(0.5, 0.07)], epoch, num_epochs=100, image_size=64) for epoch in (6, 7)] == [32, 64]


def test_the_epochs_until_which_a_side_is_used() -> None:
    assert sides_until(SIZES, num_epochs=10, image_size=64) == [(32, 4), (48, 7), (64, 10)]
    assert sides_until(SIZES, num_epochs=2, image_size=64) == [(32, 1), (64, 2)]
    assert sides_until((), num_epochs=3, image_size=64) == [(64, 3)]


def test_without_sizes_every_epoch_has_the_whole_images() -> None:
    assert side_of_epoch((), 0, num_epochs=1, image_size=64) == 64


def test_pixels_that_fall_together_are_averaged_and_one_colour_stays() -> None:
    assert torch.equal(resized(torch.full((1, 3, 64, 64), 0.25), 48), torch.full((1, 3, 48, 48), 0.25))
    stripes = (
        torch.tensor([0.0, 1.0]).repeat(32).expand(1, 3, 64, 64)
    )  # a reduction that leaves pixels out keeps 0 or 1
    assert resized(stripes, 16)[..., 2:-2].sub(0.5).abs().max() < 1e-6
    images = torch.rand(2, 3, 64, 64)
    assert resized(images, 64) is images


@pytest.mark.parametrize("side", [32, 48, 50])
def test_bytes_differ_from_floats_by_rounding(side: int) -> None:
    pixels = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = pixels.permute(0, 3, 1, 2)
    of_bytes, of_floats = resized(images, side), resized(images.float(), side)
    assert of_bytes.dtype == torch.uint8
    assert (of_bytes - of_floats).abs().max() <= 1.5
    assert (of_bytes - of_floats).mean().abs() < 0.25  # a half is rounded up, of rows and then of columns


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("side", [32, 48, 50])
def test_an_images_result_does_not_depend_on_its_batch_or_on_threads(
    side: int, channels_last: bool, dtype: torch.dtype
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout)
    images = (images * 255).to(dtype) if dtype == torch.uint8 else images
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = resized(images, side)
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            for rows in ([0, 1, 2, 3, 4, 5, 6], [0], [6], [3, 1], [2, 2, 2]):
                assert torch.equal(resized(images[rows], side), expected[rows]), (num_threads, rows)
    finally:
        torch.set_num_threads(before)
