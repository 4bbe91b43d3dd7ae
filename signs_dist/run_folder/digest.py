"""The SHA-256 of a checkpoint in a file beside it, in the form of `sha256sum -c`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from signs_dist.files import find_other_kind

BLOCK_BYTES = 2**20
DIGEST_BYTES = 2**16
"""How much of a digest's file is read: its line has 64 hexadecimal digits and a file name."""


def digest_path(path: Path) -> Path:
    """The file that holds a checkpoint's SHA-256."""
    return path.with_name(path.name + ".sha256")


def find_damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes, or "" if they match the SHA-256 beside it.

    A run that trains replaces its `last.pt` and `best.pt`, one file after the other. So a difference counts only if
    neither file was replaced meanwhile.
    """
    while True:
        before = _identity(path), _identity(digest_path(path))
        damage = _compare(path)
        if not damage or before == (_identity(path), _identity(digest_path(path))):
            return damage


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_digest(path: Path) -> str:
    """The SHA-256 (hex) that stands beside a checkpoint; "" if its file is empty.

    Raises:
        OSError: the file of the digest cannot be read.
    """
    with digest_path(path).open(encoding="utf-8", errors="replace") as stream:
        words = stream.read(DIGEST_BYTES).split()
    return words[0] if words else ""


def _compare(path: Path) -> str:
    beside = digest_path(path)
    for file, name in ((path, "it"), (beside, beside.name)):
        if kind := find_other_kind(file):  # to open a pipe would wait for a writer
            return f"{name} is {kind}, not a file"
    try:
        stated = read_digest(path)
    except FileNotFoundError:
        return f"{beside.name} does not exist"
    except OSError as error:
        return f"{beside.name} cannot be read: {error.strerror or error}"
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return "" if stated == digest else "its SHA-256 differs from the SHA-256 beside it"


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()
