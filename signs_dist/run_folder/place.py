"""Whether a folder is still where it was opened: it may be moved, deleted or replaced while a run writes into it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Place:
    """A folder at a path, as it was when this object was made. It is kept open until `close`.

    Raises:
        FileNotFoundError: there is no folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # An open folder keeps its identity, and tells its new path when it is moved.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this folder."""
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # the file server may be away for a moment
            return True
        try:
            return os.path.samestat(there, os.fstat(self._descriptor))
        except OSError:  # a file server that no longer knows the open folder
            return False

    def describe_change(self) -> str:
        """What became of the folder, for people, if it is not in place."""
        new = self._find()
        if new is None:
            return f"the run folder {self._path} was deleted during the run, and with it what was saved."
        other = ", and another folder is in its place" if self._path.exists() else ""
        to = f" to {new}" if new else ""
        return (
            f"the run folder {self._path} was moved{to} during the run{other}. What was saved is in it. To resume, "
            f"repeat the command with --run-dir {new or 'and its new name'}"
        )

    def _find(self) -> str | None:
        """The folder's path now; "" where the system does not tell; None if it was deleted."""
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                return None
        except OSError:
            return None
        with contextlib.suppress(OSError):
            return str(Path(f"/proc/self/fd/{self._descriptor}").readlink())
        return ""
