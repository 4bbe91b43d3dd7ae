"""Progress of a long job: a bar with an ETA on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_SHARE = 0.1
"""Without a terminal: a line each time this share more is done,"""
PLAIN_SECONDS = 30.0
"""or when so long has passed since the last line,"""
PLAIN_PAUSE_SECONDS = 2.0
"""but never two lines closer together than this."""


class ProgressLine:
    """A context in which `advance` is called as items get done. Writes to standard error."""

    def __init__(
        self, what: str, total: int, *, unit: str = "images", quiet: bool = False, stream: TextIO | None = None
    ):
        self.what = what
        self.total = total
        self.unit = unit
        self.quiet = quiet
        self.done = 0
        self._stream = stream if stream is not None else sys.stderr
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._last_line = time.monotonic()
        self._last_done = 0

    def __enter__(self) -> ProgressLine:
        self._started = self._last_line = time.monotonic()
        if not self.quiet and self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                TextColumn("ETA"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(file=self._stream), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Say that `count` more items are done."""
        self.done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count)
        elif not self.quiet and self._line_is_due(time.monotonic()):
            self._write_line(time.monotonic())

    def _line_is_due(self, now: float) -> bool:
        if now - self._last_line < PLAIN_PAUSE_SECONDS:
            return False
        share = (self.done - self._last_done) / max(1, self.total)
        return share >= PLAIN_SHARE or now - self._last_line >= PLAIN_SECONDS

    def _write_line(self, now: float) -> None:
        seconds_left = (now - self._started) * (self.total - self.done) / max(1, self.done)
        print(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit}, {100 * self.done / max(1, self.total):.0f} %, "
            f"ETA {duration(seconds_left)}",
            file=self._stream,
            flush=True,
        )
        self._last_line = now
        self._last_done = self.done


def duration(seconds: float) -> str:
    """A length of time to be read by people: `42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
