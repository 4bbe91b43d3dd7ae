"""Tars for tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import PIL.Image


def photo(colour: tuple[int, int, int], side: int = 16) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    PIL.Image.new("RGB", (side, side), colour).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """Write a tar of (name, content), at a time that does not change."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(*pairs: tuple[str, int], first: int = 0) -> list[tuple[str, bytes]]:
    """Members of samples of (key, class number); each image has a colour that tells its place in the list."""
    members = []
    for number, (key, label) in enumerate(pairs, first):
        members += [(f"{key}.png", photo((number, label, 7))), (f"{key}.cls", str(label).encode())]
    return members
