"""Convert photos to small square JPEGs, in worker processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.photos.build_plan import BuildRequest, PlannedImage
from signs_dist.data.photos.sources import SourceReader
from signs_dist.data.problems import BadFile
from signs_dist.data.workers import run_batches
from signs_dist.errors import UserError
from signs_dist.files import written_aside

if TYPE_CHECKING:
    from signs_dist.console.screen import Screen

MAX_BAD_BEFORE_STOP = 20
"""With `stop`, a build ends after this many bad images, so that the user can repair several at once."""
CONVERSION_VERSION = 2
"""Raise it when the same photo would give other pixels: unfinished builds then start from the beginning."""


def convert_all(
    request: BuildRequest, part: Path, todo: list[PlannedImage], *, num_done: int, num_bad: int, screen: Screen
) -> list[BadFile]:
    """Write the images of `todo` below the folder `part`, and return those that cannot be converted.

    With `bad_images="stop"` it ends early once `MAX_BAD_BEFORE_STOP` bad images are known.

    Args:
        request: the source and the settings.
        part: where the images go.
        todo: images to convert.
        num_done: images that an earlier build converted; for the progress.
        num_bad: images that are known to be bad already.
        screen: shows the progress.

    Raises:
        UserError: the disk is full, or a worker was killed. The message says how to continue.
    """
    total = num_done + len(todo)
    bad: list[BadFile] = []
    batches = run_batches(
        functools.partial(_convert_batch, part, request),
        todo,
        resource=functools.partial(SourceReader, request.source),
        processes=request.processes,
    )
    try:
        with contextlib.closing(batches), screen.preparing() as report:
            for results in batches:
                num_done += len(results)
                bad += [file for file in results if file is not None]
                report("building", num_done, total)
                if request.bad_images == "stop" and num_bad + len(bad) >= MAX_BAD_BEFORE_STOP:
                    break
    except UserError as error:
        raise UserError(f"{error} {_progress_kept(num_done, total)}") from error
    except KeyboardInterrupt:
        screen.say(_progress_kept(num_done, total))
        raise
    return bad


def _progress_kept(num_done: int, total: int) -> str:
    return f"{num_done:,} of {total:,} images are done. To continue, repeat the command."


def _convert_batch(
    part: Path, request: BuildRequest, reader: SourceReader, images: Sequence[PlannedImage]
) -> list[BadFile | None]:
    """In a worker: convert these images. Returns for each None, or why it is bad."""
    results: list[BadFile | None] = []
    for image in images:
        try:
            _convert(reader, image, part / image.output, request)
            results.append(None)
        except BadImageError as error:
            results.append(BadFile(image.source.path, error.reason))
    return results


def _convert(reader: SourceReader, image: PlannedImage, target: Path, request: BuildRequest) -> None:
    path = image.source.path
    pixels = load_rgb(reader.read(path), name=path, size=request.size, max_megapixels=request.max_megapixels)
    pixels.info.clear()  # else Pillow writes the photo's comment into the output
    encoded = io.BytesIO()
    pixels.save(encoded, "JPEG", quality=request.quality, subsampling=0)
    try:
        with written_aside(target) as aside:
            aside.write_bytes(encoded.getvalue())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadImageError(path, "its name is too long; shorten it") from error
        raise
