"""The SHA-256 of all photos of a split, read in full."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from signs_dist.data.folder import ImageIndex
from signs_dist.data.kept_listing import remember
from signs_dist.errors import UserError
from signs_dist.files import written_aside
from signs_dist.run_folder.digest import file_sha256
from signs_dist.run_folder.subject import photos_sha256

_AT_ONCE = 1024
"""Photos whose digests are asked for together: the names of a million would take room, and an error would come late."""
_FACTS = b"contents 1\0"
"""What distinguishes the text that is kept beside a listing from others."""


def contents_sha256(
    index: ImageIndex, *, num_threads: int, report: Callable[[str, int, int], None], cache: Path | None = None
) -> str:
    """SHA-256 (hex) over names, labels and contents of a split's photos.

    Args:
        index: the split.
        num_threads: photos read at once.
        report: called with (what, photos done, photos in all).
        cache: data.cache. The result is kept there, with the names, sizes and times of the photos: as long as these are
            the same, no photo is read again. None: it is not kept.

    Raises:
        UserError: a photo cannot be read.
    """
    facts = _FACTS + repr(index.classes).encode("utf-8", "surrogateescape") + hashlib.sha256(index.labels.data).digest()

    def read() -> str:
        digests = _digests(index, num_threads, report)
        photos = zip(index.paths, index.labels.tolist(), digests, strict=True)
        return photos_sha256(index.classes, photos)

    def find() -> str:
        return read() if cache is None else _kept(cache / "contents", index, facts, read)

    return remember(index.paths, facts, find)  # of a kept listing, sizes and times were compared already


def _kept(folder: Path, index: ImageIndex, facts: bytes, read: Callable[[], str]) -> str:
    """What `read` returns, from a file of this split if the photos have the names, sizes and times that they had."""
    hasher = hashlib.sha256(facts)
    for path, stamp in zip(index.paths, index.all_stamps(), strict=True):
        hasher.update(repr((path, stamp)).encode())
    key = hasher.hexdigest()
    place = hashlib.sha256(repr((str(index.root.resolve()), index.split)).encode()).hexdigest()
    file = folder / place[:16]
    with contextlib.suppress(OSError, ValueError):
        known, check = file.read_text(encoding="utf-8").split()
        if check == hashlib.sha256(f"{key} {known}".encode()).hexdigest():
            return known
    text = read()
    with contextlib.suppress(OSError, UserError):
        folder.mkdir(parents=True, exist_ok=True)
        with written_aside(file) as aside:
            check = hashlib.sha256(f"{key} {text}".encode()).hexdigest()
            aside.write_text(f"{text} {check}\n", encoding="utf-8")
    return text


def _digests(index: ImageIndex, num_threads: int, report: Callable[[str, int, int], None]) -> Iterator[str]:
    """The SHA-256 of each photo, in order."""
    done, total = 0, len(index)
    paths = iter(index.paths)
    reader = index.reader

    def digest(path: str) -> str:
        try:
            content = reader.read(path)
            return file_sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        except OSError as error:
            raise UserError(f"cannot read {index.full_name(path)}: {error.strerror or error}.") from error

    with concurrent.futures.ThreadPoolExecutor(num_threads, thread_name_prefix="contents") as pool:
        while some := list(itertools.islice(paths, _AT_ONCE)):
            yield from pool.map(digest, some)
            done += len(some)
            report(f"reading {index.split} photos", done, total)
