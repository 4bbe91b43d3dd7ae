"""A reader of images: here they are drawn; yours may read a database, a bucket or an HDF5 file."""

import zlib

import numpy as np

SIDE = 32
SHAPES = ("circle", "cross", "ring", "square")


class Shapes:
    """Shapes of random colour, place and size. `make` of data.reader is this class: `Shapes(**data.reader_args)`."""

    def __init__(self, train: int = 40, val: int = 10) -> None:
        self.counts = {"train": train, "val": val}

    def images(self):
        """(name, class name, split) of each image. A name is all that `read` gets."""
        for split, count in self.counts.items():
            for shape in SHAPES:
                for number in range(count):
                    yield f"{split}/{shape}/{number:04d}", shape, split

    def read(self, name):
        """The image: uint8 [H, W, 3]. Bytes of a file, a Path or a PIL image will do as well."""
        shape = name.split("/")[1]
        generator = np.random.default_rng(zlib.crc32(name.encode()))  # the same image for the same name, always
        x, y = generator.uniform(12, 20, 2)
        size = generator.uniform(6, 11)
        columns, rows = np.meshgrid(np.arange(SIDE) - x, np.arange(SIDE) - y)
        distance = np.hypot(columns, rows)
        largest = np.maximum(abs(columns), abs(rows))
        inside = {
            "circle": distance < size,
            "ring": (distance < size) & (distance > 0.6 * size),
            "square": largest < 0.85 * size,
            "cross": (np.minimum(abs(columns), abs(rows)) < 0.25 * size) & (largest < size),
        }[shape]
        background, foreground = generator.uniform(0, 90, 3), generator.uniform(130, 255, 3)
        pixels = np.where(inside[..., None], foreground, background) + generator.normal(0, 12, (SIDE, SIDE, 3))
        return pixels.clip(0, 255).astype(np.uint8)

    def stamp(self, name):
        """Change it when the images change: decoded images are kept in data.cache by name and stamp."""
        return "drawing 1"
