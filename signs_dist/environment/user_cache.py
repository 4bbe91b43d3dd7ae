"""The folder below which the toolkit keeps what is of use to all runs of a user."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def user_cache_folder(environment: Mapping[str, str]) -> Path:
    """`home_cache_folder`, or without a home folder one in the temporary directory, which other users may have made."""
    return home_cache_folder(environment) or Path(tempfile.gettempdir(), f"signs_dist-{os.getuid()}")


def home_cache_folder(environment: Mapping[str, str]) -> Path | None:
    """$XDG_CACHE_HOME/signs_dist, or $HOME/.cache/signs_dist; None without a home folder. For code, too.

    (XDG Base Directory Specification: a relative path is ignored.)
    """
    given = environment.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given, "signs_dist")
    home = environment.get("HOME", "")
    return Path(home, ".cache", "signs_dist") if Path(home).is_absolute() else None
