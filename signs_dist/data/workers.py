"""Work on many images by all cores, without orphans: no worker outlives the process that started it."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from signs_dist.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 16
"""Items that a worker takes at once: a third of a second of large photos."""
NUM_BATCHES_AHEAD = 2
"""Batches waiting per worker. Few, so that an interrupt is answered at once."""


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_batches(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    *,
    processes: int | None = None,
    batch: int = BATCH,
) -> Iterator[list[Result]]:
    """Yield `work(batch)` for all batches of `items`, in the order in which they get done.

    Args:
        work: picklable. What it raises is raised here, and ends all workers.
        processes: None takes all usable cores. With 1, or little to do, the work is done in this process.

    Raises:
        UserError: the system killed a worker process.
    """
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    num_processes = min(processes or usable_cores(), len(batches))
    if num_processes <= 1 or len(batches) <= 2:
        for one in batches:
            yield work(one)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of threads that do not run in the copy
    executor = concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent)
    pending: set[concurrent.futures.Future[list[Result]]] = set()
    waiting = iter(batches)
    try:
        while True:
            for one in waiting:
                pending.add(_submit(executor, work, one))
                if len(pending) >= num_processes * NUM_BATCHES_AHEAD:
                    break
            if not pending:
                return
            done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "the system ended a worker process, most often for want of memory. "
            "Repeat the command with fewer workers: --processes 1."
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _submit(
    executor: concurrent.futures.ProcessPoolExecutor,
    work: Callable[[Sequence[Item]], list[Result]],
    one: Sequence[Item],
) -> concurrent.futures.Future[list[Result]]:
    # Processes are started in here and inherit the mask: Ctrl-C, which a terminal sends to all, is for the parent.
    if threading.current_thread() is not threading.main_thread():
        return executor.submit(work, one)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(work, one)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """In a worker: end it when its parent ends, be it by SIGKILL. The pool's queues would keep it waiting for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker was started by multiprocessing

    def wait_and_end() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True, name="end-with-parent").start()
