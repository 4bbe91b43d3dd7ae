"""Read images in the middle of tars."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from signs_dist.data.images import BadImageError
from signs_dist.data.shards.tar_index import TarIndex
from signs_dist.errors import UserError

MOST_OPEN = 128
"""Shards that a process keeps open; further ones are opened for each image. Processes may have 1,024 files open."""


class ShardReader:
    """The images of some shards, by their paths `SHARD/MEMBER` below a folder.

    Each process opens a shard once, and reads from it at any place, by several threads at once (pread of POSIX). Places
    are held in arrays, found by a hash of the path, so that loader processes share their memory.

    Args:
        root: the folder.
        shards: their paths below `root`.
        indexes: the index of each.
    """

    def __init__(self, root: Path, shards: Sequence[str], indexes: Sequence[TarIndex]) -> None:
        self.root, self.shards = root, tuple(shards)
        self._stamps = [(index.num_bytes, index.mtime_ns) for index in indexes]
        rows = [
            (_hash(f"{shard}/{image.name}"), number, image.offset, image.num_bytes)
            for number, (shard, index) in enumerate(zip(shards, indexes, strict=True))
            for image in index.images
        ]
        rows.sort()
        self._hashes = np.array([row[0] for row in rows], np.uint64)
        self._places = np.array([row[1:] for row in rows], np.int64).reshape(-1, 3)
        assert len(np.unique(self._hashes)) == len(rows), "two paths have one hash of 64 bits"
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_open", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def read(self, path: str) -> bytes:
        """The bytes of an image.

        Raises:
            BadImageError: the shard cannot be read, or ends within the image.
            UserError: the shard has changed since it was listed.
        """
        number, offset, num_bytes = self._place(path)
        try:
            data = self._read(number, offset, num_bytes)
        except OSError as error:
            raise BadImageError(str(self.root / path), str(error.strerror or error).lower()) from error
        if len(data) < num_bytes:
            raise BadImageError(str(self.root / path), "the shard ends within it")
        return data

    def stamp(self, path: str) -> tuple[int, str]:
        """(number of bytes, the place in the shard and the time of the shard), as `ImageReader.stamp`."""
        number, offset, num_bytes = self._place(path)
        return num_bytes, f"{offset}\0{self._stamps[number][1]}"

    def _place(self, path: str) -> tuple[int, int, int]:
        """(number of the shard, offset, number of bytes)."""
        row = int(np.searchsorted(self._hashes, np.uint64(_hash(path))))
        assert self._hashes[row : row + 1].tolist() == [_hash(path)], path
        number, offset, num_bytes = self._places[row].tolist()
        return number, offset, num_bytes

    def _read(self, number: int, offset: int, num_bytes: int) -> bytes:
        with self._lock:
            if self._process != os.getpid():  # a fork: the parent's descriptors are left alone
                self._open, self._process = {}, os.getpid()
            descriptor = self._open.get(number)
            if descriptor is None:
                descriptor = self._opened(number)
            is_kept = number in self._open or len(self._open) < MOST_OPEN
            if is_kept:
                self._open[number] = descriptor
        try:
            return _read_all(descriptor, offset, num_bytes)
        finally:
            if not is_kept:
                os.close(descriptor)

    def _opened(self, number: int) -> int:
        shard = self.root / self.shards[number]
        descriptor = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != self._stamps[number]:
            os.close(descriptor)
            raise UserError(f"{shard} has changed since its images were listed: repeat the command.")
        return descriptor


def _read_all(descriptor: int, offset: int, num_bytes: int) -> bytes:
    """`num_bytes` from `offset` on; fewer where the file ends. A network file system may give them in parts."""
    data = os.pread(descriptor, num_bytes, offset)
    while len(data) < num_bytes:
        more = os.pread(descriptor, num_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "big")
