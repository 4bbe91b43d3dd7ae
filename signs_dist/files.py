"""Writing a file as a whole: a reader sees its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write for which there is no room."""
_CANNOT_WRITE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),  # something else is there
    *(errno.ENAMETOOLONG, errno.ELOOP),  # not a legal path
)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. After the block it is flushed to disk and renamed to `path`.

    After an error in the block it is removed.

    For a device or a pipe, such as /dev/stdout, `path` itself is yielded: there is nothing to replace.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is unchanged.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        os.close(descriptor)
        aside = Path(name)
        try:
            yield aside
            flush_to_disk(aside)
            aside.chmod(0o666 & ~umask())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path, doing: str = "write") -> OSError | UserError:
    """The error to raise for `error` at `path`: a `UserError` if the user can act on it, else `error`.

    Args:
        error: what was raised.
        path: what was to be written, or opened.
        doing: `write` or `open`.
    """
    if error.errno in NO_SPACE:
        return UserError(f"{explain_no_space(error, path)} Or choose another folder.")
    if error.errno in _CANNOT_WRITE:
        way_out = f"Choose a path that you may {'write to' if doing == 'write' else 'open'}."
        return UserError(f"cannot {doing} {path}: {error.strerror}{_whose(error, path)}. {way_out}")
    return error


def explain_no_space(error: OSError, path: Path) -> str:
    """What is used up when `path` cannot be written (`NO_SPACE`), and what to do about it, in two sentences."""
    failed = f"no space left while writing {path}: {error.strerror}"
    if error.errno == errno.EFBIG:
        limit = _file_size_limit()
        if limit is None:
            return f"{failed}. The file system takes no larger file."
        return f"{failed}. This session limits a file to {limit:,} bytes (ulimit -f): raise it with ulimit."
    if error.errno == errno.EDQUOT:
        return f"{failed}. Your quota on this file system is used up: remove files of yours, or ask for more."
    with contextlib.suppress(OSError):
        system = os.statvfs(_existing(path))
        free = system.f_bavail * system.f_frsize
        if free and not system.f_favail and system.f_files:
            return f"{failed}. The file system has no inode left for another file: remove many small files there."
        return f"{failed}. {free:,} bytes are free there: free some space."
    return f"{failed}. Free some space there."


def _file_size_limit() -> int | None:
    """The largest file in bytes that this process may write (`ulimit -f`); None without a limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def _whose(error: OSError, path: Path) -> str:
    """`, and FOLDER belongs to NAME` where permission is denied by a folder or file of another user; else ""."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOTEMPTY):
        return ""
    with contextlib.suppress(OSError, KeyError, ImportError):
        import pwd

        place = _existing(path)
        owner = place.stat().st_uid
        if owner != os.geteuid():
            return f", and {place} belongs to {pwd.getpwuid(owner).pw_name}"
    return ""


def _existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists. Without permission to look, the nearest that can be seen."""
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            place.lstat()
            return place
    return Path("/")


def cannot_make(error: OSError, folder: Path) -> UserError:
    """The error to raise for `error` while making a folder that the user named."""
    described = explained(error, folder)
    if isinstance(described, UserError):
        return described
    return UserError(f"cannot make {folder}: {error.strerror}. Choose another folder.")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # File names that are not UTF-8 hold lone surrogates, which JSON writes as escapes such as \udcff.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """The permissions that this process takes from the files and folders that it makes."""
    # A process can read its umask only by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
