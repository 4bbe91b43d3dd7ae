"""The photos that `predict` is given: files, folders, patterns, and a list of paths on standard input."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from signs_dist.data.listing import PassedOver, list_images
from signs_dist.errors import UserError
from signs_dist.monitoring.plain_text import one_line

STDIN = "-"
"""The input that stands for a list of paths on standard input."""
BLOCK_BYTES = 2**16


@dataclasses.dataclass(frozen=True)
class Photos:
    """Photos of one input: of a folder the names below it, which take less memory than paths."""

    folder: Path | None
    names: Sequence[str]

    def __iter__(self) -> Iterator[Path]:
        return (Path(name) if self.folder is None else self.folder / name for name in self.names)

    def widest(self) -> int:
        """Columns of the longest path, as it is printed."""
        before = 0 if self.folder is None else len(one_line(f"{self.folder}/"))
        return before + max(len(one_line(name)) for name in self.names)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All photos, in the order of the inputs.

    Attributes:
        known: the photos of each input; None stands for standard input, which is read as the photos are asked for.
        passed_over: what is in the folders and is no photo.
        stdin: the stream to read paths from.
    """

    known: Sequence[Photos | None]
    passed_over: PassedOver
    stdin: BinaryIO

    def __iter__(self) -> Iterator[Path]:
        for photos in self.known:
            yield from read_paths(self.stdin) if photos is None else photos

    @property
    def num_photos(self) -> int | None:
        """The number of photos; None if some are on standard input."""
        listed = [photos for photos in self.known if photos is not None]
        return sum(len(photos.names) for photos in listed) if len(listed) == len(self.known) else None

    @property
    def width(self) -> int:
        """Columns of the longest path that is known before the start."""
        return max((photos.widest() for photos in self.known if photos is not None), default=0)


def find_inputs(given: Sequence[str], stdin: BinaryIO) -> Inputs:
    """The photos that the inputs name.

    A file is a photo, whatever its name is. A folder stands for the photos below it, sorted; a pattern with `*`, `?` or
    `[…]` for the files and folders that match it, sorted, `**` for folders at any depth; `-` for the paths on standard
    input. What exists under a name with such characters is meant itself.

    Raises:
        UserError: a path does not exist, a folder has no photos, nothing matches a pattern, or `-` is given twice.
    """
    if given.count(STDIN) > 1:
        raise UserError(f"{STDIN} stands for standard input, and is given twice. Give it once.")
    known: list[Photos | None] = []
    passed_over = PassedOver()
    for text in given:
        if text == STDIN:
            known.append(None)
            continue
        for name in _matches(text):
            if Path(name).is_dir():
                listing = list_images(Path(name))
                if not listing.images:
                    raise UserError(f"{name} holds no photos.{listing.passed_over.sentence()}")
                known.append(Photos(Path(name), listing.images))
                passed_over = passed_over.plus(listing.passed_over)
            else:
                known.append(Photos(None, [name]))
    return Inputs(known, passed_over, stdin)


def _matches(text: str) -> list[str]:
    """The paths that an input names: itself, or what matches it as a pattern."""
    if os.path.lexists(text):
        return [text]
    if not glob.has_magic(text):
        raise UserError(f"{text}: no such file or folder.")
    found = sorted(glob.iglob(text, recursive=True))  # noqa: PTH207 Path.glob takes no absolute pattern
    if not found:
        raise UserError(f"{text}: no file or folder matches this pattern.")
    return found


def read_paths(stream: BinaryIO) -> Iterator[Path]:
    """The paths in a stream, as they arrive: one a line, or with NUL characters between them, as `find -print0` writes.

    Empty lines are passed over.

    Raises:
        UserError: there is none.
    """
    end, rest, num_paths = b"", b"", 0
    while True:
        # Not `read`, which would wait for a whole block while the first photos could be predicted.
        block = os.read(stream.fileno(), BLOCK_BYTES) if _has_descriptor(stream) else stream.read(BLOCK_BYTES)
        rest += block
        if not end and rest:
            end = b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else b""
        if block and not end:
            continue
        *lines, rest = rest.split(end) if block else [*rest.split(end or b"\n"), b""]
        for line in lines:
            name = os.fsdecode(line.removesuffix(b"\r") if end != b"\0" else line)
            if name:
                num_paths += 1
                yield Path(name)
        if not block:
            break
    if not num_paths:
        raise UserError(
            "standard input holds no paths. Write one a line, as in: find photos -name '*.jpg' | "
            "python -m signs_dist.predict RUN_DIR -"
        )


def _has_descriptor(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True
