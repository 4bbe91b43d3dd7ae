"""The SHA-256 beside a checkpoint, as `sha256sum -c` reads it: whether the bytes are those that were written."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK_BYTES = 2**20


def digest_path(path: Path) -> Path:
    """The file with a checkpoint's digest."""
    return path.with_name(path.name + ".sha256")


def find_damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes, or "": whether they are those that the digest was made of."""
    try:
        words = digest_path(path).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return f"{digest_path(path).name} is not there"
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not words or words[0] != digest:
        return "its SHA-256 is not the one beside it"
    return ""


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()
