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
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from signs_dist.environment.cores import read_usable_cores
from signs_dist.environment.process_table import describe_processes
from signs_dist.errors import UserError
from signs_dist.monitoring.signals import STOP_SIGNALS, end_for_parent_only
from signs_dist.monitoring.waiting import WaitWatcher

Item = TypeVar("Item")
Result = TypeVar("Result")
Resource = TypeVar("Resource")

BATCH = 16
"""Items that a worker takes at once; large photos take a third of a second."""
FOR_PARENT = {signal.SIGINT, *STOP_SIGNALS} - {signal.SIGTERM}
"""Signals that are blocked in workers. SIGTERM is not: the executor ends workers with it."""
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
    with _signals_blocked():
        executor = concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context, initializer=_obey_parent)
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
    except BaseException:
        # As Ctrl-C. What workers do is written aside only, so a worker may end in the middle of it.
        _kill_workers(executor)
        raise
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
        with _signals_blocked():
            return executor.submit(task)
    except OSError as error:
        raise UserError(
            f"cannot start worker processes: {error.strerror}. Limits are shown by ulimit -a: open files -n, processes "
            f"-u, memory -v. Raise the one that is too low, or repeat the command with --processes 1."
        ) from error


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Within the block, processes that are started inherit a mask: of the job's signals only the parent sees most.

    A terminal sends Ctrl-C and SIGHUP to all processes of a job, a scheduler SIGUSR2.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_workers(executor: concurrent.futures.ProcessPoolExecutor) -> None:
    processes = getattr(executor, "_processes", None) or {}  # Python 3.14 has kill_workers()
    for process in list(processes.values()):
        process.kill()


_of_worker: dict[str, Any] = {}


def _work_in_worker(
    work: Callable[[Resource, Sequence[Item]], list[Result]],
    resource: Callable[[], contextlib.AbstractContextManager[Resource]],
    items: Sequence[Item],
) -> list[Result]:
    if "resource" not in _of_worker:
        _of_worker["resource"] = resource().__enter__()  # closed by the end of the process
    return work(_of_worker["resource"], items)


def _obey_parent() -> None:
    """In a worker: end when the parent ends, even by SIGKILL. Else the worker would wait on its queue for ever.

    SIGTERM to the whole job is for the parent, which then ends its workers.
    """
    end_for_parent_only()
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker was started by multiprocessing

    def wait_and_end() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True, name="end-with-parent").start()
