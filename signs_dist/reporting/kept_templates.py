"""What Jinja2 makes of the templates, kept in the user's cache folder: to make it takes 0.2 s of a core."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import stat

import jinja2
from jinja2.bccache import Bucket

from signs_dist.environment.user_cache import home_cache_folder


class KeptTemplates(jinja2.FileSystemBytecodeCache):
    """Jinja2's own cache of files. Where a file cannot be read or written, the template is compiled as without it."""

    def load_bytecode(self, bucket: Bucket) -> None:
        """As Jinja2's. A damaged file is passed over."""
        try:
            super().load_bytecode(bucket)
        except Exception:  # noqa: BLE001 - pickle raises errors of many types for a damaged file
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """As Jinja2's. On a full disk nothing is kept."""
        with contextlib.suppress(OSError):
            super().dump_bytecode(bucket)


def kept_templates() -> KeptTemplates | None:
    """The cache, by the version of Jinja2; None without a folder that only this user can write: it holds code."""
    cache = home_cache_folder(os.environ)
    if cache is None:
        return None
    folder = cache / f"templates-of-jinja2-{importlib.metadata.version('jinja2')}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_own = (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
    return KeptTemplates(str(folder)) if is_own else None
