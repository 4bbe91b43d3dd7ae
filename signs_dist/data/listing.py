"""List the photos of a folder: the one walk of training, build, audit, evaluate and predict.

A file with the suffix of an image is listed unopened. A file with another suffix, or none, is opened for its first
bytes: what they show to be an image is listed too. The rest is passed over, counted and named. Links to files and
folders are followed; a folder that is reached a second time is passed over, so that no photo counts twice and no loop
is endless.
"""

from __future__ import annotations

import dataclasses
import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.data import folder_state
from signs_dist.data.content import image_format, read_first_bytes
from signs_dist.data.image_blocks import ImageBlocks
from signs_dist.data.images import is_image_name
from signs_dist.data.litter import is_litter_file, is_litter_folder
from signs_dist.data.names import printable
from signs_dist.data.paths import Paths
from signs_dist.errors import UserError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

NEVER_IMAGES = frozenset(
    (
        *(".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini", ".log"),
        *(".html", ".htm", ".pdf", ".py", ".ipynb", ".npy", ".npz", ".pt", ".pth", ".pkl", ".h5", ".parquet", ".lock"),
        *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".db", ".xmp", ".aae", ".mp4", ".mov", ".avi"),
        # Raw photos of cameras. Many begin like a TIFF, whose first image is a thumbnail.
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef"),
        *(".srw", ".raw", ".rwl", ".3fr", ".dcr", ".kdc", ".erf", ".iiq", ".mef", ".mos", ".mrw", ".x3f"),
    )
)
"""Suffixes of files that are passed over unopened: labels beside photos are many, and each open takes its time."""

NUM_EXAMPLES = 3
"""So many examples are named of what is passed over."""


@dataclass(frozen=True)
class Tally:
    """How many there are of a kind, and the first of them."""

    count: int = 0
    examples: tuple[str, ...] = ()
    """Up to `NUM_EXAMPLES` different ones, sorted."""

    def plus(self, count: int, examples: Sequence[str]) -> Tally:
        """With `count` more, among which are `examples`."""
        if len(self.examples) == NUM_EXAMPLES and min(examples, default=self.examples[-1]) >= self.examples[-1]:
            return Tally(self.count + count, self.examples)  # the quick way, for folders with a million of them
        return Tally(self.count + count, tuple(sorted({*self.examples, *examples})[:NUM_EXAMPLES]))


@dataclass(frozen=True)
class PassedOver:
    """What a walk came by and did not list."""

    litter: Tally = Tally()
    """Files and folders of systems and programs, by their own names. What is in such a folder is not counted."""
    not_images: Tally = Tally()
    """Files that are no image, by their paths."""
    dead_links: Tally = Tally()
    """Links to nothing that do not have a photo's name, by their paths. One that has is a photo that is missing: it is
    listed, and reading it says so."""
    repeated: Tally = Tally()
    """Links to folders that are listed already, by their paths."""

    def plus(self, other: PassedOver) -> PassedOver:
        """All that either came by."""
        mine, others = self._tallies(), other._tallies()
        return PassedOver(*(tally.plus(more.count, more.examples) for tally, more in zip(mine, others, strict=True)))

    def below(self, folder: str) -> PassedOver:
        """The same, with paths that begin above `folder`, a path that ends with a slash."""
        moved = {
            field.name: Tally(tally.count, tuple(folder + path for path in tally.examples))
            for field, tally in zip(dataclasses.fields(self), self._tallies(), strict=True)
            if field.name != "litter"
        }
        return dataclasses.replace(self, **moved)

    def _tallies(self) -> list[Tally]:
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def notes(self) -> list[str]:
        """What was passed over, counted and named: a line for each kind, none where there is nothing."""
        parts = [
            _part(self.litter, "file or folder of other programs", "files and folders of other programs"),
            _part(self.not_images, "file without a readable image", "files without a readable image"),
            _part(self.dead_links, "link that leads nowhere", "links that lead nowhere"),
            _part(self.repeated, "link to a folder that is read already", "links to folders that are read already"),
        ]
        return [f"passed over: {part}" for part in parts if part]

    def sentence(self) -> str:
        """The same as sentences at the end of a message, with a blank in front; empty if nothing was passed over."""
        return "".join(f" P{note[1:]}." for note in self.notes())


@dataclass(frozen=True)
class Listing:
    """The photos below a folder."""

    images: Paths
    """Paths relative to the folder, with forward slashes, sorted."""
    passed_over: PassedOver
    num_others: Mapping[str, int]
    """Each folder that was read (`""` is the folder itself) → the number of files directly in it that are no image."""
    folders: tuple[str, ...]
    """The folders that hold an image themselves, sorted."""
    folder_of: NDArray[numpy.int32]
    """[N], the number of each image's folder in `folders`."""
    stamps: NDArray[numpy.int64] | None = None
    """[N, 3], size in bytes, time of modification and time of change in nanoseconds; a size of -1 where the file could
    not be looked at. None: no file was looked at."""
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Each folder that was read → the digest of its names, sizes and times; empty without stamps."""
    identities: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Where links lead to folders: the identity of each folder that was read, which tells what is read twice."""


class Collector:
    """Sorts what a walk finds into images and what is passed over."""

    def __init__(self) -> None:
        self.images = ImageBlocks()
        self.digests: dict[str, str] = {}
        self.identities: dict[str, tuple[int, int]] = {}
        self._tallies = {field.name: Tally() for field in dataclasses.fields(PassedOver)}
        self._num_others: dict[str, int] = {}

    def add_folder(self, path: str) -> None:
        """Add a folder that is read."""
        self._num_others.setdefault(path, 0)

    def add_other(self, path: str) -> None:
        """Add a file that is no image."""
        folder = path.rpartition("/")[0]
        self._num_others[folder] = self._num_others.get(folder, 0) + 1
        self.pass_over("not_images", path)

    def pass_over(self, kind: str, name: str) -> None:
        """Add something that is not listed: `kind` is a field of `PassedOver`."""
        self._tallies[kind] = self._tallies[kind].plus(1, [name])

    def listing(self) -> Listing:
        """All that was found."""
        return Listing(
            **self.images.joined()._asdict(),
            passed_over=PassedOver(**self._tallies),
            num_others=self._num_others,
            digests=self.digests,
            identities=self.identities,
        )


def folders_without_images(
    images: Iterable[str], num_others: Mapping[str, int], top: str
) -> tuple[list[str], list[str]]:
    """The folders directly below `top` that have no image at any depth.

    Args:
        images: paths of images.
        num_others: as in `Listing`.
        top: a folder with its slash, or empty.

    Returns:
        (folders that are empty, folders whose files are no images): their names, sorted.
    """
    with_images = {path[len(top) :].partition("/")[0] for path in images if path.startswith(top)}
    counts: dict[str, int] = {}
    for path, count in num_others.items():
        name = path[len(top) :].partition("/")[0]
        if path.startswith(top) and name and name not in with_images:
            counts[name] = counts.get(name, 0) + count
    return sorted(name for name in counts if not counts[name]), sorted(name for name in counts if counts[name])


def is_image(name: str, read_first: Callable[[], bytes]) -> bool:
    """Whether a file is an image: by its suffix, else by its first bytes, which are read only where they decide."""
    if is_image_name(name):
        return True
    return Path(name).suffix.lower() not in NEVER_IMAGES and image_format(read_first()) is not None


class TooManyFilesError(Exception):
    """A folder holds more files than `list_images` was to list."""


def list_images(
    root: Path,
    *,
    scope: Callable[[str], str] = lambda path: "",
    with_stamps: bool = False,
    at_most: int | None = None,
) -> Listing:
    """List the photos below a folder.

    Args:
        root: the folder. Its own name may be any.
        scope: of a path below the root. A folder is listed once in each scope: a photo may be in two splits by a link.
        with_stamps: whether to look at each file for its size and times, which takes twice the time.
        at_most: number of files. None: no limit.

    Raises:
        UserError: the folder, or one below it, cannot be read.
        TooManyFilesError: there are more than `at_most`; told before many are looked at.
    """
    found = Collector()
    try:
        _Walk(root, found, scope, with_stamps, at_most).read_tree()
    except OSError as error:
        raise UserError(f"cannot read {error.filename or root}: {error.strerror}. Check its permissions.") from error
    return found.listing()


class _Walk:
    """Reads real folders first and links after them, so that a photo has its real path where it has one."""

    def __init__(
        self, root: Path, found: Collector, scope: Callable[[str], str], with_stamps: bool, at_most: int | None
    ) -> None:
        self._root = root
        self._found = found
        self._scope = scope
        self._with_stamps = with_stamps
        self._num_left = at_most
        above = [root.resolve(), *root.resolve().parents]
        self._above = {folder_identity(folder) for folder in above}
        self._read: set[tuple[str, tuple[int, int]]] = set()
        self._links: list[str] = []

    def read_tree(self) -> None:
        self._read_below("")
        follows_links = bool(self._links)
        while self._links:
            self._links.sort(reverse=True)
            self._read_below(self._links.pop(), is_link=True)
        if not follows_links:
            self._found.identities.clear()

    def _read_below(self, top: str, *, is_link: bool = False) -> None:
        waiting = [top]
        while waiting:
            path = waiting.pop()
            identity = folder_identity(self._root / path)
            key = (self._scope(path), identity)
            # Real folders are never skipped: some network file systems give two of them one number.
            if is_link and (key in self._read or identity in self._above):
                self._found.pass_over("repeated", path)
                continue
            self._read.add(key)
            self._found.identities[path] = identity
            self._found.add_folder(path)
            if self._num_left is not None:
                with os.scandir(self._root / path) as entries:
                    self._num_left -= sum(1 for _ in entries)
                if self._num_left < 0:
                    raise TooManyFilesError
            waiting += self._read_folder(path)

    def _read_folder(self, path: str) -> list[str]:
        """Sort the entries of a folder into the collector, and return its real subfolders."""
        names, numbers = folder_state.read_folder(self._root / path, with_stamps=self._with_stamps)
        if self._with_stamps:
            self._found.digests[path] = folder_state.digest_of(names, numbers)
        before = f"{path}/" if path else ""
        subfolders, images = [], []
        stamps = array("q")
        for name, first in zip(names, range(0, len(numbers), folder_state.NUMBERS_PER_NAME), strict=True):
            kind = numbers[first]
            if kind in (folder_state.FOLDER, folder_state.LINKED_FOLDER):
                if is_litter_folder(name):
                    self._found.pass_over("litter", f"{name}/")
                elif kind == folder_state.LINKED_FOLDER:
                    self._links.append(before + name)
                else:
                    subfolders.append(before + name)
            elif self._is_image(name, kind, before + name):
                images.append(name)
                if kind in (folder_state.FILE, folder_state.LINKED_FILE):
                    stamps.extend(numbers[first + 1 : first + 4])
                else:
                    stamps.extend((-1, 0, 0))
        self._found.images.add(path, images, stamps if self._with_stamps else None)
        return subfolders

    def _is_image(self, name: str, kind: int, path: str) -> bool:
        """Whether a file is an image; what is none goes into the collector."""
        if is_litter_file(name):
            self._found.pass_over("litter", name)
            return False
        if is_image_name(name):
            return True
        if kind == folder_state.DEAD_LINK:
            self._found.pass_over("dead_links", path)
            return False
        if is_image(name, lambda: _first_bytes_of(self._root / path, kind)):
            return True
        self._found.add_other(path)
        return False


def folder_identity(folder: Path) -> tuple[int, int]:
    """(device, inode): the same for a folder and for a link to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one. `entry.is_dir` raises an error for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _first_bytes_of(path: Path, kind: int) -> bytes:
    """The first bytes of a regular file; none of another kind (a named pipe would block), or of an unreadable file."""
    try:
        return read_first_bytes(path) if kind in (folder_state.FILE, folder_state.LINKED_FILE) else b""
    except OSError:
        return b""


def _part(tally: Tally, one: str, several: str) -> str:
    if not tally.count:
        return ""
    examples = ", ".join(printable(name) for name in tally.examples)
    more = ", …" if tally.count > len(tally.examples) else ""
    return f"{tally.count:,} {one if tally.count == 1 else several} ({examples}{more})"
