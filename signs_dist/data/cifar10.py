"""CIFAR-10 in its published binary form, as a reader of images: `data.reader=signs_dist.data.cifar10:read_binary`.

A record is a byte of the class, then 1,024 bytes of red, of green and of blue, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version"). The pickles of the Python version are not read: to load
a pickle can run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signs_dist.errors import UserError

TRAINING_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
NAMES_FILE = "batches.meta.txt"
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE


class BinaryFiles:
    """The images of the folder `cifar-10-batches-bin`, named by file and place, such as `data_batch_1/00042`.

    Args:
        folder: the unpacked folder.
        num_val: how many of the last training images are kept for validation.

    Raises:
        UserError: a file is missing or is not of this form, or `num_val` leaves no training image.
    """

    def __init__(self, folder: str, num_val: int) -> None:
        self._folder = Path(folder)
        self._names = [line for line in self._open(NAMES_FILE).read_text(encoding="utf-8").split("\n") if line]
        self._records = {name: self._map(name) for name in (*TRAINING_FILES, TEST_FILE)}
        self._num_training = sum(len(self._records[name]) for name in TRAINING_FILES)
        if not 1 <= num_val < self._num_training:
            raise UserError(
                f"data.reader_args: num_val={num_val} of {self._num_training:,} training images. Give at least 1 and "
                f"at most {self._num_training - 1:,}."
            )
        self._num_val = num_val

    def images(self) -> Iterator[tuple[str, str, str]]:
        """(name, class name, split) of each image."""
        number = 0
        for file in TRAINING_FILES:
            for place, label in enumerate(self._records[file][:, 0]):
                split = "train" if number < self._num_training - self._num_val else "val"
                yield f"{Path(file).stem}/{place:05}", self._names[label], split
                number += 1
        for place, label in enumerate(self._records[TEST_FILE][:, 0]):
            yield f"{Path(TEST_FILE).stem}/{place:05}", self._names[label], "test"

    def read(self, name: str) -> npt.NDArray[np.uint8]:
        """The pixels of an image, [32, 32, 3]."""
        file, _, place = name.partition("/")
        planes = self._records[f"{file}.bin"][int(place), 1:].reshape(3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def stamp(self, name: str) -> str:
        """The file's time and size: another file is read again."""
        about = (self._folder / f"{name.partition('/')[0]}.bin").stat()
        return f"{about.st_mtime_ns} {about.st_size}"

    def _open(self, name: str) -> Path:
        path = self._folder / name
        if not path.is_file():
            raise UserError(
                f"{path}: no such file. data.reader_args takes the folder of the unpacked binary version of CIFAR-10: "
                f"tar xf cifar-10-binary.tar.gz, then data.reader_args={{folder: cifar-10-batches-bin}}"
            )
        return path

    def _map(self, name: str) -> npt.NDArray[np.uint8]:
        path = self._open(name)
        size = path.stat().st_size
        if size == 0 or size % RECORD_BYTES:
            raise UserError(
                f"{path} has {size:,} bytes, which is not a whole number of records of {RECORD_BYTES:,} bytes. Unpack "
                f"cifar-10-binary.tar.gz again."
            )
        records: Any = np.memmap(path, np.uint8, mode="r").reshape(-1, RECORD_BYTES)
        if (largest := int(records[:, 0].max())) >= len(self._names):
            raise UserError(f"{path} has the class {largest}, and {NAMES_FILE} names {len(self._names)}.")
        found: npt.NDArray[np.uint8] = records
        return found


def read_binary(folder: str, num_val: int = 2000) -> BinaryFiles:
    """The reader for `data.reader`; the arguments are those of `BinaryFiles`."""
    return BinaryFiles(folder, num_val)
