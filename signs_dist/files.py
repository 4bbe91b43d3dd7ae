"""Writing files so that a reader never sees half of one."""

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

CANNOT_WRITE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),  # not allowed
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),  # not a place for it
)


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed over `path`, else removed.

    A device or a pipe, such as /dev/stdout, is written to as it is: there is nothing to replace.

    Raises:
        UserError: the disk is full or the folder cannot be written; `path` is as it was before.
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
    """What to raise for `error` while writing `path`: a `UserError` if the user can act on it, else `error` itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"no space left while writing {path}: {error.strerror}. Free some space there, or choose another folder."
        )
    if error.errno in CANNOT_WRITE:
        return UserError(f"cannot write {path}: {error.strerror}. Choose a place that you may write to.")
    return error


def cannot_make(error: OSError, folder: Path) -> UserError:
    """What to raise for `error` while making a folder that the user has named."""
    mended = explained(error, folder)
    if isinstance(mended, UserError):
        return mended
    return UserError(f"cannot make {folder}: {error.strerror}. Choose another place.")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN and infinity are refused: JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # File names that are not UTF-8 come as lone surrogates: these are written as JSON's own escapes, \udcff.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def flush_to_disk(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The process's umask can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
