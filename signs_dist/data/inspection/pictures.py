"""Photos of any format as small pictures inside a page, made by worker processes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from signs_dist.data.images import BadImageError, load_rgb
from signs_dist.data.inspection.looking import OpenReader, Reader
from signs_dist.data.workers import run_batches

SIDE = 112
"""Longest side in pixels."""
_QUALITY = 80


def small_pictures(open_reader: OpenReader, paths: Sequence[str], *, processes: int | None = None) -> dict[str, str]:
    """Path → the photo as a JPEG within a `data:` address. Photos that cannot be decoded are left out."""
    unique = list(dict.fromkeys(paths))
    found: dict[str, str] = {}
    for pairs in run_batches(_draw_batch, unique, resource=open_reader, processes=processes):
        found.update(pairs)
    return found


def _draw_batch(reader: Reader, paths: Sequence[str]) -> list[tuple[str, str]]:
    return [(path, picture) for path in paths if (picture := _small_picture(reader, path)) is not None]


def _small_picture(reader: Reader, path: str) -> str | None:
    try:
        image = load_rgb(reader.read(path), name=path, size=None)
    except BadImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
