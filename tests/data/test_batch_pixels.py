from __future__ import annotations

import numpy as np
import torch

from signs_dist.data.batch_pixels import inside_boxes, means, resample


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
