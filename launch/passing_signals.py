"""Passing on signals from this process to the agent that it has started."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal

from signs_dist.environment.process_table import kill_tree
from signs_dist.monitoring.signals import STOP_SIGNALS, handled_signals

REPEAT_SECONDS = 1.0
"""A Ctrl-C this soon after a signal is the same request: some terminals and launchers send it twice."""


def choose_action(number: int, seconds_since_first: float | None) -> Literal["pass on", "kill", "ignore"]:
    """What to do with a signal. SIGTERM counts at any time: a scheduler sends it when its notice, SIGUSR2, has run out.

    Args:
        number: the signal's number.
        seconds_since_first: since the first signal; None if this is the first.
    """
    if seconds_since_first is None or number == signal.SIGTERM:
        return "pass on"
    if number == signal.SIGINT and seconds_since_first > REPEAT_SECONDS:
        return "kill"
    return "ignore"


@contextlib.contextmanager
def passing_signals(process: subprocess.Popen[bytes], on_signal: Callable[[int], None]) -> Iterator[list[int]]:
    """Within the block, pass on SIGINT and stop signals; a later SIGINT kills the process and all below it.

    Args:
        process: the agent, which sends the signal to its workers.
        on_signal: is called with the number of the first signal. Later ones may come from a launcher that ends the
            tasks that are left.

    Yields:
        The numbers of the signals that were passed on, in order; it grows while the block runs.
    """
    received: list[int] = []
    first_time: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first_time
        now = time.monotonic()
        action = choose_action(number, None if first_time is None else now - first_time)
        if action == "kill":
            kill_tree(process.pid)
        elif action == "pass on":
            if first_time is None:
                first_time = now
                on_signal(number)
            received.append(number)
            process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in handled_signals()}
    try:
        yield received
    finally:
        if received:
            # srun sends SIGTERM as soon as one of its tasks has ended, which may be before this one has.
            before |= {number: signal.SIG_IGN for number in before if number in STOP_SIGNALS}
        for number, handler in before.items():
            signal.signal(number, handler)
