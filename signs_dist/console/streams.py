"""The standard streams of a process: there from the start, and no reason to stop when nobody reads them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from typing import TextIO, TypeGuard, cast

NAMES = ("stdin", "stdout", "stderr")
"""The streams of `sys`, in the order of their file descriptors."""
PATIENCE_SECONDS = 1.0
"""How long an `UnblockedStream` waits for a reader that takes nothing."""
LONGEST_QUEUE = 1000
"""Texts that an `UnblockedStream` keeps for a reader that takes nothing; further ones are dropped."""


def open_missing_streams() -> None:
    """Open /dev/null in place of each standard stream that was closed, as by `>&-` in a shell.

    Else the next file that this process or a child opens would get the descriptor, and with it what is printed.
    """
    for descriptor, name in enumerate(NAMES):
        was_closed = not _is_open(descriptor)
        if was_closed:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, descriptor)  # so that child processes inherit it, even if it is the same
            os.set_inheritable(descriptor, True)
            if opened != descriptor:
                os.close(opened)
        if getattr(sys, name) is None:
            # Python found it closed at its start. If it is open now, it is another file: leave that alone.
            target = descriptor if was_closed else os.open(os.devnull, os.O_RDWR)
            stream = os.fdopen(target, "r" if name == "stdin" else "w", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class LastingStream(io.TextIOBase):
    """A text stream that stays usable when nobody reads it any more: what is written then is dropped.

    That is after a reader such as `head` has ended, a terminal has gone, or a disk is full. A character that the
    encoding lacks is written as an escape.

    Args:
        stream: writes to a file descriptor, which this stream writes to without another buffer.

    Attributes:
        trouble: why nothing is written any more, or "".
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._descriptor = stream.fileno()
        self._started_lines = threading.local()  # no lock: a forked process would inherit it locked
        self.trouble = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the stream below."""
        return self._stream.encoding

    @property
    def buffer(self) -> io.BufferedIOBase:
        """Of the stream below, for bytes."""
        return cast("io.BufferedIOBase", self._stream.buffer)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Write whole lines at once; the rest waits for its end, or for `flush`."""
        lines, newline, rest = (getattr(self._started_lines, "text", "") + text).rpartition("\n")
        self._started_lines.text = rest
        if newline:
            self._send(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Write the started line."""
        text = getattr(self._started_lines, "text", "")
        self._started_lines.text = ""
        if text:
            self._send(text)

    def _send(self, text: str) -> None:
        if self.trouble:
            return
        left = memoryview(text.encode(self.encoding, "backslashreplace"))
        try:
            self._stream.flush()  # what others have written
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # another process has made it non-blocking
                    select.select([], [self._descriptor], [])
        except (OSError, ValueError) as error:  # ValueError: closed
            self.trouble = getattr(error, "strerror", None) or str(error)


class UnblockedStream(LastingStream):
    """A `LastingStream` that does not wait for ever for a reader that takes nothing, as of a terminal after Ctrl-S.

    A thread writes. When it has been blocked for `patience_seconds`, writers no longer wait for it. Call `close_thread`
    at the end.

    Args:
        stream: as for `LastingStream`.
        patience_seconds: how long writers wait.

    Attributes:
        is_stuck: whether the reader takes nothing.
    """

    def __init__(self, stream: io.TextIOWrapper, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__(stream)
        self.is_stuck = False
        self._patience_seconds = patience_seconds
        self._process_id = os.getpid()
        self._texts: queue.SimpleQueue[tuple[str, threading.Event] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._has_ended = False

    def close_thread(self) -> None:
        """Write what waits, but give up on a reader that takes nothing, and end the thread."""
        self._has_ended = True
        thread, self._thread = self._thread, None
        if thread is None or os.getpid() != self._process_id:
            return
        self._texts.put(None)
        while thread.is_alive():
            num_left = self._texts.qsize()
            thread.join(self._patience_seconds)
            if thread.is_alive() and self._texts.qsize() == num_left:
                self.trouble = "nobody reads it"
                return

    def _send(self, text: str) -> None:
        if self._has_ended or os.getpid() != self._process_id:  # a forked process does not have the thread
            super()._send(text)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_texts, name="output", daemon=True)
            self._thread.start()
        if self._texts.qsize() >= LONGEST_QUEUE:
            return
        done = threading.Event()
        self._texts.put((text, done))
        if not self.is_stuck and not done.wait(self._patience_seconds):
            self.is_stuck = True

    def _write_texts(self) -> None:
        while (item := self._texts.get()) is not None:
            text, done = item
            super()._send(text)
            self.is_stuck = False
            done.set()


def describe_trouble(stream: LastingStream) -> str:
    """One line for the log on why a stream shows nothing; "" while it does."""
    if stream.trouble:
        return f"standard output cannot be written any more ({stream.trouble}): the run continues, and this log has all"
    if isinstance(stream, UnblockedStream) and stream.is_stuck:
        return "nobody reads standard output: the run continues without waiting, and this log has all"
    return ""


def lasting(stream: TextIO) -> TextIO:
    """The stream as a `LastingStream`; unchanged if it has no file descriptor of its own, as in a notebook."""
    return cast("TextIO", LastingStream(stream)) if _has_descriptor(stream) else stream


@contextlib.contextmanager
def unblocked(stream: TextIO) -> Iterator[TextIO]:
    """Within the block, the stream as an `UnblockedStream`; unchanged if it has no file descriptor of its own."""
    if not _has_descriptor(stream):
        yield stream
        return
    output = UnblockedStream(stream)
    try:
        yield cast("TextIO", output)
    finally:
        output.close_thread()


def _has_descriptor(stream: TextIO | None) -> TypeGuard[io.TextIOWrapper]:
    """Whether a stream writes to a file descriptor, as Python's own do, and not into a notebook's cell or a string."""
    if not isinstance(stream, io.TextIOWrapper):
        return False
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


@contextlib.contextmanager
def prepared_streams() -> Iterator[None]:
    """Within the block all standard streams can be used, and nothing that is printed raises UnicodeEncodeError.

    Standard error is an `UnblockedStream`: a message that nobody reads neither stops its writer nor changes its end.
    """
    open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the terminal's encoding lacks, and file names that are not UTF-8, must not end a run.
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is not sys.__stderr__ or not _has_descriptor(sys.stderr):  # a test or a notebook has replaced it
        yield
        return
    with unblocked(sys.stderr) as sys.stderr:
        yield


def finish_output() -> None:
    """Write out what standard output still holds. If that fails, drop it, so that Python's exit does not fail too."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.stdout.flush()


def is_output_lost() -> bool:
    """Whether nothing can be written to standard output: its reader or its terminal has gone, or it is for reading."""
    try:
        descriptor = sys.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
        is_gone = any(event & gone for _, event in poll.poll(0))
        return is_gone or fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except (OSError, ValueError):
        return False
