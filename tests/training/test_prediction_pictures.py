from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import BadImageError
from signs_dist.learning.probabilities import ProbabilityTable
from signs_dist.results.predicted_pictures import pictures_path, read_pictures
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.prediction_pictures import rows_to_show, write_pictures
from tests.data.photo_files import jpeg

VALUES = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], np.float32)
TABLE = ProbabilityTable(VALUES)


class Reader:
    """Gives photos of 300 x 300 pixels; one of them is broken."""

    def read(self, path: str) -> bytes:
        if path == "1":
            raise BadImageError(path, "is gone")
        return jpeg(int(path), 300)

    def stamp(self, path: str) -> tuple[int, str]:
        return 0, path


def index_of(source: Any) -> ImageIndex:
    return ImageIndex(Path("shards"), "val", ("a", "b"), ("0", "1", "2", "3"), np.array([1, 1, 1, 0]), source=source)


def test_the_worst_and_the_least_certain_are_shown() -> None:
    labels = np.array([1, 0, 1, 0])  # the first and the last are wrong
    assert rows_to_show(TABLE, labels) == [0, 3, 1, 2]
    assert rows_to_show(TABLE, labels, most=1) == [0, 1]
    of_many = ProbabilityTable(np.array([[0.7, 0.1], [0.6, 0.2]], np.float32), np.array([[8, 2], [3, 4]], np.int32))
    assert rows_to_show(of_many, np.array([8, 4])) == [1, 0]


def test_pictures_are_written_for_images_that_are_no_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_pictures(folder, index_of(None), TABLE, max_megapixels=1)
    assert not pictures_path(tmp_path, "val").exists()
    write_pictures(folder, index_of(Reader()), TABLE, max_megapixels=1)
    pictures = read_pictures(pictures_path(tmp_path, "val"))
    assert set(pictures) == {"0", "2", "3"}
    assert all(len(picture) < 10_000 for picture in pictures.values())
    write_pictures(folder, dataclasses.replace(index_of(Reader()), split="test"), TABLE, max_megapixels=0.01)
    assert read_pictures(pictures_path(tmp_path, "test")) == {}
