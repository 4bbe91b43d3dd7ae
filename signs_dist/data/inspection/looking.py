"""Decode photos, and note of each what can be said of it by itself."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from signs_dist.data.images import BROKEN_FILE_ERRORS, MAX_MEGAPIXELS, BadImageError, load_rgb
from signs_dist.data.inspection.near_copies import difference_hash, thumb
from signs_dist.data.workers import run_batches

if TYPE_CHECKING:
    from PIL.Image import Image

DIGEST_SIDE = 64
"""Photos count as equal if they are equal at this size, which is decoded quickly from a large JPEG."""
_ORIENTATION = 0x0112
_TURNED = range(2, 9)
_SIDEWAYS = range(5, 9)
_GREY_LEVELS = 2
"""A photo is grey if its red, green and blue differ by at most this many levels of 255, as JPEG may change them."""


class Reader(Protocol):
    """What a worker reads photos through: `SourceReader`, or an `ImageReader` of an index."""

    def read(self, path: str, /) -> Path | bytes:
        """The file of a photo, or its bytes."""
        ...


OpenReader = Callable[[], contextlib.AbstractContextManager[Reader]]
"""Opens a reader in a worker. Picklable."""


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo is by itself."""

    path: str
    reason: str | None = None
    """Why it cannot be used; None if it can. Then the fields below are set."""
    digest: str = ""
    """SHA-256 of its pixels at 64 x 64."""
    difference_hash: int = 0
    thumb: bytes = b""
    """As in `near_copies`."""
    width: int = 0
    height: int = 0
    """In pixels, upright."""
    image_format: str = ""
    """Pillow's name of the format."""
    is_grey: bool = False
    is_turned: bool = False
    """Whether its EXIF orientation turns it upright."""
    is_transparent: bool = False
    is_animated: bool = False
    """Whether it has several frames or pages. The gain maps and depths that phones add to a JPEG are none."""


def look_at(
    open_reader: OpenReader,
    paths: Sequence[str],
    *,
    processes: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[PhotoFacts]:
    """Decode all photos in worker processes.

    Args:
        open_reader: opens what the paths are read from.
        paths: of the photos.
        processes: worker processes. None: all usable cores.
        max_megapixels: larger images cannot be used.
        on_progress: called with (photos decoded, photos in all).

    Returns:
        The facts in the order of `paths`.

    Raises:
        UserError: as `run_batches`.
    """
    found: dict[str, PhotoFacts] = {}
    work = functools.partial(_look_at_batch, max_megapixels)
    for facts in run_batches(work, paths, resource=open_reader, processes=processes):
        found.update((each.path, each) for each in facts)
        on_progress(len(found), len(paths))
    return [found[path] for path in paths]


def _look_at_batch(max_megapixels: float, reader: Reader, paths: Sequence[str]) -> list[PhotoFacts]:
    return [facts_of(reader, path, max_megapixels) for path in paths]


def facts_of(reader: Reader, path: str, max_megapixels: float = MAX_MEGAPIXELS) -> PhotoFacts:
    """The facts of one photo."""
    stored: dict[str, Any] = {}
    try:
        image = load_rgb(
            reader.read(path),
            name=path,
            size=DIGEST_SIDE,
            max_megapixels=max_megapixels,
            on_open=lambda opened: stored.update(_stored_facts(opened)),
        )
    except BadImageError as error:
        return PhotoFacts(path, error.reason)
    return PhotoFacts(
        path,
        digest=hashlib.sha256(image.tobytes()).hexdigest(),
        difference_hash=difference_hash(image),
        thumb=thumb(image),
        is_grey=_is_grey(image),
        **stored,
    )


def _stored_facts(image: Image) -> dict[str, Any]:
    """What the file says, before its pixels are decoded."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except BROKEN_FILE_ERRORS:  # broken EXIF; the pixels may be whole
        orientation = 1
    width, height = image.size
    if orientation in _SIDEWAYS:
        width, height = height, width
    return {
        "width": width,
        "height": height,
        "image_format": {"MPO": "JPEG", "HEIF": "HEIC"}.get(image.format or "", image.format or ""),
        "is_turned": orientation in _TURNED,
        "is_transparent": image.has_transparency_data,
        "is_animated": image.format != "MPO" and _has_frames(image),
    }


def _has_frames(image: Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except BROKEN_FILE_ERRORS:  # such as a GIF whose second frame is broken
        return False


def _is_grey(image: Image) -> bool:
    import numpy

    pixels = numpy.asarray(image).astype(numpy.int16)
    return bool((numpy.ptp(pixels, axis=2) <= _GREY_LEVELS).all())
