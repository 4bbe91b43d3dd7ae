"""The images that a walk finds, kept folder by folder in few bytes, and joined into one sorted block at its end."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from signs_dist.data.paths import Paths

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

NUMBERS_PER_STAMP = 3


class JoinedImages(NamedTuple):
    """All images, sorted by path.

    Attributes:
        images: paths of the N images.
        folders: the folders that hold an image themselves, sorted.
        folder_of: int32 [N], the number of each image's folder in `folders`.
        stamps: int64 [N, 3], size in bytes, time of modification and time of change in nanoseconds; a size of -1 where
            the file could not be looked at. None: no file was looked at.
    """

    images: Paths
    folders: tuple[str, ...]
    folder_of: NDArray[numpy.int32]
    stamps: NDArray[numpy.int64] | None


class _Block(NamedTuple):
    texts: bytes
    """The paths of a folder's images, sorted, each with a zero byte at its end."""
    num_images: int
    stamps: array[int] | None


class ImageBlocks:
    """Collects images.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._blocks: dict[str, _Block] = {}

    def add(self, folder: str, names: Sequence[str], stamps: array[int] | None = None) -> None:
        """Add all images of one folder.

        Args:
            folder: its path, empty for the folder at the top.
            names: of the images, sorted.
            stamps: three numbers for each name. None: no file was looked at.
        """
        if not names:
            return
        before = f"{folder}/" if folder else ""
        texts = f"{before}{f'{chr(0)}{before}'.join(names)}\0".encode("utf-8", "surrogateescape")
        self._blocks[folder] = _Block(texts, len(names), stamps)
        self.count += len(names)

    def joined(self) -> JoinedImages:
        """All images in the order of their paths. Afterwards nothing is kept here."""
        import numpy  # not for --help of the commands that list folders

        folders = tuple(sorted(self._blocks))
        pieces = self._in_order(folders)
        texts = b"".join(memoryview(piece.texts) for piece in pieces)
        has_stamps = all(block.stamps is not None for block in self._blocks.values())
        self._blocks.clear()
        starts = numpy.zeros(self.count + 1, numpy.int64)
        starts[1:] = numpy.flatnonzero(numpy.frombuffer(texts, numpy.uint8) == 0)
        starts[1:] += 1
        counts = [piece.last - piece.first for piece in pieces]
        folder_of = numpy.repeat(numpy.array([piece.folder for piece in pieces], numpy.int32), counts)
        stamps = None
        if has_stamps:
            rows = [
                numpy.frombuffer(piece.stamps, numpy.int64).reshape(-1, NUMBERS_PER_STAMP)[piece.first : piece.last]
                for piece in pieces
                if piece.stamps is not None
            ]
            stamps = numpy.concatenate(rows) if rows else numpy.zeros((0, NUMBERS_PER_STAMP), numpy.int64)
        return JoinedImages(Paths(texts, starts), folders, folder_of, stamps)

    def _in_order(self, folders: Sequence[str]) -> list[_Piece]:
        """Runs of images, one after the other sorted by path: a folder is cut where the images of one in it belong."""
        inner: dict[str, set[str]] = {}
        for folder in folders:
            while folder:
                above, _, name = folder.rpartition("/")
                if name in inner.setdefault(above, set()):
                    break
                inner[above].add(name)
                folder = above
        pieces = []
        for number, folder in enumerate(folders):
            block = self._blocks[folder]
            if folder not in inner:
                pieces.append(_Piece(_first_of(block.texts), number, 0, block.num_images, block.texts, block.stamps))
                continue
            before = len(folder) + 1 if folder else 0
            encoded = block.texts.split(b"\0")[:-1]
            names = [text.decode("utf-8", "surrogateescape")[before:] for text in encoded]
            cuts = {bisect.bisect(names, f"{name}/") for name in inner[folder]} | {0, len(names)}
            edges = sorted(cuts)
            for first, last in itertools.pairwise(edges):
                texts = b"".join(text + b"\0" for text in encoded[first:last])
                pieces.append(_Piece(_first_of(texts), number, first, last, texts, block.stamps))
        return sorted(pieces, key=lambda piece: piece.first_path)


class _Piece(NamedTuple):
    first_path: str
    folder: int
    first: int
    last: int
    texts: bytes
    stamps: array[int] | None


def _first_of(texts: bytes) -> str:
    return texts[: texts.index(b"\0")].decode("utf-8", "surrogateescape")
