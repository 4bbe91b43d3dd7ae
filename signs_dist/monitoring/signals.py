"""Signals that ask to stop: once stops at the next step and keeps what there is; Ctrl-C twice stops now.

SIGINT is a person's Ctrl-C. SIGTERM and SIGUSR2 are a scheduler's, which may send them to every process of a job, and
more than once; SIGUSR1 is left alone, since NCCL uses it.
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
"""What schedulers and launchers send when a job is to end or to make room."""

SAME_SECONDS = 1.0
"""Signals this close together are one: torchrun passes on the Ctrl-C that the terminal has sent to all by itself."""
END = b"\0"
"""Sent to the watching thread when it is to end; no signal has the number 0."""
END_SECONDS = 3.0
"""How long the second Ctrl-C waits for the main thread, which may be stuck in a collective."""


class StopRequest:
    """Whether this process was asked to stop. The handler only sets a flag; the training loop looks at it.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR2 ask to stop. On several processes give it to `ExactStep`, and look at its
    `stop_agreed`: a scheduler's signals do not reach all processes at the same step.

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
        clock: seconds.
        is_alone: whether this is the run's only process. In one of several, signals of schedulers stay without effect
            when an error has left the block: a launcher that sees another process gone sends them at once, and this
            one is still to say what it knows.

    Attributes:
        is_set: whether it was.
        signal_number: by which signal first; 0 if it was not. SIGTERM after SIGUSR2 takes its place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, is_alone: bool = True) -> None:
        self._is_alone = is_alone
        self.is_set = False
        self.signal_number = 0
        self._clock = clock
        self._time = 0.0

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Within the block, signals that ask to stop set the flag; a second SIGINT raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may have handlers; another has no Ctrl-C either
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
            self.signal_number = number  # the notice was short: the end is here
        elif number == signal.SIGINT and now - self._time > SAME_SECONDS:
            raise KeyboardInterrupt


def stop_reason(numbers: Iterable[int]) -> tuple[str, int]:
    """What asked a run to stop, for people, and the exit code, from the signal that each process got (0: none).

    A scheduler's signal outranks Ctrl-C: where both came, the run is to go on later.
    """
    received = [number for number in numbers if number]
    for number in SCHEDULER_SIGNALS:
        if number in received:
            return signal.Signals(number).name, EXIT_STOPPED
    return "Ctrl-C", EXIT_INTERRUPTED


@contextlib.contextmanager
def _watched(clock: Callable[[], float]) -> Iterator[None]:
    """End the process some seconds after the second SIGINT even if the main thread never runs Python again."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, clock), name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # Closing is not enough to end the thread: loader workers, being forks, hold the writing end too.
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


LAST_WORD_SECONDS = 1.0
_last_callers: list[Callable[[int], None]] = []


def call_at_end(tell: Callable[[int], None]) -> None:
    """Have `end_now` call `tell` with the exit code, for whoever is not told it otherwise."""
    _last_callers.append(tell)


def end_now(code: int) -> None:
    """End this process and its workers at once; nothing more of it runs but what `call_at_end` was given."""
    try:
        if _last_callers:  # a file system that hangs must not keep this process
            thread = threading.Thread(target=lambda: [tell(code) for tell in _last_callers], daemon=True)
            thread.start()
            thread.join(LAST_WORD_SECONDS)
        for child in multiprocessing.active_children():
            child.kill()
    finally:
        os._exit(code)
