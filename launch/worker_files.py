"""What workers write below the agent's folder: their standard error and their error files."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from signs_dist.errors import EXIT_STOPPED

COPY_SECONDS = 0.1
STANDARD_ERROR = "stderr.log"
"""torch's name for the file that has a worker's standard error (DefaultLogsSpecs)."""
ERROR_FILE = "error.json"
"""torch's name for the file that TORCHELASTIC_ERROR_FILE names."""


@contextlib.contextmanager
def copying_standard_error(folder: Path) -> Iterator[None]:
    """Within the block, copy what workers write to their standard error to this process's, while they write it."""
    done = threading.Event()
    places: dict[Path, int] = {}

    def copy() -> None:
        for path in sorted(folder.rglob(STANDARD_ERROR)):
            with path.open("rb") as stream:
                stream.seek(places.get(path, 0))
                text = stream.read()
            places[path] = places.get(path, 0) + len(text)
            sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()

    def follow() -> None:
        while not done.wait(COPY_SECONDS):
            copy()

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        copy()


def has_begun(folder: Path) -> bool:
    """Whether a worker has been started."""
    return any(folder.rglob(STANDARD_ERROR))


def has_standard_error(folder: Path) -> bool:
    """Whether a worker has written to its standard error."""
    return any(path.stat().st_size for path in folder.rglob(STANDARD_ERROR))


def has_stopped(folder: Path) -> bool:
    """Whether a worker has saved and ended as a scheduler's signal asks.

    This reads its error file: after a signal the agent does not report how its workers ended.
    """
    for path in folder.rglob(ERROR_FILE):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads(path.read_text(encoding="utf-8"))["message"]["errorCode"] == EXIT_STOPPED:
                return True
    return False
