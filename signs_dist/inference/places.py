"""Where an evaluation keeps packed and drawn images: in the run's own folders, or in the user's cache folder.

The current folder may be any: nothing is made in it.
"""

from __future__ import annotations

import os
from pathlib import Path


def find_writable(folder: str, working_folder: str | None) -> Path | None:
    """A folder that a run named, if it is there, or can be made within its parent folder; else None.

    Args:
        folder: as the run named it; a relative path is relative to the run's working folder.
        working_folder: the folder in which the run was started; None if it is not known.
    """
    path = Path(folder)
    if not path.is_absolute():
        if working_folder is None:
            return None
        path = Path(working_folder, path)
    existing = path if path.exists() else path.parent
    return path if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK) else None
