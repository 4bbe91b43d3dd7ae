"""Writing a file as a whole: a reader sees its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
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


def require_writable(path: Path | None, *, keep: Sequence[Path] = ()) -> None:
    """Refuse an output file that cannot be written, before the work for it begins. Nothing is left behind.

    Args:
        path: the file; missing folders above it are made when it is written. None: there is nothing to write.
        keep: files that the output must not replace.

    Raises:
        UserError: the path cannot be written, or is one of `keep`.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise UserError(f"cannot write {path}: it is a folder. Give the path of a file.")
        if any(path.exists() and path.samefile(other) for other in keep):
            raise UserError(f"cannot write {path}: it is one of the inputs. Choose another path.")
        if path.exists() and not path.is_file():
            return  # a device or a pipe
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}. Choose a path that you may write to.") from error


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
