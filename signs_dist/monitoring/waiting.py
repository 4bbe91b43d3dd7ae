"""Saying what this process waits for, when it waits long. No wait of this package is silent."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator

NOTICE_SECONDS = 10.0
"""A wait that takes longer is told: before a person begins to wonder what the program does."""
REPEAT_SECONDS = 60.0
"""How often it is told again."""
POLL_SECONDS = 0.5
"""How often the thread looks."""


@dataclasses.dataclass
class _Wait:
    describe: Callable[[], str]
    begun: float
    next_notice: float
    limit_seconds: float | None
    on_limit: Callable[[float], None] | None


class WaitWatcher:
    """A thread that tells what this process waits for. It starts with the first wait.

    Args:
        tell: gets one line; standard error by default.
        notice_seconds: a wait that takes longer is told, and again every `REPEAT_SECONDS`.

    Example:
        >>> watcher = WaitWatcher(print, notice_seconds=0.05)
        >>> with watcher.waiting(lambda: "waits for the printer"):
        ...     time.sleep(0.5)
        waits for the printer (0 s so far)
        >>> watcher.close()
    """

    def __init__(self, tell: Callable[[str], None] | None = None, *, notice_seconds: float = NOTICE_SECONDS) -> None:
        self._tell = tell or tell_on_standard_error
        self._notice_seconds = notice_seconds
        self._wait: _Wait | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def waiting(
        self,
        describe: Callable[[], str],
        *,
        limit_seconds: float | None = None,
        on_limit: Callable[[float], None] | None = None,
    ) -> Iterator[None]:
        """Within the block this process waits.

        Args:
            describe: says for what: subject and verb, without a period; "" says nothing. It is called in the thread.
            limit_seconds: `on_limit` is called once after this time; None: never.
            on_limit: is called in the thread with the seconds waited, such as to end a process that hangs in a read.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="waits", daemon=True)
            self._thread.start()
        before, now = self._wait, time.monotonic()
        self._wait = _Wait(describe, now, now + self._notice_seconds, limit_seconds, on_limit)
        try:
            yield
        finally:
            self._wait = before

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(POLL_SECONDS)  # it may be telling on a stream that nobody reads

    def _watch(self) -> None:
        interval = min(POLL_SECONDS, self._notice_seconds / 2)
        while not self._done.wait(interval):
            wait, now = self._wait, time.monotonic()
            if wait is None:
                continue
            waited = now - wait.begun
            if now >= wait.next_notice:
                wait.next_notice = now + REPEAT_SECONDS
                what = wait.describe()
                if what and wait is self._wait:  # it may be over meanwhile
                    self._tell(f"{what} ({waited:.0f} s so far)")
            if wait.on_limit is not None and wait.limit_seconds is not None and waited > wait.limit_seconds:
                on_limit, wait.on_limit = wait.on_limit, None
                on_limit(waited)


@contextlib.contextmanager
def telling(
    describe: Callable[[], str],
    *,
    tell: Callable[[str], None] | None = None,
    notice_seconds: float | None = None,
) -> Iterator[None]:
    """Within the block, a wait that takes longer than `notice_seconds` is told, as `WaitWatcher.waiting` does."""
    watcher = WaitWatcher(tell, notice_seconds=NOTICE_SECONDS if notice_seconds is None else notice_seconds)
    try:
        with watcher.waiting(describe):
            yield
    finally:
        watcher.close()


def tell_on_standard_error(line: str) -> None:
    """Print a line to standard error, if there is one."""
    stream = sys.stderr
    if stream is None:  # a program may be started with its streams closed
        return
    with contextlib.suppress(OSError, ValueError):  # the reader is gone, or the stream is closed
        print(line, file=stream, flush=True)
