"""Writes checkpoints in a thread, so that training goes on meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.errors import SaveError


class BackgroundWriter:
    """Writes checkpoints in a thread, one at a time.

    Args:
        store: where they go.
        warn: called with a message, in place of ending the run, when a save has failed; None ends it.
    """

    def __init__(self, store: CheckpointStore, warn: Callable[[str], None] | None) -> None:
        self._store, self._warn = store, warn
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.last_write_seconds = 0.0

    def submit(
        self, cursor: Cursor, content: Mapping[str, Any], best: Cursor | None, before: Callable[[], None]
    ) -> None:
        """Begin to write, after the save before has ended; `before` is called first, in the thread.

        Raises:
            SaveError: the save before has failed.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(cursor, content, best, before), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save that is under way. Raises SaveError if it has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise SaveError if a save has failed; never waits."""
        error, self._error = self._error, None
        if error is None:
            return
        if self._warn is not None and isinstance(error, SaveError):
            self._warn(f"{error} Going on without (checkpoint.on_error=warn).")
            return
        raise error

    def _run(self, cursor: Cursor, content: Mapping[str, Any], best: Cursor | None, before: Callable[[], None]) -> None:
        started = time.perf_counter()
        try:
            before()
            self._store.write(cursor, content, best)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread by `check`
            self._error = error
        self.last_write_seconds = time.perf_counter() - started
