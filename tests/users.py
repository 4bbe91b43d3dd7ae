"""Two users of one machine, for tests: root, and nobody. Only root can run them."""

from __future__ import annotations

import contextlib
import encodings.ascii  # noqa: F401  (Python's own files may be for root only)
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")


@contextlib.contextmanager
def acting_as(user: int = NOBODY) -> Iterator[None]:
    """Within the block, this process reads and writes with the rights of another user."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def folder_for_all() -> Iterator[Path]:
    """A temporary folder below folders that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="signs_dist-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
