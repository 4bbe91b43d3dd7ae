"""The lines of Python of a model card that open a photo as training opens it."""

from __future__ import annotations

OPEN_PHOTO = (
    "import numpy, PIL.Image, PIL.ImageOps",
    'photo = PIL.ImageOps.exif_transpose(PIL.Image.open("photo.jpg")).convert("RGBA")',
    'photo = PIL.Image.alpha_composite(PIL.Image.new("RGBA", photo.size, "white"), photo).convert("RGB")',
)
"""From photo.jpg to `photo`, Pillow's image of 8-bit RGB: upright by EXIF, transparent pixels white."""
