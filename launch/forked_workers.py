"""Workers of torch's elastic agent that are forked from a parent which has imported torch, where that is safe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from signs_dist.environment.core_use import set_waiting

from .fork_safety import SWITCH, reason_before_imports, reason_now
from .preloading import preload
from .worker_parent import ParentLostError, WorkerParent


def fork_parent(
    arguments: Sequence[str], num_workers: int, before_fork: Callable[[], None] = lambda: None
) -> WorkerParent | None:
    """Import what workers import, and fork the parent that forks them; None if they are started as new interpreters.

    In a worker this does not return.

    Args:
        arguments: of Python, for each worker.
        num_workers: of this node.
        before_fork: called after the imports, also where nothing is forked.
    """
    reason = reason_before_imports(os.environ.get(SWITCH), sys.platform, arguments)
    if not reason:
        set_waiting(os.environ, num_started=num_workers)  # OpenMP, which comes with torch, reads it when loaded
        preload(arguments)
        reason = reason_now()
    before_fork()
    if not reason:
        return WorkerParent.fork()
    _note(reason)
    return None


@contextlib.contextmanager
def forking_workers(parent: WorkerParent | None) -> Iterator[None]:
    """Within the block torch's agent gets its workers from `parent`; without one, as torch starts them."""
    if parent is None:
        yield
        return

    before: Any = None
    try:
        from torch.distributed.elastic.multiprocessing import api
        from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

        replaced: Any = api  # torch has no setting for it
        before = replaced.get_subprocess_handler
    except (ImportError, AttributeError) as error:  # these names are torch's own, and may change
        _note(f"this release of torch starts workers in another way: {error}")
    if before is None:
        parent.close()
        yield
        return

    class Handler(SubprocessHandler):
        """As torch's, which opens the worker's files and completes its environment; the process itself is forked."""

        def _popen(self, args: Any, env: Any) -> Any:
            assert parent is not None
            try:
                if args[:2] == (sys.executable, "-u") and self._stderr is not None:
                    return parent.fork_worker(args[2:], env, self._stderr.name)
                reason = f"torch starts {args[0]}"
            except ParentLostError:
                reason = "the process that forks workers has ended"
            except OSError as error:
                reason = f"it cannot be forked: {error.strerror}"
            _note(reason)
            return super()._popen(args, env)

    replaced.get_subprocess_handler = Handler
    try:
        yield
    finally:
        replaced.get_subprocess_handler = before
        parent.close()


def _note(reason: str) -> None:
    """Write to the agent's log why a worker costs more than it should."""
    print(f"note: a worker is a new interpreter: {reason}", file=sys.stderr, flush=True)
