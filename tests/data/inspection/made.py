"""Inspections of photos that do not exist, for tests of what is decided from them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.data.inspection.inspecting import Inspection, judge
from signs_dist.data.inspection.listed import Kind, Listed, ListedPhoto
from signs_dist.data.inspection.looking import PhotoFacts


def made(
    photos: Mapping[str, Mapping[str, Any]] | list[str], *, source: str = "photos", kind: Kind = "folder", **more: Any
) -> Inspection:
    """The inspection of photos without pixels.

    Args:
        photos: paths such as `train/cat/1.jpg` or `cat/1.jpg` → facts that are not usual. The class is the folder.
        source: the folder.
        kind: of the source.
        more: other fields of `Listed`.
    """
    odd = photos if isinstance(photos, Mapping) else {path: {} for path in photos}
    listed = Listed(
        source=Path(source),
        kind=kind,
        layout="a folder for each class, not split",
        photos=tuple(ListedPhoto(path, path.split("/")[-2], _split(path)) for path in odd),
        root=Path(source),
        open_reader=contextlib.nullcontext,  # type: ignore[arg-type]
        **more,
    )
    return judge(listed, [_facts(path, facts) for path, facts in odd.items()])


def counted(**counts: int) -> list[str]:
    """Paths of so many photos of each class."""
    return [f"{name}/{number}.jpg" for name, count in counts.items() for number in range(count)]


def _facts(path: str, facts: Mapping[str, Any]) -> PhotoFacts:
    if "reason" in facts:
        return PhotoFacts(path, facts["reason"])
    content = hashlib.sha256(path.encode()).digest()
    usual = {
        "digest": path,
        "difference_hash": int.from_bytes(content[:8], "big"),
        "thumb": content * 8,
        "width": 100,
        "height": 80,
        "image_format": "JPEG",
    }
    return PhotoFacts(path, **(usual | facts))


def _split(path: str) -> str | None:
    first = path.split("/")[0]
    return first if first in ("train", "val", "test") else None
