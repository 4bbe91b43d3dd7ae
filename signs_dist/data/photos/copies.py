"""Find files with the same content in a source, so that a split keeps them on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.data.images import BadImageError
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import SourceReader
from signs_dist.run_folder.digest import file_sha256

_PROGRESS_EVERY = 500
"""Files from one report to the next: most sources have fewer, and need none."""

Copies = tuple[tuple[str, ...], ...]
"""Groups of two or more paths with the same content, each sorted."""


def find_copies(
    source: Path, files: Sequence[SourceFile], on_progress: Callable[[int, int], None] | None = None
) -> Copies:
    """Group the files with the same content. Only files that have their size in common are read.

    Args:
        source: the zip or folder.
        files: its images. Empty files and files that cannot be read belong to no group.
        on_progress: called with (files compared, files to compare) now and then.
    """
    candidates = _of_one_size(source, files)
    paths_of: dict[str, list[str]] = {}
    with SourceReader(source) as reader:
        for number, file in enumerate(candidates, 1):
            try:
                content = reader.read(file.path)
                digest = file_sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
            except (BadImageError, OSError):
                continue  # the conversion names it as bad
            paths_of.setdefault(digest, []).append(file.path)
            if on_progress is not None and number % _PROGRESS_EVERY == 0:
                on_progress(number, len(candidates))
    return tuple(sorted(tuple(sorted(paths)) for paths in paths_of.values() if len(paths) > 1))


def _of_one_size(source: Path, files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files that may have a copy. In a zip, the stamp is the checksum of the content."""
    groups: dict[tuple[int, str], list[SourceFile]] = {}
    for file in files:
        if file.num_bytes > 0 and "not a regular file" not in file.stamp:
            groups.setdefault((file.num_bytes, file.stamp if source.is_file() else ""), []).append(file)
    return [file for group in groups.values() if len(group) > 1 for file in group]
