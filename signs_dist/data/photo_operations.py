"""The operations of RandAugment and TrivialAugment on whole batches, each image with its own magnitude.

They compute what torchvision.transforms.v2.functional computes of floating-point images, with bilinear interpolation
and black outside an image. Images are float32 [B, 3, H, W] in 0..1, magnitudes float64 [B].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from signs_dist.data.batch_pixels import Numbers, channel_sums, on_device, resample

GREY = (0.2989, 0.587, 0.114)
"""The weights of red, green and blue in the grey of a pixel."""

Operation = Callable[[Tensor, Numbers], Tensor]


def _shear_x(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Each row moves right by -magnitude times its distance from the top edge."""
    tilt = magnitudes * (images.shape[2] / images.shape[3])
    return _affine(images, x=(1.0, tilt, tilt))


def _shear_y(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Each column moves down by -magnitude times its distance from the left edge."""
    tilt = magnitudes * (images.shape[3] / images.shape[2])
    return _affine(images, y=(tilt, 1.0, tilt))


def _translate_x(images: Tensor, magnitudes: Numbers) -> Tensor:
    """The image moves right by so many pixels; a part of a pixel is cut off."""
    return _affine(images, x=(1.0, 0.0, -2 * np.trunc(magnitudes) / images.shape[3]))


def _translate_y(images: Tensor, magnitudes: Numbers) -> Tensor:
    """The image moves down by so many pixels; a part of a pixel is cut off."""
    return _affine(images, y=(0.0, 1.0, -2 * np.trunc(magnitudes) / images.shape[2]))


def _rotate(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Counterclockwise around the centre, by degrees."""
    aspect = images.shape[2] / images.shape[3]
    # One number at a time: a vectorised cosine may round differently at another position in the batch.
    angles = np.radians(magnitudes).tolist()
    cosine, sine = (np.array([function(angle) for angle in angles]) for function in (math.cos, math.sin))
    return _affine(images, x=(cosine, -sine * aspect, 0.0), y=(sine / aspect, cosine, 0.0))


_Row = tuple[Numbers | float, Numbers | float, Numbers | float]


def _affine(images: Tensor, x: _Row = (1.0, 0.0, 0.0), y: _Row = (0.0, 1.0, 0.0)) -> Tensor:
    affine = np.empty((len(images), 2, 3))
    for row, values in enumerate((x, y)):
        for column, value in enumerate(values):
            affine[:, row, column] = value
    return resample(images, affine, padding="zeros").clamp_(0, 1)


def _brightness(images: Tensor, magnitudes: Numbers) -> Tensor:
    """All pixels times 1 + magnitude."""
    return (images * on_device(1 + magnitudes, images)).clamp_(0, 1)


def _colour(images: Tensor, magnitudes: Numbers) -> Tensor:
    """The distance of each pixel from its grey, times 1 + magnitude."""
    red, green, blue = (images[:, channel : channel + 1] * weight for channel, weight in enumerate(GREY))
    return _blend(images, red + green + blue, magnitudes)


def _contrast(images: Tensor, magnitudes: Numbers) -> Tensor:
    """The distance of each pixel from the mean grey of the image, times 1 + magnitude."""
    sums = channel_sums(images) / (images.shape[2] * images.shape[3])  # [B, 3]
    red, green, blue = (sums[:, channel] * weight for channel, weight in enumerate(GREY))
    return _blend(images, (red + green + blue)[:, None, None, None], magnitudes)


def _sharpness(images: Tensor, magnitudes: Numbers) -> Tensor:
    """The distance of each pixel from the mean of its 3 x 3 neighbours, itself five times, times 1 + magnitude.

    The pixels at the edges stay. The sum has one order: a convolution's may depend on the batch.
    """
    if min(images.shape[2:]) <= 2:
        return images
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    boxes = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    blurred = images.clone()
    blurred[:, :, 1:-1, 1:-1] = (boxes + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return _blend(images, blurred, magnitudes)


def _blend(images: Tensor, other: Tensor, magnitudes: Numbers) -> Tensor:
    return (images * on_device(1 + magnitudes, images) - other * on_device(magnitudes, images)).clamp_(0, 1)


def _posterize(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Only 2 to the power of the magnitude values of each channel are left."""
    levels = on_device(2.0 ** np.trunc(magnitudes), images)
    return torch.minimum((images * levels).floor_(), levels - 1) / levels


def _solarize(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Values of at least the magnitude are inverted."""
    return torch.where(images >= on_device(magnitudes, images), 1 - images, images)


def _autocontrast(images: Tensor, magnitudes: Numbers) -> Tensor:
    """Each channel is stretched to 0..1."""
    from torchvision.transforms.v2 import functional

    result: Tensor = functional.autocontrast(images)
    return result


def _equalize(images: Tensor, magnitudes: Numbers) -> Tensor:
    """In each channel all of 256 values become about equally frequent."""
    from torchvision.transforms.v2 import functional

    result: Tensor = functional.equalize(images)
    return result


def _identity(images: Tensor, magnitudes: Numbers) -> Tensor:
    return images


OPERATIONS: Mapping[str, Operation] = {
    "Identity": _identity,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _brightness,
    "Color": _colour,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}
"""By torchvision's names, in its order."""
