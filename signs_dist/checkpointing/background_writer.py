"""Writing checkpoints in a thread while training continues."""

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
        store: where to write.
        warn: called with a message when a save has failed; None: `submit`, `wait` and `check` raise the error instead.

    Attributes:
        last_write_seconds: duration of the last write; 0 before the first.
    """

    def __init__(self, store: CheckpointStore, warn: Callable[[str], None] | None) -> None:
        self._store, self._warn = store, warn
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.last_write_seconds = 0.0

    def submit(
        self,
        cursor: Cursor,
        content: Mapping[str, Any],
        best: Cursor | None,
        before: Callable[[], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """Start to write, after the previous save has ended. The thread calls `before` first, and `after` at its end.

        Raises:
            SaveError: the previous save failed.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._run, args=(cursor, content, best, before, after), name="checkpoint", daemon=True
        )
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        """Whether a save is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the running save. Raises SaveError if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise SaveError if a save failed. Never waits."""
        error, self._error = self._error, None
        if error is None:
            return
        if self._warn is not None and isinstance(error, SaveError):
            self._warn(f"{error} Training continues without this checkpoint (checkpoint.on_error=warn).")
            return
        try:
            raise error
        finally:
            del error  # the error's traceback refers to this frame, and the frame must not refer to the error

    def _run(
        self,
        cursor: Cursor,
        content: Mapping[str, Any],
        best: Cursor | None,
        before: Callable[[], None],
        after: Callable[[], None] | None,
    ) -> None:
        started = time.perf_counter()
        try:
            try:
                before()
                self._store.write(cursor, content, best)
            finally:
                self.last_write_seconds = time.perf_counter() - started
                if after is not None:
                    after()
        except BaseException as error:  # noqa: BLE001 - raised in the main thread by `check`
            self._error = error
