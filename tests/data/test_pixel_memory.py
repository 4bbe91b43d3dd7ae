from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from signs_dist.data.pixel_memory import pixel_memory
from tests.data.photo_files import photo

BOX = (3, 5, 21, 30)


def test_a_box_is_read_where_it_lies() -> None:
    image = photo(1)
    with pixel_memory(image, BOX) as pixels:
        assert np.array_equal(pixels[..., :3], np.asarray(image)[5:30, 3:21])
        image.putpixel((3, 5), (1, 2, 3))
        assert pixels[0, 0, :3].tolist() == [1, 2, 3]


@pytest.mark.parametrize("error", [AttributeError, ValueError])
def test_where_pillow_gives_no_address_the_box_is_copied(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Image.Image) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "__arrow_c_array__", refuse)
    image = photo(1)
    with pixel_memory(image, BOX) as pixels:
        assert np.array_equal(pixels[..., :3], np.asarray(image)[5:30, 3:21])


def test_an_image_of_several_blocks_is_copied() -> None:
    image = Image.new("RGB", (2100, 2100), (7, 8, 9))  # 17.6 MB
    with pixel_memory(image, (0, 2000, 10, 2100)) as pixels:
        assert pixels[..., :3].reshape(-1, 3).tolist() == [[7, 8, 9]] * 1000
