from __future__ import annotations

import numpy as np
import pytest

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.augment import FLIP_DRAW
from signs_dist.data.file_crops import FileCrop
from signs_dist.data.randomness import Stream, stream_key, uniform
from tests.data.chi_square import chi_square, chi_square_limit

SAMPLES = np.arange(400)


def crop(**settings: object) -> FileCrop:
    found = FileCrop.of(AugmentConfig(crop_from="file", **{"crop_scale": (0.08, 1.0), **settings}))
    assert found is not None
    return found


def test_only_crops_of_files_are_drawn_here() -> None:
    assert FileCrop.of(AugmentConfig()) is None
    assert FileCrop.of(AugmentConfig(crop_scale=(0.5, 1.0))) is None


@pytest.mark.parametrize(("width", "height"), [(500, 375), (30, 4000), (1, 1), (3, 2)])
def test_a_part_lies_in_its_image_and_has_a_pixel(width: int, height: int) -> None:
    for part in crop().draw(0, 0, SAMPLES):
        left, top, right, bottom = part.draw(width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_area_and_ratio_are_those_of_the_settings_in_pixels_of_the_file() -> None:
    boxes = [part.draw(5000, 3000) for part in crop(crop_scale=(0.1, 0.3)).draw(0, 0, SAMPLES)]
    sizes = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    shares, ratios = sizes.prod(axis=1) / (5000 * 3000), sizes[:, 0] / sizes[:, 1]
    assert 0.099 < shares.min() < 0.12
    assert 0.28 < shares.max() < 0.301
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.34


def test_a_crop_depends_on_the_seed_the_epoch_and_the_sample_alone() -> None:
    def boxes(seed: int, epoch: int, samples: list[int]) -> list[object]:
        return [(part.draw(500, 375), part.mirrored) for part in crop().draw(seed, epoch, np.array(samples))]

    assert boxes(1, 2, [5, 6, 7])[1:] == boxes(1, 2, [6, 7])
    assert len({str(boxes(*key)) for key in ((1, 2, [5]), (0, 2, [5]), (1, 3, [5]), (1, 2, [6]))}) == 4


def test_where_no_size_fits_it_is_the_largest_in_the_middle() -> None:
    (part,) = crop(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)).draw(0, 0, np.array([3]))
    assert part.draw(500, 300) == (100, 0, 400, 300)


def test_mirrors_are_as_often_as_flip_says_and_those_of_whole_batches() -> None:
    mirrored = np.array([part.mirrored for part in crop(flip=0.3).draw(7, 1, np.arange(4000))])
    drawn = uniform(stream_key(7, Stream.AUGMENT, 1), np.arange(4000), 9)[:, FLIP_DRAW] < 0.3
    assert np.array_equal(mirrored, drawn)
    counts = np.array([mirrored.sum(), (~mirrored).sum()])
    assert chi_square(counts, np.array([1200.0, 2800.0])) < chi_square_limit(1)
    assert not any(part.mirrored for part in crop(flip=0.0).draw(0, 0, SAMPLES))
