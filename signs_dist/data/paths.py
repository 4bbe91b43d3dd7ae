"""The paths of many files as one block of bytes: 50 bytes each, where text objects take 130.

A block may be a memory map of a file, which all processes of a machine share. Reading it writes no reference counts, so
that processes that are forked share it too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

_AT_ONCE = 10_000
"""Paths that are decoded together when all are read."""
_NUM_SHOWN = 5


class Paths(Sequence[str]):
    """A sequence of texts that cannot be changed. It is equal to a tuple or list of the same texts.

    Args:
        block: the texts in UTF-8 (bytes that are not UTF-8 as the system has them), each with a zero byte at its end.
        starts: int64 [N + 1] as bytes: where each text begins in `block`, and the end of the last.
        prefix: what all texts begin with; it is not in `block`.
        origin: the file that maps `block` and `starts`, as (file, digest). None: they are in memory.
        map_again: called with file, digest and prefix in another process, instead of copying them to it.
    """

    __slots__ = ("_block", "_map_again", "_origin", "_prefix", "_starts")

    def __init__(
        self,
        block: Any,
        starts: Any,
        prefix: str = "",
        origin: tuple[Path, str] | None = None,
        map_again: Callable[[Path, str, str], Paths] | None = None,
    ) -> None:
        self._block = memoryview(block).cast("B")
        self._starts = memoryview(starts).cast("B").cast("q")
        self._prefix = prefix
        self._origin = origin
        self._map_again = map_again

    @staticmethod
    def of(texts: Iterable[str]) -> Paths:
        """The block of texts; a block remains what it is."""
        if isinstance(texts, Paths):
            return texts
        import numpy  # not for --help of the commands that list folders

        joined = "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape")
        ends = numpy.flatnonzero(numpy.frombuffer(joined, numpy.uint8) == 0).astype(numpy.int64) + 1
        return Paths(joined, numpy.concatenate([numpy.zeros(1, numpy.int64), ends]))

    @property
    def origin(self) -> tuple[Path, str] | None:
        """The file that maps them and its digest; None if they are in memory."""
        return self._origin

    @property
    def block(self) -> memoryview:
        """As it was given."""
        return self._block

    @property
    def starts(self) -> memoryview:
        """As they were given."""
        return self._starts

    @property
    def prefix(self) -> str:
        """What all texts begin with."""
        return self._prefix

    def below(self, folder: str) -> Paths:
        """The same paths with `folder`, which ends with a slash, before each."""
        return Paths(self._block, self._starts, folder + self._prefix, self._origin, self._map_again)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = operator.index(index)
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"path {index} of {len(self)}")
        return self._prefix + _text(self._block[self._starts[number] : self._starts[number + 1] - 1])

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            last = min(first + _AT_ONCE, len(self))
            for text in _text(self._block[self._starts[first] : self._starts[last] - 1]).split("\0"):
                yield self._prefix + text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Paths, tuple, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list: to hash a million paths takes long

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:_NUM_SHOWN]))
        return f"Paths({shown}{f', … {len(self):,} in all' if len(self) > _NUM_SHOWN else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._map_again is not None and self._origin is not None and self._origin[0].exists():
            return self._map_again, (*self._origin, self._prefix)
        return Paths, (bytes(self._block), bytes(self._starts), self._prefix)


def _text(encoded: memoryview) -> str:
    return str(encoded, "utf-8", "surrogateescape")
