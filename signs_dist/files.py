"""Writing a file as a whole: a reader sees its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError

_CANNOT_WRITE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),  # not a legal path
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
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path) -> OSError | UserError:
    """The error to raise for `error` while writing `path`: a `UserError` if the user can act on it, else `error`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"no space left while writing {path}: {error.strerror}. Free some space there, or choose another folder."
        )
    if error.errno in _CANNOT_WRITE:
        return UserError(f"cannot write {path}: {error.strerror}. Choose a path that you may write to.")
    return error


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


def find_other_kind(path: Path) -> str:
    """What `path` is if it is no regular file, such as "a folder"; "" for a regular file, and where nothing is.

    To open a pipe without a writer waits for ever, so a path from outside is looked at before it is opened.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else ""
    except OSError as error:  # a loop of links, a parent that is a file or may not be read
        return "a loop of links" if error.errno == errno.ELOOP else ""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe (FIFO)"),
        (stat.S_ISSOCK, "a socket"),
        (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
    )
    return next((kind for is_kind, kind in kinds if is_kind(mode)), "")


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # A process can read its umask only by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
