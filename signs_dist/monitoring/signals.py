"""Signals that ask to stop: the first stops at the next step and saves; a second Ctrl-C stops now.

SIGINT is Ctrl-C. A scheduler sends SIGTERM or SIGUSR2, perhaps to every process of a job and more than once. SIGUSR1 is
not handled: NCCL uses it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from signs_dist.errors import EXIT_INTERRUPTED, EXIT_STOPPED

SCHEDULER_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""What schedulers and launchers send to end or preempt a job."""

SAME_SECONDS = 1.0
"""Signals this close together count as one: the terminal sends Ctrl-C to all processes, and torchrun sends it again."""
END = b"\0"
"""The byte at which the watching thread ends; no signal has the number 0."""
END_SECONDS = 3.0
"""How long the second Ctrl-C waits for the main thread, which may be stuck in a collective."""


class StopRequest:
    """Whether a signal asked this process to stop. The handler only sets a flag, which the training loop reads.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR2 ask to stop. With several processes, give this object to `ExactStep` and read
    `ExactStep.stop_agreed`: a scheduler's signals do not reach all processes at the same step.

    Example:
        >>> import os, signal, signs_dist as sd
        >>> stop = sd.StopRequest()
        >>> with stop.handling():
        ...     for step in range(100):
        ...         if step == 3:
        ...             os.kill(os.getpid(), signal.SIGTERM)   # as SLURM does before the time limit
        ...         if stop.is_set:
        ...             break                                  # save first
        >>> step, stop.signal_number == signal.SIGTERM
        (3, True)

    Args:
        clock: returns seconds.
        is_alone: whether this is the run's only process. If not, this process ignores schedulers' signals after an
            error has left the block: a launcher sends them as soon as another process is gone, and this process must
            still report its error.

    Attributes:
        is_set: whether a signal asked to stop.
        signal_number: the first such signal, or 0. SIGTERM after SIGUSR2 replaces it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, is_alone: bool = True) -> None:
        self._is_alone = is_alone
        self.is_set = False
        self.signal_number = 0
        self._clock = clock
        self._time = 0.0

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Within the block, signals that ask to stop set the flag, and a second SIGINT raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python sets and runs signal handlers in the main thread only
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, *SCHEDULER_SIGNALS)}
        try:
            with _watched(self._clock):
                yield
        except BaseException:
            if not self._is_alone:
                before |= dict.fromkeys(SCHEDULER_SIGNALS, signal.SIG_IGN)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if not self.is_set:
            self.is_set, self.signal_number, self._time = True, number, now
        elif (self.signal_number, number) == (signal.SIGUSR2, signal.SIGTERM):
            self.signal_number = number  # SIGUSR2 was the early notice; now the scheduler ends the job
        elif number == signal.SIGINT and now - self._time > SAME_SECONDS:
            raise KeyboardInterrupt


def stop_reason(numbers: Iterable[int]) -> tuple[str, int]:
    """The name of the signal that stopped a run, for messages, and the exit code.

    A scheduler's signal outranks Ctrl-C: after both, the run is resumed later.

    Args:
        numbers: the signal that each process received, 0 for none.
    """
    received = [number for number in numbers if number]
    for number in SCHEDULER_SIGNALS:
        if number in received:
            return signal.Signals(number).name, EXIT_STOPPED
    return "Ctrl-C", EXIT_INTERRUPTED


@contextlib.contextmanager
def _watched(clock: Callable[[], float]) -> Iterator[None]:
    """End the process some seconds after the second SIGINT, even if the main thread never returns to Python."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, clock), name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # Closing does not end the thread: forked loader workers hold the writing end too.
        writer.send(END)
        thread.join()
        writer.close()
        reader.close()


def _watch(reader: socket.socket, clock: Callable[[], float]) -> None:
    first: float | None = None
    while END not in (received := reader.recv(64)):
        for number in received:
            if number != signal.SIGINT:
                continue
            if first is None:
                first = clock()
            elif clock() - first > SAME_SECONDS:
                reader.settimeout(END_SECONDS)
                try:
                    while END not in reader.recv(64):
                        pass
                except TimeoutError:
                    end_now(EXIT_INTERRUPTED)
                return


CALLBACK_SECONDS = 1.0
"""How long `end_now` waits for the functions of `call_at_end`."""
_at_end: list[Callable[[int], None]] = []


def call_at_end(report: Callable[[int], None]) -> None:
    """Have `end_now` call `report` with the exit code, for a launcher that does not see the exit code itself."""
    _at_end.append(report)


def no_call_at_end(report: Callable[[int], None]) -> None:
    """Take back `call_at_end(report)`."""
    _at_end.remove(report)


def end_now(code: int) -> None:
    """End this process and its workers at once. Only the functions of `call_at_end` run before."""
    try:
        if _at_end:  # a file system that hangs must not delay the end
            thread = threading.Thread(target=lambda: [report(code) for report in _at_end], daemon=True)
            thread.start()
            thread.join(CALLBACK_SECONDS)
        for child in multiprocessing.active_children():
            child.kill()
    finally:
        os._exit(code)
