"""The SHA-256 of a checkpoint in a file beside it, in the form of `sha256sum -c`."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK_BYTES = 2**20


def digest_path(path: Path) -> Path:
    """The file that holds a checkpoint's SHA-256."""
    return path.with_name(path.name + ".sha256")


def find_damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes, or "" if they match the SHA-256 beside it."""
    try:
        words = digest_path(path).read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return f"{digest_path(path).name} does not exist"
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    if not words or words[0] != digest:
        return "its SHA-256 differs from the SHA-256 beside it"
    return ""


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
    return hasher.hexdigest()
