"""Process many images on all cores. No worker outlives the process that started it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from signs_dist.environment.cores import read_usable_cores
from signs_dist.environment.process_table import describe_processes
from signs_dist.errors import UserError
from signs_dist.monitoring.waiting import WaitWatcher

Item = TypeVar("Item")
Result = TypeVar("Result")
Resource = TypeVar("Resource")

BATCH = 16
"""Items that a worker takes at once; large photos take a third of a second."""
STUCK_SECONDS = 1800.0
"""How long all workers together may take to finish one batch."""
NUM_BATCHES_AHEAD = 2
"""Batches queued per worker: few, so that an interrupt takes effect at once."""


def run_batches(
    work: Callable[[Resource, Sequence[Item]], list[Result]],
    items: Sequence[Item],
    *,
    resource: Callable[[], contextlib.AbstractContextManager[Resource]],
    processes: int | None = None,
    batch: int = BATCH,
) -> Generator[list[Result], None, None]:
    """Yield `work(resource, batch)` for all batches of `items`, in the order of completion.

    Args:
        work: picklable. An error in it is raised here, and ends all workers.
        items: what to do, in order.
        resource: opened once in each worker, such as a zip. Picklable.
        processes: None takes all usable cores. With 1, or at most two batches, this process works alone.
        batch: items that a worker takes at once.

    Raises:
        UserError: the system killed a worker process, or did not start one; or none finished a batch within
            `STUCK_SECONDS`.
    """
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    num_processes = min(processes or read_usable_cores(os.environ), len(batches))
    if num_processes <= 1 or len(batches) <= 2:
        with resource() as opened:
            for one in batches:
                yield work(opened, one)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of threads that do not run in the copy
    executor = concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with_parent)
    task = functools.partial(_work_in_worker, work, resource)
    pending: set[concurrent.futures.Future[list[Result]]] = set()
    waiting = iter(batches)
    watcher = WaitWatcher()
    try:
        while True:
            for one in waiting:
                pending.add(_submit(executor, functools.partial(task, one)))
                if len(pending) >= num_processes * NUM_BATCHES_AHEAD:
                    break
            if not pending:
                return
            with watcher.waiting(lambda: f"waits for images from {describe_processes(_ids(executor))}"):
                done, pending = concurrent.futures.wait(
                    pending, STUCK_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
                )
            if not done:
                raise _stuck(executor)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "the system killed a worker process, most often because memory ran out. "
            "Repeat the command with fewer workers: --processes 1."
        ) from error
    finally:
        watcher.close()
        executor.shutdown(wait=True, cancel_futures=True)


def _ids(executor: concurrent.futures.ProcessPoolExecutor) -> list[int]:
    return list(getattr(executor, "_processes", None) or {})  # it has no public name for them


def _stuck(executor: concurrent.futures.ProcessPoolExecutor) -> UserError:
    """End the workers, and say what they did."""
    what = describe_processes(_ids(executor))
    for pid in _ids(executor):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return UserError(
        f"no image came within {STUCK_SECONDS:g} s from {what}. Is the storage reachable? Repeat the command when it "
        f"is."
    )


def _submit(
    executor: concurrent.futures.ProcessPoolExecutor, task: Callable[[], list[Result]]
) -> concurrent.futures.Future[list[Result]]:
    try:
        return _submit_masked(executor, task)
    except OSError as error:
        raise UserError(
            f"cannot start worker processes: {error.strerror}. Limits are shown by ulimit -a: open files -n, processes "
            f"-u, memory -v. Raise the one that is too low, or repeat the command with --processes 1."
        ) from error


def _submit_masked(
    executor: concurrent.futures.ProcessPoolExecutor, task: Callable[[], list[Result]]
) -> concurrent.futures.Future[list[Result]]:
    # This starts processes, which inherit the mask. A terminal sends Ctrl-C to all; only the parent handles it.
    if threading.current_thread() is not threading.main_thread():
        return executor.submit(task)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(task)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_of_worker: dict[str, Any] = {}


def _work_in_worker(
    work: Callable[[Resource, Sequence[Item]], list[Result]],
    resource: Callable[[], contextlib.AbstractContextManager[Resource]],
    items: Sequence[Item],
) -> list[Result]:
    if "resource" not in _of_worker:
        _of_worker["resource"] = resource().__enter__()  # closed by the end of the process
    return work(_of_worker["resource"], items)


def _end_with_parent() -> None:
    """In a worker: end when the parent ends, even by SIGKILL. Else the worker would wait on its queue for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker was started by multiprocessing

    def wait_and_end() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True, name="end-with-parent").start()
