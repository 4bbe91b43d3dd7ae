"""Small pictures beside the predictions, of images that a report could not read: those in shards, or of a reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from signs_dist.data.folder import ImageIndex
from signs_dist.data.images import load_rgb
from signs_dist.errors import UserError
from signs_dist.learning.probabilities import ProbabilityTable
from signs_dist.reporting.pictures import SIDE, as_jpeg_uri
from signs_dist.reporting.split_view import NUM_PICTURES
from signs_dist.results.predicted_pictures import pictures_path, to_text
from signs_dist.run_folder.folder import RunFolder

MOST = NUM_PICTURES + 8
"""Of each kind. Some more than are shown: probabilities that the file of predictions rounds to equal ones are shown by
name."""


def write_pictures(folder: RunFolder, index: ImageIndex, table: ProbabilityTable, *, max_megapixels: float) -> None:
    """Write the pictures that the report shows of a split, where its images are no files.

    An image that cannot be read has no picture. For images in files nothing is written: the report reads them.

    Raises:
        OSError, UserError: the file cannot be written.
    """
    if index.source is None:
        return
    from signs_dist.files import write_text

    shown = [index.paths[row] for row in rows_to_show(table, index.labels)]
    pictures = dict(_pictures(index, shown, max_megapixels))
    folder.require_held()
    write_text(pictures_path(folder.path, index.split), to_text(pictures))


def rows_to_show(table: ProbabilityTable, labels: npt.NDArray[np.int64], most: int = MOST) -> list[int]:
    """The rows of the wrong images with the highest probability, and then of the right ones with the lowest."""
    best = table.values.argmax(axis=1)
    rows = np.arange(len(best))
    predicted = best if table.numbers is None else table.numbers[rows, best]
    confidence = table.values[rows, best]
    is_right = predicted == labels
    order = np.argsort(confidence, kind="stable")
    worst = [int(row) for row in order[::-1] if not is_right[row]][:most]
    return [*worst, *[int(row) for row in order if is_right[row]][:most]]


def _pictures(index: ImageIndex, paths: list[str], max_megapixels: float) -> Iterator[tuple[str, str]]:
    for path in paths:
        try:
            source: Path | bytes = index.reader.read(path)
            image = load_rgb(source, name=path, size=None, max_megapixels=max_megapixels)
        except UserError:
            continue
        image.thumbnail((SIDE, SIDE))
        yield path, as_jpeg_uri(image)
