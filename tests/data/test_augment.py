from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig, DataConfig
from signs_dist.data import augment
from signs_dist.data.augment import BatchAugmenter, to_unit_floats
from signs_dist.data.batches import Batch
from signs_dist.training.image_preparer import ImagePreparer
from tests.data.chi_square import chi_square, chi_square_limit

NOTHING: dict[str, Any] = dict.fromkeys(("flip", "rotate_degrees", "shift", "scale", "brightness", "contrast"), 0.0)
DRAWS = ("flip", "angle", "shift_x", "shift_y", "scale", "brightness", "contrast", "cutout_x", "cutout_y")


def only(**settings: Any) -> BatchAugmenter:
    """An augmenter that does nothing but `settings`."""
    return BatchAugmenter(AugmentConfig(**{**NOTHING, **settings}), seed=0)


def photos(count: int, height: int = 20, width: int = 20) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def set_draws(monkeypatch: pytest.MonkeyPatch, **draws: float) -> None:
    """Let every sample draw these numbers of [0, 1), and 0.5 (the middle: no change) where nothing is said."""
    row = np.array([draws.get(name, 0.5) for name in DRAWS], np.float32)
    monkeypatch.setattr(augment, "uniform", lambda key, samples, num_draws: np.tile(row, (len(samples), 1)))


SETTINGS = {
    "moves and colours": AugmentConfig(),
    "everything": AugmentConfig(cutout=0.3, rotate_degrees=180),
    "flip and colours": AugmentConfig(rotate_degrees=0, shift=0, scale=0),
    "cutout": AugmentConfig(**{**NOTHING, "cutout": 0.4}),
    "crop": AugmentConfig(**{**NOTHING, "crop_scale": (0.08, 1.0)}),
    "randaugment": AugmentConfig(**{**NOTHING, "policy": "randaugment", "magnitude": 20}),
    "trivialaugment": AugmentConfig(policy="trivialaugment", crop_scale=(0.3, 1.0)),
    "erase": AugmentConfig(**{**NOTHING, "erase": 0.7}),
    "noise": AugmentConfig(**{**NOTHING, "erase": 1.0, "erase_fill": "noise"}),
}


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS)
# 160 x 160 is where torch splits the work of one image among threads
@pytest.mark.parametrize(("height", "width"), [(20, 20), (17, 31), (160, 160)])
def test_a_samples_result_does_not_depend_on_its_batch_or_on_threads(
    height: int, width: int, config: AugmentConfig, channels_last: bool
) -> None:
    augmenter, samples = BatchAugmenter(config, seed=3), np.array([4, 8, 15, 16, 23, 42, 99])
    images = photos(7, height, width)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    untouched = images.clone()
    torch.set_num_threads(1)
    expected = augmenter(images, samples, 5)
    assert not torch.equal(expected, images)
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        for rows in ([0, 1, 2, 3, 4, 5, 6], [0], [6], [3, 1], [5, 4, 3, 2, 1, 0], [2, 2, 2]):
            result = augmenter(images[rows], samples[rows], 5)
            assert torch.equal(result, expected[rows]), (num_threads, rows)
    assert torch.equal(images, untouched)


def test_epoch_seed_and_sample_each_change_the_result() -> None:
    images, samples = photos(1).expand(4, 3, 20, 20).contiguous(), np.arange(4)
    result = BatchAugmenter(AugmentConfig(), seed=0)(images, samples, 0)
    assert len({tuple(image.flatten().tolist()) for image in result}) == 4
    for other in (
        BatchAugmenter(AugmentConfig(), seed=0)(images, samples, 1),
        BatchAugmenter(AugmentConfig(), seed=1)(images, samples, 0),
        BatchAugmenter(AugmentConfig(), seed=0)(images, samples + 4, 0),
    ):
        assert all(not torch.equal(one, another) for one, another in zip(result, other, strict=True))
    assert torch.equal(BatchAugmenter(AugmentConfig(), seed=0)(images, samples, 0), result)


def test_settings_of_zero_return_the_images_themselves() -> None:
    images = photos(3)
    assert only()(images, np.arange(3), 0) is images


@pytest.mark.parametrize(("height", "width"), [(20, 20), (12, 30)])
def test_flip_is_a_mirror_from_left_to_right(height: int, width: int) -> None:
    images = photos(5, height, width)
    assert torch.equal(only(flip=1.0)(images, np.arange(5), 0), images.flip(3))


def test_flip_together_with_a_move_of_nothing_is_the_same_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, flip=0.0)
    images = photos(2, 12, 30)
    result = only(flip=0.5, rotate_degrees=10, shift=0.5, scale=0.5)(images, np.arange(2), 0)
    torch.testing.assert_close(result, images.flip(3), rtol=0, atol=1e-5)


def test_flip_happens_as_often_as_it_should_and_to_one_sample_in_some_epochs_only() -> None:
    images = torch.zeros(1000, 1, 1, 2)
    images[..., 0] = 1
    flips = torch.stack([only(flip=0.3)(images, np.arange(1000), epoch)[:, 0, 0, 1] for epoch in range(20)])
    num_flips = int(flips.sum())
    assert chi_square(np.array([num_flips, 20_000 - num_flips]), np.array([6_000.0, 14_000.0])) < chi_square_limit(1)
    assert 0 < flips[:, 7].sum() < 20


@pytest.mark.parametrize(("angle", "turns"), [(0.75, 1), (0.25, 3)])  # of ±180°: +90° and -90°
def test_rotation_by_a_quarter_is_torchs_own_counterclockwise(
    monkeypatch: pytest.MonkeyPatch, angle: float, turns: int
) -> None:
    set_draws(monkeypatch, angle=angle)
    images = torch.zeros(1, 3, 21, 21)
    images[:, :, 3, 10] = 1.0  # a mark at the top
    result = only(rotate_degrees=180)(images, np.arange(1), 0)
    assert result[0, 0].argmax().item() == (10 * 21 + 3 if turns == 1 else 10 * 21 + 17)  # left, or right
    many = photos(1, 21, 21)
    moved = only(rotate_degrees=180)(many, np.arange(1), 0)
    torch.testing.assert_close(moved, torch.rot90(many, turns, (2, 3)), rtol=0, atol=1e-4)


def test_rotation_keeps_distances_where_images_are_not_square(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, angle=0.75)  # +90°
    images = torch.zeros(1, 1, 21, 41)
    images[0, 0, 10, 26] = 1.0  # 6 pixels right of the middle
    result = only(rotate_degrees=180)(images, np.arange(1), 0)[0, 0]
    assert divmod(int(result.argmax()), 41) == (4, 20)  # 6 pixels above it
    assert result.max() > 0.99


@pytest.mark.parametrize(
    ("draw", "moved_to"),
    [("shift_x", (10, 15)), ("shift_y", (15, 10))],
)
def test_shift_moves_by_a_share_of_the_side(
    monkeypatch: pytest.MonkeyPatch, draw: str, moved_to: tuple[int, int]
) -> None:
    images = torch.zeros(1, 1, 20, 20)
    images[0, 0, 10, 10] = 1.0
    set_draws(monkeypatch, **{draw: 0.0})  # the end of the range: 25 % of 20 pixels
    result = only(shift=0.25)(images, np.arange(1), 0)[0, 0]
    assert divmod(int(result.argmax()), 20) == moved_to
    set_draws(monkeypatch, **{draw: 1.0})
    result = only(shift=0.25)(images, np.arange(1), 0)[0, 0]
    assert divmod(int(result.argmax()), 20) == (20 - moved_to[0], 20 - moved_to[1])


def test_scale_enlarges_by_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(1, 1, 40, 40)
    images[0, 0, 15:25, 15:25] = 1.0  # 100 pixels
    set_draws(monkeypatch, scale=1.0)
    assert only(scale=0.5)(images, np.arange(1), 0).sum().item() == pytest.approx(100 * 1.5**2, rel=0.03)
    set_draws(monkeypatch, scale=0.0)
    smaller = only(scale=0.5)(images, np.arange(1), 0)[0, 0, 11:29, 11:29]  # around it are its mirror images
    assert smaller.sum().item() == pytest.approx(100 * 0.5**2, rel=0.03)


def test_what_comes_in_from_outside_is_the_image_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, shift_x=0.0)
    images = torch.arange(8.0).reshape(1, 1, 1, 8).expand(1, 1, 8, 8) / 8
    result = only(shift=0.25)(images, np.arange(1), 0)[0, 0, 0]
    torch.testing.assert_close(result, torch.tensor([1.0, 0, 0, 1, 2, 3, 4, 5]) / 8, rtol=0, atol=1e-5)


def spread_of(augmenter: BatchAugmenter, images: Tensor, measure: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One number for each of many samples: the image's mean, or the column of its centre of mass."""
    batch = images.expand(8000, *images.shape[1:])
    result = augmenter(batch, np.arange(8000), 0).double()
    if measure == "mean":
        return result.mean(dim=(1, 2, 3)).numpy()
    weights = result.sum(dim=(1, 2))
    return ((weights * torch.arange(images.shape[3])).sum(1) / weights.sum(1)).numpy()


def test_each_draw_is_uniform_over_its_whole_range() -> None:
    grey = torch.full((1, 1, 4, 4), 0.5)
    half = torch.full((1, 1, 2, 2), 0.3)
    half[..., 0] = 0.7
    dot = torch.zeros(1, 1, 3, 33)
    dot[..., 16] = 1.0
    contrast = only(contrast=0.4)(half.expand(8000, 1, 2, 2), np.arange(8000), 0)[:, 0, 0, 0].double().numpy()
    spreads = {
        "brightness": (spread_of(only(brightness=0.4), grey, "mean"), 0.3, 0.7),
        "contrast": (contrast, 0.5 + 0.2 * 0.6, 0.5 + 0.2 * 1.4),
        "shift": (spread_of(only(shift=0.25), dot, "column"), 16 - 33 / 4, 16 + 33 / 4),
    }
    for name, (values, low, high) in spreads.items():
        places = (values - low) / (high - low)
        assert places.min() >= -1e-4, name
        assert places.max() <= 1 + 1e-4, name
        counts = np.bincount((places * 40).clip(0, 39).astype(np.int64), minlength=40)
        assert chi_square(counts, 8000 / 40) < chi_square_limit(39), name
        squeezed = np.bincount((places**1.2 * 40).clip(0, 39).astype(np.int64), minlength=40)
        assert chi_square(squeezed, 8000 / 40) > chi_square_limit(39), name


def test_brightness_and_contrast_compute_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(2) * 0.4 + 0.3
    set_draws(monkeypatch, brightness=0.75, contrast=0.0)  # times 1.1, contrast times 0.8
    result = only(brightness=0.2, contrast=0.2)(images, np.arange(2), 0)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(result, ((images - mean) * 0.8 + mean) * 1.1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.999])
@pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS)
def test_values_stay_between_0_and_1(config: AugmentConfig, value: float) -> None:
    for images in (torch.full((64, 3, 25, 35), value), photos(64).round()):
        result = BatchAugmenter(config, 0)(images, np.arange(64), 0)
        assert result.dtype == torch.float32
        assert result.shape == images.shape
        assert result.min() >= 0
        assert result.max() <= 1


def test_a_move_alone_does_not_exceed_1_by_rounding() -> None:
    assert only(rotate_degrees=25, shift=0.1)(torch.ones(64, 3, 50, 70), np.arange(64), 0).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(20, 20), (20, 40)])
def test_cutout_blanks_its_share_of_the_sides_with_the_mean(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    images = photos(1, height, width)
    set_draws(monkeypatch)  # in the middle
    changed = (only(cutout=0.5)(images, np.arange(1), 0) != images)[0]
    assert [int(channel.sum()) for channel in changed] == [height // 2 * width // 2] * 3
    blanked = only(cutout=0.5)(images, np.arange(1), 0)[0][changed]
    torch.testing.assert_close(blanked, images.mean().expand_as(blanked))
    set_draws(monkeypatch, cutout_x=0.0, cutout_y=0.0)  # a corner: a quarter of it lies inside
    changed = (only(cutout=0.5)(images, np.arange(1), 0) != images)[0, 0]
    assert int(changed.sum()) == height // 4 * width // 4
    assert changed[: height // 4, : width // 4].all()


def test_cutout_comes_everywhere_equally_often_but_at_the_borders() -> None:
    images = photos(1).expand(4000, 3, 20, 20)
    counts = (only(cutout=0.2)(images, np.arange(4000), 0) != images)[:, 0].sum(0)[2:-2, 2:-2].flatten().numpy()
    assert np.abs(counts / 4000 - 0.04).max() < 6 * (0.04 * 0.96 / 4000) ** 0.5


def test_an_empty_batch_stays_empty() -> None:
    for config in SETTINGS.values():
        assert BatchAugmenter(config, 0)(torch.zeros(0, 3, 8, 8), np.array([], np.int64), 0).shape == (0, 3, 8, 8)


def test_bytes_become_unit_floats_and_floats_stay() -> None:
    assert to_unit_floats(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.rand(3)
    assert torch.equal(to_unit_floats(floats), floats)


def positions(count: int, height: int, width: int) -> Tensor:
    """Images whose first channel is a pixel's x and whose second is its y, from 0 to 1 between the outer edges."""
    x = ((torch.arange(width) + 0.5) / width)[None, :].expand(height, width)
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    return torch.stack([x, y, torch.zeros_like(x)]).expand(count, 3, height, width).contiguous()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96)])
def test_a_crop_is_a_part_of_the_image_with_a_legal_area_and_ratio(height: int, width: int) -> None:
    result = only(crop_scale=(0.25, 0.6))(positions(500, height, width), np.arange(500), 0)
    inner = result[:, :, 8:-8, 8:-8]  # away from what is mirrored at an edge of the image
    assert torch.equal(inner[:, 2], torch.zeros_like(inner[:, 2]))
    wide = (inner[:, 0, 0, -1] - inner[:, 0, 0, 0]) * (width - 1) / (width - 17) * width / (width - 1)
    high = (inner[:, 1, -1, 0] - inner[:, 1, 0, 0]) * (height - 1) / (height - 17) * height / (height - 1)
    areas, ratios = (wide * high).numpy(), (wide * width / (high * height)).numpy()
    assert areas.min() == pytest.approx(0.25, abs=0.01)
    assert areas.max() == pytest.approx(0.6, abs=0.01)
    assert ratios.min() == pytest.approx(3 / 4, abs=0.02)
    assert ratios.max() == pytest.approx(4 / 3, abs=0.02)
    if height == width:  # else wide crops do not fit, and are drawn again
        assert areas.mean() == pytest.approx(0.425, abs=0.02)
        assert np.median(ratios) == pytest.approx(1, abs=0.04)


def test_a_crop_of_everything_changes_nothing() -> None:
    images = photos(3, 12, 20)
    torch.testing.assert_close(
        only(crop_scale=(1.0, 1.0), crop_ratio=(20 / 12, 20 / 12))(images, np.arange(3), 0), images, rtol=0, atol=1e-5
    )


def test_a_crop_that_never_fits_is_the_largest_in_the_middle() -> None:
    result = only(crop_scale=(1.0, 1.0), crop_ratio=(2.0, 2.0))(positions(2, 32, 32), np.arange(2), 0)
    columns, rows = result[0, 0, 16], result[0, 1, :, 16]
    assert columns[[0, -1]].tolist() == pytest.approx([1 / 64, 63 / 64], abs=1e-4)  # all of the width
    assert rows[[0, -1]].tolist() == pytest.approx([0.25 + 1 / 128, 0.75 - 1 / 128], abs=1e-4)  # half of the height


def test_a_rotated_crop_shows_what_lies_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, angle=0.75)  # +90°
    monkeypatch.setattr(augment, "draw_crops", lambda *_: (np.array([[0.5, -0.5]]), np.array([[0.25, 0.25]])))
    images = photos(1, 32, 32)
    result = only(rotate_degrees=180, crop_scale=(0.1, 1.0))(images, np.arange(1), 0)
    part = images[:, :, 20:28, 4:12]  # centre (y 24, x 8), 8 pixels wide and high
    enlarged = torch.nn.functional.interpolate(part, size=(32, 32), mode="bilinear")
    torch.testing.assert_close(result[:, :, 2:-2, 2:-2], enlarged.rot90(1, (2, 3))[:, :, 2:-2, 2:-2], rtol=0, atol=1e-4)


def test_crops_move_no_other_draw() -> None:
    images = photos(4, 32, 32)
    plain = only(brightness=0.5)(images, np.arange(4), 3)
    cropped = only(brightness=0.5, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))(images, np.arange(4), 3)
    torch.testing.assert_close(cropped, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_erasing_blanks_a_share_of_the_area_of_some_images(fill: str) -> None:
    images = photos(2000, 32, 32)
    result = only(erase=0.3, erase_area=(0.1, 0.3), erase_fill=fill)(images, np.arange(2000), 0)
    changed = (result != images).all(dim=1)  # [B, H, W]
    is_changed = changed.flatten(1).any(dim=1)
    assert int(is_changed.sum()) == pytest.approx(600, abs=75)
    areas = changed[is_changed].float().mean(dim=(1, 2)).numpy()
    assert areas.min() == pytest.approx(0.1, abs=0.03)
    assert areas.max() == pytest.approx(0.3, abs=0.03)
    for mask, image, before in zip(changed[:40], result, images, strict=False):
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])  # a rectangle
        if fill == "mean" and mask.any():
            torch.testing.assert_close(image[:, mask], before.mean().expand_as(image[:, mask]))
    if fill == "noise":
        noise = result[changed[:, None].expand_as(result)].double().numpy()
        counts = np.bincount((noise * 20).astype(np.int64), minlength=20)
        assert chi_square(counts, noise.size / 20) < chi_square_limit(19)


def test_noise_differs_between_images_epochs_and_channels() -> None:
    augmenter = only(erase=1.0, erase_area=(0.2, 0.3), erase_fill="noise")
    results = [augmenter(torch.zeros(2, 3, 32, 32), np.arange(2), epoch) for epoch in (0, 1)]
    kinds = {tuple(channel.flatten().tolist()) for result in results for image in result for channel in image}
    assert len(kinds) == 2 * 2 * 3


def test_a_crop_of_the_file_and_its_mirror_are_left_to_the_reader() -> None:
    images = photos(3, 12, 20)
    assert only(flip=1.0, crop_scale=(0.1, 0.5), crop_from="file")(images, np.arange(3), 0) is images


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_bytes_become_normalised_floats_with_the_bits_of_a_plain_division(layout: torch.memory_format) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(2, 3, 16, 8).contiguous(memory_format=layout)
    config = DataConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    prepare = ImagePreparer.create(config, torch.device("cpu"), channels_last=True)
    labels = torch.zeros(2, dtype=torch.int64)
    normalised, _ = prepare(Batch(images, labels, labels, 0, 0))
    assert torch.equal(normalised, (images / 255).mul(prepare.factor).add(prepare.offset))
