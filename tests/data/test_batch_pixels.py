from __future__ import annotations

import numpy as np
import torch

from signs_dist.data.batch_pixels import inside_boxes, means, noise, resample
from signs_dist.data.randomness import Stream, stream_keys
from tests.data.chi_square import chi_square, chi_square_limit


def test_means_are_those_of_each_image() -> None:
    images = torch.rand(3, 3, 7, 5)
    torch.testing.assert_close(means(images), images.mean(dim=(1, 2, 3), keepdim=True))


def test_boxes_hold_the_pixels_whose_centres_they_hold() -> None:
    centres, half_sides = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.5, 0.25], [0.5, 0.5]])
    boxes = inside_boxes(torch.zeros(2, 3, 4, 8), centres, half_sides)
    assert boxes.shape == (2, 1, 4, 8)
    assert boxes[0, 0].nonzero().tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]
    assert boxes[1, 0].nonzero().tolist() == [[3, 6], [3, 7]]


def test_each_image_has_a_map_of_its_own_and_what_lies_outside_is_black_or_mirrored() -> None:
    images = torch.arange(1.0, 5.0).reshape(1, 1, 1, 4).expand(2, 1, 2, 4)
    affine = np.array([[[1.0, 0, 0], [0, 1, 0]], [[1.0, 0, -1.0], [0, 1, 0]]])  # the second moves right by half a side
    for padding, row in (("zeros", [0.0, 0, 1, 2]), ("reflection", [2.0, 1, 1, 2])):
        result = resample(images, affine, padding)  # type: ignore[arg-type]
        torch.testing.assert_close(result[0], images[0])
        torch.testing.assert_close(result[1, 0], torch.tensor([row, row]))


def test_noise_is_uniform_and_tells_neither_its_place_nor_its_key() -> None:
    keys = stream_keys(0, Stream.ERASE, 3, np.arange(40))
    values = noise(keys, torch.zeros(1, 3, 24, 24))
    assert values.shape == (40, 3, 24, 24)
    assert torch.equal(noise(keys[7:9], torch.zeros(5, 3, 24, 24)), values[7:9])
    cells = (values.double().numpy() * 16).astype(np.int64)
    neighbours = {
        "alone": cells[..., None],
        "along a row": np.stack([cells[..., :-1:2], cells[..., 1::2]], axis=-1),
        "along a column": np.stack([cells[:, :, :-1:2], cells[:, :, 1::2]], axis=-1),
        "of channels": np.stack([cells[:, 0], cells[:, 1]], axis=-1),
        "of images": np.stack([cells[:-1:2], cells[1::2]], axis=-1),
    }
    for name, pairs in neighbours.items():
        codes = pairs @ (16 ** np.arange(pairs.shape[-1]))
        num_cells = 16 ** pairs.shape[-1]
        counts = np.bincount(codes.ravel(), minlength=num_cells)
        assert chi_square(counts, codes.size / num_cells) < chi_square_limit(num_cells - 1), name
