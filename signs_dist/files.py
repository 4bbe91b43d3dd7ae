"""Writing a file as a whole: a reader sees its old content or its new content, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
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


def explained(error: OSError, path: Path, doing: str = "write") -> OSError | UserError:
    """The error to raise for `error` at `path`: a `UserError` if the user can act on it, else `error`.

    Args:
        error: what was raised.
        path: what was to be written, or opened.
        doing: `write` or `open`.
    """
    if error.errno in NO_SPACE:
        other_folder = " Or choose another folder." if _depends_on_folder(error) else ""
        return UserError(f"{explain_no_space(error, path)}{other_folder}")
    if error.errno in _CANNOT_WRITE:
        way_out = f"Choose a path that you may {'write to' if doing == 'write' else 'open'}."
        return UserError(f"cannot {doing} {path}: {error.strerror}{_whose(error, path)}. {way_out}")
    return error


def explain_no_space(error: OSError, path: Path) -> str:
    """What is used up when `path` cannot be written (`NO_SPACE`), and what to do about it, in two sentences."""
    if error.errno == errno.EFBIG:
        return f"cannot write {path}: {error.strerror}. {explain_file_size()}"
    failed = f"no space left while writing {path}: {error.strerror}"
    if error.errno == errno.EDQUOT:
        return f"{failed}. Your quota on this file system is used up: remove files of yours, or ask for more."
    with contextlib.suppress(OSError):
        system = os.statvfs(_existing(path))
        free = system.f_bavail * system.f_frsize
        if free and not system.f_favail and system.f_files:
            return f"{failed}. The file system has no inode left for another file: remove many small files there."
        return f"{failed}. {free:,} bytes are free there: free some space."
    return f"{failed}. Free some space there."


def explain_file_size() -> str:
    """What allows no larger file (EFBIG), in a sentence: a limit of this session, or the file system."""
    limit = _file_size_limit()
    if limit is None:
        return "The file system takes no larger file."
    return f"This session limits a file to {limit:,} bytes (ulimit -f): raise it with ulimit."


def _depends_on_folder(error: OSError) -> bool:
    """Whether a write without room (`NO_SPACE`) may succeed in a folder of another file system."""
    return error.errno != errno.EFBIG or _file_size_limit() is None


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


def umask() -> int:
    """The permissions that this process takes from the files and folders that it makes."""
    # A process can read its umask only by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
