"""The output of a command: bars and tables on a terminal, else a few plain lines without control codes."""

from __future__ import annotations

import contextlib
import datetime
import io
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from signs_dist.console.streams import LastingStream, describe_trouble
from signs_dist.monitoring.beats import Work
from signs_dist.monitoring.plain_text import without_control

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_WIDTH = 110
"""Columns of the output without a terminal."""


NUMBERS_WIDTH = 72
"""Columns of what stands beside a progress bar: its name, the percentage, the numbers, and the time left."""
SHORTEST_BAR = 8
QUICK_SECONDS = 2.0
"""Work is quick as long as it has taken less than this."""


class Throttle:
    """Lets a line through when another tenth of the work is done, or 30 s after the last line."""

    def __init__(
        self, *, share: float = 0.1, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._seconds, self._clock = share, seconds, clock
        self._last_time = clock()
        self._last_part = 0

    def lets_through(self, done: int, total: int) -> bool:
        """Whether to print now that `done` of `total` is done."""
        part = math.floor(done / total / self._share + 1e-9) if total else 0
        now = self._clock()
        if part == self._last_part and now - self._last_time < self._seconds:
            return False
        self._last_part, self._last_time = part, now
        return True


class _Stamped(io.TextIOBase):
    """A text stream that writes the time before each line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            stamp = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}  " if self._at_start else ""
            self._stream.write(stamp + line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def without_wrong_sizes(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables without a COLUMNS or LINES that is no size: at COLUMNS=0 rich would print nothing."""
    wrong = [name for name in ("COLUMNS", "LINES") if not re.fullmatch("0*[1-9][0-9]*", environment.get(name, ""))]
    return {name: text for name, text in environment.items() if name not in wrong}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Called for a BrokenPipeError: raise it. rich's own method ends the process with exit code 1."""
        raise


class Screen:
    """Standard output of a command.

    Args:
        is_terminal: whether the output is a terminal; if not, no control codes are written and progress is throttled.
        quiet: show only results and errors.
        is_silent: show nothing, and write to the log only: for all processes of a run except rank 0.
        is_notebook: whether the output is a notebook's cell: then every epoch prints a line.
        file: where to write; standard output by default. When a `LastingStream` loses its reader, the log says so.

    Attributes:
        work: the work that a bar shows or would show, for the heartbeat; None without one.
    """

    def __init__(
        self,
        *,
        is_terminal: bool,
        quiet: bool = False,
        is_silent: bool = False,
        is_notebook: bool = False,
        file: TextIO | None = None,
    ) -> None:
        self.is_terminal = is_terminal
        self._shows_every_epoch = is_terminal or is_notebook
        self.quiet = quiet or is_silent
        self._is_silent = is_silent
        self.work: Work | None = None
        width = None if is_terminal else PLAIN_WIDTH
        self._console = _Console(
            file=file or sys.stdout,
            force_terminal=is_terminal,
            force_jupyter=False,  # rich would write into the cell whatever `file` is, the log too
            color_system="auto" if is_terminal else None,
            width=width,
            highlight=False,
            soft_wrap=True,
            _environ=without_wrong_sizes(os.environ),
        )
        self._lasting = file if isinstance(file, LastingStream) else None
        self._news_told: set[str] = set()
        self._log: Console | None = None
        self._throttles: dict[str, Throttle] = {}

    @contextlib.contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Within the block, also write every line to `path`, plain and with the time in front, even if quiet."""
        with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            self._log = Console(
                file=cast("TextIO", _Stamped(stream)),
                force_jupyter=False,
                color_system=None,
                width=PLAIN_WIDTH,
                soft_wrap=True,
                _environ={},
            )
            try:
                yield
            finally:
                self._log = None

    def say(self, line: str) -> None:
        """Print a line, unless quiet."""
        self._show(plain_text(line), seen=not self.quiet)

    def result(self, line: str) -> None:
        """Print a line, even if quiet."""
        self._show(plain_text(line), seen=True)

    def log_only(self, text: str) -> None:
        """Write to the log only, if there is one."""
        if self._log is not None:
            self._log.print(plain_text(text))

    def tables(self, fit: Callable[[int], Iterable[Table]]) -> None:
        """Print the tables that `fit` makes for a number of columns, unless quiet."""
        for console in self._consoles(seen=not self.quiet):
            for table in fit(console.width):
                console.print(table)

    def _show(self, text: Text, *, seen: bool, indent: int | None = None) -> None:
        """Print a line. With `indent`, a terminal breaks it between words, not anywhere, and indents what follows."""
        for console in self._consoles(seen=seen):
            breaks = indent is not None and console is self._console and self.is_terminal
            console.print(Text(break_line(text.plain, console.width, indent or 0)) if breaks else text)
        if self._log is not None:
            self._log_lost_output(self._log)

    def _consoles(self, *, seen: bool) -> list[Console]:
        shown: list[Console] = [self._console] if seen and not self._is_silent else []
        return shown if self._log is None else [*shown, self._log]

    def _log_lost_output(self, log: Console) -> None:
        """Write to the log, once, that nobody reads the output."""
        news = describe_trouble(self._lasting) if self._lasting is not None else ""
        if news and news not in self._news_told:
            self._news_told.add(news)
            log.print(plain_text(news))

    def banner(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print rows of (name, text), the names in a column."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self._show(plain_text(f"{name:>{width}}  {value}"), seen=not self.quiet, indent=width + 2)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[Callable[[str, int, int], None]]:
        """Yield a function to call with (what, images done, total images) while data are prepared."""
        with self._bars() as show:
            begun: dict[str, tuple[float, int]] = {}

            def report(what: str, done: int, total: int) -> None:
                since, before = begun.setdefault(what, (time.monotonic(), done))
                has_bar = show(Work(what, done, total, f"{done:,}/{total:,} images"))
                passed = time.monotonic() - since
                # Of quick work only the end is said.
                if not has_bar and not self.quiet and (done == total or passed >= QUICK_SECONDS):
                    seconds = passed * (total - done) / max(1, done - before)
                    left = f", {seconds:.0f} s left" if before < done < total else ""
                    self._plain(what, done, total, f"{what}: {done:,}/{total:,} images{left}")

            try:
                yield report
            except KeyboardInterrupt:
                if self.work is not None:
                    self.say(f"{self.work.what}: stopped at {self.work.numbers}")
                raise

    @contextlib.contextmanager
    def training(self, total_steps: int, done: int = 0) -> Iterator[Callable[[int, str, str | None], None]]:
        """Yield a function to call with (steps done, numbers to show, time left) while training from step `done`.

        The bar computes its own time left. None for it, at an epoch's last step, moves the bar and prints no line: that
        of the epoch follows.
        """
        with self._bars() as show:
            show(Work("training", done, total_steps, ""))
            self._let_steps_wait()

            def report(done: int, numbers: str, left: str | None) -> None:
                has_bar = show(Work("training", done, total_steps, numbers))
                if not has_bar and not self.quiet and left is not None:
                    line = f"step {done:,}/{total_steps:,} | {numbers} | {left} left"
                    self._plain("a long epoch", done, total_steps, line)

            yield report

    def epoch(self, epoch: int, num_epochs: int, line: str) -> None:
        """Print a line at the end of an epoch: always on a terminal and in a notebook, else if it is not throttled."""
        seen = not self.quiet and (self._shows_every_epoch or self._is_due("training", epoch, num_epochs))
        if seen:
            self._let_steps_wait()
        self._show(plain_text(line), seen=seen, indent=2)

    def _let_steps_wait(self) -> None:
        """Without a terminal, print no line for a step until 30 s have passed without a line for an epoch."""
        self._throttles["a long epoch"] = Throttle(share=math.inf)

    def _plain(self, what: str, done: int, total: int, line: str) -> None:
        if self._is_due(what, done, total):
            self.say(line)

    def _is_due(self, what: str, done: int, total: int) -> bool:
        if what not in self._throttles:
            self._throttles[what] = Throttle()
        return self._throttles[what].lets_through(done, total)

    @contextlib.contextmanager
    def following(self) -> Iterator[Callable[[Work | None], None]]:
        """Yield a function to call with the work of another process, None for none."""
        with contextlib.ExitStack() as stack:
            show: Callable[[Work], bool] | None = None
            shown = ""

            def report(work: Work | None) -> None:
                nonlocal show, shown
                what = work.what if work is not None else ""
                if what != shown:
                    stack.close()
                    show, shown = stack.enter_context(self._bars()) if work is not None else None, what
                if work is not None and show is not None:
                    show(work)

            yield report

    @contextlib.contextmanager
    def _bars(self) -> Iterator[Callable[[Work], bool]]:
        """Yield a function that shows work in a bar of its own name. It returns whether there are bars."""
        with contextlib.ExitStack() as stack:
            bars = stack.enter_context(self._live()) if self.is_terminal and not self.quiet else None
            tasks: dict[str, TaskID] = {}

            def show(work: Work) -> bool:
                self.work = work
                if bars is None:
                    return False
                if work.what not in tasks:
                    tasks[work.what] = bars.add_task(work.what, total=work.total, numbers="")
                bars.update(tasks[work.what], completed=work.done, total=work.total, numbers=work.numbers)
                return True

            try:
                yield show
            finally:
                self.work = None

    def _live(self) -> Progress:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
        from rich.table import Column

        class Numbers(ProgressColumn):
            """Cut where the terminal is narrow, so that the percentage and the time left stay whole."""

            def render(self, task: Task) -> Text:
                return Text(task.fields["numbers"], no_wrap=True, overflow="ellipsis")

        bar_width = choose_bar_width(self._console.width)
        columns = (
            TextColumn("{task.description}", markup=False),
            *([BarColumn(bar_width=bar_width)] if bar_width else []),
            TextColumn("{task.percentage:>3.0f} %"),
            Numbers(table_column=Column()),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        )
        return Progress(*columns, console=self._console, transient=True, refresh_per_second=5)


def break_line(line: str, width: int, indent: int) -> str:
    """A line broken between words where it is longer than `width`; what follows begins with `indent` spaces.

    A word that is longer by itself, such as a path, stays whole: the terminal breaks it, and copies it as one word.
    """
    if len(line) <= width or width <= 2 * indent:
        return line
    after = " " * indent
    parts = textwrap.wrap(line, width, subsequent_indent=after, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)


def choose_bar_width(width: int) -> int:
    """Columns of a progress bar where the screen has `width`; 0 for no bar, to leave room for the numbers beside it."""
    room = min(30, width - NUMBERS_WIDTH)
    return room if room >= SHORTEST_BAR else 0


def is_in_notebook() -> bool:
    """Whether standard output is the output of a notebook's cell."""
    return type(sys.stdout).__module__.startswith("ipykernel.")


def plain_text(text: str) -> Text:
    """Text without markup. Control characters, which a file's name may hold, are shown as escapes."""
    return Text(without_control(text))


def percent(share: float) -> str:
    """A share as `98.1 %`, or `-` for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as `1.2 s`, `12 s`, `3 min 05 s` or `2 h 03 min`."""
    whole = round(seconds)
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text with aligned columns. All rows have the same number of cells."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
