"""Signals that ask to stop: the first stops at the next step and saves; a second Ctrl-C stops now.

SIGINT is Ctrl-C. A scheduler sends SIGTERM or SIGUSR2, perhaps to every process of a job and more than once; the system
sends SIGHUP when a terminal goes, and SIGXCPU at a limit on CPU time. SIGUSR1 is not handled: NCCL uses it.

`StopRequest` is for the time of training: a signal sets a flag. `CommandSignals` is for the rest of a command: a signal
raises an exception in the main thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from signs_dist.errors import EXIT_INTERRUPTED, EXIT_STOPPED

SCHEDULER_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""What schedulers and launchers send to end or preempt a job."""
STOP_SIGNALS = (*SCHEDULER_SIGNALS, signal.SIGHUP, signal.SIGXCPU)
"""All signals, beside SIGINT, after which a run is saved and ends with exit code 75."""

SAME_SECONDS = 1.0
"""Signals this close together count as one: the terminal sends Ctrl-C to all processes, and torchrun sends it again."""
END = b"\0"
"""The byte at which the watching thread ends; no signal has the number 0."""
END_SECONDS = 3.0
"""How long a signal waits for the main thread, which may be stuck in a collective."""


def handled_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, and the stop signals that this process handles: all, but SIGHUP not where `nohup` ignores it."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, *(number for number in STOP_SIGNALS if number != signal.SIGHUP or not is_ignored))


class StoppedBySignal(KeyboardInterrupt):
    """A signal other than Ctrl-C ended a command before or after training. `except Exception` does not catch it.

    Args:
        number: of the signal.
    """

    exit_code = EXIT_STOPPED

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")


_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class CommandSignals:
    """Ends a command at a signal: the command cleans up as after an error, and one line says what has stopped it.

    The first signal raises KeyboardInterrupt or `StoppedBySignal` in the main thread. Signals that follow within a
    second are the same request. A later Ctrl-C ends the process at once. A later SIGTERM raises again, unless the
    command is ending already: the first exception may have been lost, as in a function that C code calls.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[signal.Signals, _Handler] = {}
        self._time: float | None = None
        self._is_ending = False
        self._exit_code = EXIT_INTERRUPTED
        self._has_reacted = threading.Event()

    @contextlib.contextmanager
    def handling(self, *, until_exit: bool) -> Iterator[None]:
        """Within the block, handle the signals that have the system's or Python's default handler.

        Args:
            until_exit: whether the process exits after the block. From then on no signal changes its exit code. After a
                signal it exits within EXIT_SECONDS, whatever its threads and libraries still do.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python sets and runs signal handlers in the main thread only
            return
        default = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in handled_signals()}
        self._before = {number: handler for number, handler in before.items() if handler in default}
        for number in self._before:
            signal.signal(number, self._handle)
        _reset_forked_processes()
        _commands.append(self)
        try:
            with _watched(self._clock, self._end_if_stuck):
                yield
        finally:
            _commands.remove(self)
            for number, handler in self._before.items():
                if not until_exit:
                    signal.signal(number, handler)
                elif self._time is not None or number != signal.SIGINT:
                    signal.signal(number, signal.SIG_IGN)
            if until_exit and self._time is not None:
                threading.Thread(target=_end_later, args=(self._exit_code,), daemon=True).start()

    def reset_child(self) -> None:
        """In a forked process: handle signals as before, and tell the parent nothing of them."""
        for number, handler in self._before.items():
            if self._is_for_us(number):
                signal.signal(number, handler)
        signal.set_wakeup_fd(-1)

    def note_stop(self, received: float) -> None:
        """A `StopRequest` has received the first signal at this time of the clock: later ones repeat it."""
        self._time, self._is_ending = received, True

    def note_ending(self, exit_code: int) -> None:
        """The command is ending, with this exit code: stop signals do not change it."""
        self._is_ending, self._exit_code = True, exit_code

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._has_reacted.set()
        now = self._clock()
        if self._time is None:
            self._time = now
            if self._is_ending:
                return
        elif now - self._time <= SAME_SECONDS:
            return
        elif number == signal.SIGINT:
            end_now(self._exit_code)
        elif self._is_ending:
            return
        raise KeyboardInterrupt if number == signal.SIGINT else StoppedBySignal(number)

    def _end_if_stuck(self, number: int) -> None:
        """End the process if the main thread does not return to Python after a signal, as from a collective."""
        if self._is_for_us(number) and not self._has_reacted.wait(END_SECONDS) and self._is_for_us(number):
            end_now(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_STOPPED)

    def _is_for_us(self, number: int) -> bool:
        """Whether no other handler, such as a launcher's, has replaced the one of this object."""
        return signal.getsignal(number) == self._handle


_commands: list[CommandSignals] = []
"""The command that handles signals now, if any."""


_mask = threading.local()
"""The signals that the forking thread had blocked before."""


@functools.cache
def _reset_forked_processes() -> None:
    """From now on, a process that is forked without another program does not end as its parent's command does."""
    os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_reset_child)


def _block_signals() -> None:
    # A signal that reaches the child before its handlers are reset would be lost.
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *STOP_SIGNALS) if _commands else ())


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _reset_child() -> None:
    for command in _commands:
        command.reset_child()
    _unblock_signals()


class StopRequest:
    """Whether a signal asked this process to stop. The handler only sets a flag, which the training loop reads.

    SIGINT (Ctrl-C), SIGTERM, SIGUSR2, SIGHUP and SIGXCPU ask to stop; SIGHUP is ignored under `nohup`. With several
    processes, give this object to `ExactStep` and read `ExactStep.stop_agreed`: a scheduler's signals do not reach all
    processes at the same step.

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
        before = {number: signal.signal(number, self._handle) for number in handled_signals()}
        try:
            with _watched(self._clock):
                yield
        except BaseException:
            if not self._is_alone:
                before |= {number: signal.SIG_IGN for number in before if number in STOP_SIGNALS}
            raise
        finally:
            for number, handler in before.items():
                command = getattr(handler, "__self__", None)
                if self.is_set and isinstance(command, CommandSignals):
                    command.note_stop(self._time)
                if handler is not None:  # None: set by C code
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
    for number in STOP_SIGNALS:
        if number in received:
            return signal.Signals(number).name, EXIT_STOPPED
    return "Ctrl-C", EXIT_INTERRUPTED


@contextlib.contextmanager
def _watched(clock: Callable[[], float], on_signal: Callable[[int], None] = lambda number: None) -> Iterator[None]:
    """End the process some seconds after the second SIGINT, even if the main thread never returns to Python.

    A thread reads the number of each signal, as a byte, from a pipe, and calls `on_signal` with it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, clock, on_signal), name="interrupts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        # Closing does not end the thread: forked loader workers hold the writing end too.
        os.write(writer, END)
        thread.join()
        os.close(writer)
        os.close(reader)


def _watch(reader: int, clock: Callable[[], float], on_signal: Callable[[int], None]) -> None:
    first: float | None = None
    while END not in (received := os.read(reader, 64)):
        for number in received:
            on_signal(number)
            if number != signal.SIGINT:
                continue
            if first is None:
                first = clock()
            elif clock() - first > SAME_SECONDS:
                _end_unless_left(reader)
                return


def _end_unless_left(reader: int) -> None:
    """End the process unless `END` can be read within END_SECONDS."""
    deadline = time.monotonic() + END_SECONDS
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if END in os.read(reader, 64):
            return
    end_now(EXIT_INTERRUPTED)


@contextlib.contextmanager
def sigterm_blocked() -> Iterator[None]:
    """Within the block, SIGTERM waits in this thread; the threads and processes that it starts have it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_for_parent_only() -> None:
    """In a worker process: let SIGTERM end it only if it comes from the process that started it.

    Start the process within `sigterm_blocked`: a thread that it starts before this call would receive the signal.

    A scheduler sends SIGTERM to every process of a job. Without its workers, the main process would wait for work that
    never comes, and save nothing.
    """
    parent = os.getppid()
    # Blocked in all threads, so that sigwaitinfo can read the sender.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_and_end() -> None:
        while True:
            info = signal.sigwaitinfo({signal.SIGTERM})
            if info.si_pid == parent or os.getppid() != parent:
                os._exit(0)

    threading.Thread(target=wait_and_end, name="terminated", daemon=True).start()


EXIT_SECONDS = 10.0
"""How long the exit of Python may take after a signal: it joins threads and runs the functions of libraries."""
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
        if "multiprocessing" in sys.modules:  # else it has no workers
            import multiprocessing

            for child in multiprocessing.active_children():
                child.kill()
    finally:
        os._exit(code)


def _end_later(code: int) -> None:
    time.sleep(EXIT_SECONDS)
    end_now(code)
