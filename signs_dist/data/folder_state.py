"""The names in a folder with the sizes and times of its files, and a digest of them that shows a change.

This file imports nothing of signs_dist: it is also run by itself, `python -I -S folder_state.py`, as a process that
starts within 20 ms and looks at a share of a million files. It reads paths of folders from standard input, each with a
zero byte at its end, and writes a line with the digest of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from array import array

FOLDER, LINKED_FOLDER, FILE, LINKED_FILE, DEAD_LINK, OTHER = range(6)
"""What an entry of a folder is; OTHER is a device, a pipe, or what this process may not look at, but for folders."""
NUMBERS_PER_NAME = 4
UNREADABLE = "-"
"""Written in place of the digest of a folder that cannot be read."""
_KIND_BITS = 0o170000
"""Of a mode, as in inode(7)."""
_MOST = 2**63 - 1


def read_folder(folder: str | bytes | os.PathLike[str], *, with_stamps: bool = True) -> tuple[list[str], array[int]]:
    """(names of all entries, sorted; for each name its kind and three numbers more).

    The three are size in bytes, time of modification and time of change in nanoseconds, for FILE and LINKED_FILE;
    device and inode of its folder and 0 for LINKED_FOLDER; else, and without stamps, 0. Times after the year 2262 are
    those of that year: 64 bits hold no more.

    Raises:
        OSError: the folder cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not with_stamps:
            return _kinds(descriptor)
        with os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in entries)
        numbers = array("q")
        folders = None
        for name in names:
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:  # in a folder that may be read and not entered, of each name
                folders = _names_of_folders(descriptor) if folders is None else folders
                numbers.extend((FOLDER if name in folders else OTHER, 0, 0, 0))
                continue
            if status.st_mode & _KIND_BITS == stat.S_IFREG:  # nearly all: the time of a start is that of this line
                try:
                    numbers.fromlist([FILE, status.st_size, status.st_mtime_ns, status.st_ctime_ns])
                except OverflowError:  # none of the four was added
                    numbers.extend((FILE, *_stamp(status)))
            else:
                numbers.extend(_look_further(name, descriptor, status.st_mode))
    finally:
        os.close(descriptor)
    return names, numbers


def _look_further(name: str, descriptor: int, mode: int) -> tuple[int, int, int, int]:
    """The kind and the numbers of what is no regular file itself."""
    if not stat.S_ISLNK(mode):
        return FOLDER if stat.S_ISDIR(mode) else OTHER, 0, 0, 0
    try:
        status = os.stat(name, dir_fd=descriptor)
    except OSError:
        return DEAD_LINK, 0, 0, 0
    if stat.S_ISREG(status.st_mode):
        return LINKED_FILE, *_stamp(status)
    if stat.S_ISDIR(status.st_mode):
        return LINKED_FOLDER, status.st_dev & _MOST, status.st_ino & _MOST, 0
    return OTHER, 0, 0, 0


def _names_of_folders(descriptor: int) -> set[str]:
    """The folders in a folder, as far as the system tells it with their names. None of them is looked at."""
    found = set()
    with os.scandir(descriptor) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    found.add(entry.name)
    return found


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, min(status.st_mtime_ns, _MOST), min(status.st_ctime_ns, _MOST)


def _kinds(descriptor: int) -> tuple[list[str], array[int]]:
    """The names and what the system tells with them: no file is looked at, except through links."""
    found = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            try:
                is_link = entry.is_symlink()
                if entry.is_dir():
                    kind = LINKED_FOLDER if is_link else FOLDER
                elif entry.is_file():
                    kind = LINKED_FILE if is_link else FILE
                else:
                    kind = DEAD_LINK if is_link and not _leads_somewhere(entry.name, descriptor) else OTHER
            except OSError:  # such as a link to itself
                kind = DEAD_LINK
            found.append((entry.name, kind))
    found.sort()
    numbers = array("q", (number for _, kind in found for number in (kind, 0, 0, 0)))
    return [name for name, _ in found], numbers


def _leads_somewhere(name: str, descriptor: int) -> bool:
    try:
        os.stat(name, dir_fd=descriptor)
    except OSError:
        return False
    return True


def digest_of(names: list[str], numbers: array[int]) -> str:
    """A text that is another one when a name, a size or a time in a folder is another one."""
    hasher = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    hasher.update(b"\0\0")
    hasher.update(numbers)
    return hasher.hexdigest()[:32]


def digest_now(folder: str | bytes) -> str:
    """The digest of a folder as it is now; `UNREADABLE` if it cannot be read."""
    try:
        return digest_of(*read_folder(folder))
    except OSError:
        return UNREADABLE


def main() -> None:
    """Write the digest of each folder whose path comes from standard input."""
    folders = sys.stdin.buffer.read().split(b"\0")[:-1]
    for folder in folders:
        print(digest_now(folder))


if __name__ == "__main__":
    main()
