"""The wait for a batch: told when it is long, ended when it is too long, and explained when the workers fail."""

from __future__ import annotations

import contextlib
import multiprocessing.queues
import signal
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from signs_dist.environment.process_table import describe_processes
from signs_dist.environment.worker_limits import read_limits
from signs_dist.errors import LoadingError, UserError
from signs_dist.monitoring.waiting import WaitWatcher

MOST_SHOWN = 8
"""How many workers a message names."""


class Worker(Protocol):
    """What is read of a worker process."""

    @property
    def pid(self) -> int | None:
        """Its process id."""
        ...

    @property
    def exitcode(self) -> int | None:
        """None while it runs; -N if signal N ended it."""
        ...


class BatchWait:
    """The waits of one pass over the data.

    Args:
        name: names a batch by its number in this pass, from 1.
        rank: of this process.
        timeout_seconds: how long a batch may take.
        on_stuck: called in another thread if this process loads by itself and takes longer; None: nothing is done.
        watcher: tells the waits; None makes one.
    """

    def __init__(
        self,
        name: Callable[[int], str],
        *,
        rank: int,
        timeout_seconds: float,
        on_stuck: Callable[[LoadingError], None] | None = None,
        watcher: WaitWatcher | None = None,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._name, self._rank, self._on_stuck = name, rank, on_stuck
        self._watcher = watcher or WaitWatcher()
        self._number = 0

    def waiting(self, workers: Sequence[int | None]) -> contextlib.AbstractContextManager[None]:
        """Within the block, this process waits for its next batch.

        Args:
            workers: process ids of the workers; empty: this process loads.
        """
        self._number += 1
        batch = f"the images of {self._name(self._number)}"
        return self._watcher.waiting(
            lambda: (
                f"rank {self._rank} waits for {batch}: {describe_workers(workers)}; after "
                f"data.timeout_seconds={self.timeout_seconds:g} it ends"
            ),
            limit_seconds=self.timeout_seconds if self._on_stuck is not None and not workers else None,
            on_limit=lambda waited: self._end(batch, waited),
        )

    def close(self) -> None:
        """End the thread."""
        self._watcher.close()

    def _end(self, batch: str, waited: float) -> None:
        assert self._on_stuck is not None
        self._on_stuck(
            LoadingError(
                f"rank {self._rank} waited {waited:.0f} s for {batch}: {describe_workers([])}. Is the storage "
                f"reachable? If it is only slow, set a larger data.timeout_seconds (it is {self.timeout_seconds:g})."
            )
        )


def describe_workers(workers: Sequence[int | None]) -> str:
    """What the processes do that load."""
    if not workers:
        return "this process reads and decodes them"
    return f"loader workers: {describe_processes(workers, MOST_SHOWN)}"


def explain_failure(error: RuntimeError, workers: Sequence[Worker], timeout_seconds: float) -> LoadingError | None:
    """Say what torch's error about its workers means; None for an error of another kind.

    Args:
        error: raised by torch's DataLoader in the main process.
        workers: the worker processes.
        timeout_seconds: how long a batch may take.
    """
    text = str(error)
    if text.startswith("DataLoader timed out"):
        return LoadingError(
            f"no batch came within data.timeout_seconds={timeout_seconds:g} s; "
            f"{describe_workers([worker.pid for worker in workers])}. Is the storage reachable? If it is only slow, "
            f"set a larger data.timeout_seconds."
        )
    if text.startswith("Too many open files"):
        return LoadingError(describe_open_files())
    if text.startswith("DataLoader worker"):
        ended = [describe_end(worker) for worker in workers if worker.exitcode]
        return LoadingError("; ".join(ended) or text)
    return None


def describe_end(worker: Worker) -> str:
    """How a worker ended, and what that means."""
    code = worker.exitcode or 0
    if code >= 0:
        return f"loader worker {worker.pid} ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"loader worker {worker.pid} was ended by signal {-code} ({name}){_MEANINGS.get(-code, '')}"


_MEANINGS: dict[int, str] = {
    signal.SIGKILL: ": most often memory ran out. Fewer data.num_workers or a smaller data.prefetch need less",
    signal.SIGBUS: ": shared memory (/dev/shm) is full. Fewer data.num_workers or a smaller data.prefetch need less; "
    "a container gets more by docker run --shm-size",
    signal.SIGXCPU: ": its CPU time is limited (ulimit -t)",
    signal.SIGXFSZ: ": the size of files is limited (ulimit -f)",
}


def describe_open_files() -> str:
    """The message that the limit of open files is reached."""
    return (
        f"too many open files: the limit is {read_limits().open_files} (ulimit -n), and loader workers need a few "
        f"each. Type ulimit -n 4096, or set data.num_workers=0"
    )


def explain_start(error: OSError, num_workers: int) -> UserError:
    """The message for workers that the system does not start: fork(2) and pipe(2) give the reasons."""
    return UserError(
        f"cannot start {num_workers} loader workers: {error.strerror}. Limits are shown by ulimit -a: open files -n, "
        f"processes -u, memory -v. Raise the one that is too low, or set data.num_workers=0."
    )


def send_errors() -> None:
    """In a worker: send an error of the thread that sends batches to the main process, which raises it.

    A batch is sent as shared memory, with sockets and open files. If that fails, Python prints a traceback and drops
    the batch, and the main process waits for it for ever. The error itself needs neither.
    """

    def on_error(queue: Any, error: Exception, batch: Any) -> None:
        number = batch[0] if isinstance(batch, tuple) and batch else None
        queue.put((number, LoadingError(f"a loader worker could not send a batch: {type(error).__name__}: {error}")))

    # "Private API hook" of multiprocessing, which concurrent.futures overrides for the same reason.
    multiprocessing.queues.Queue._on_queue_feeder_error = on_error  # type: ignore[attr-defined]
