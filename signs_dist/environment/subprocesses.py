"""Starting this package's commands on a number of processes of this machine, for those that compare runs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from signs_dist.environment.process_table import kill_tree
from signs_dist.errors import EXIT_USAGE, TrainingFailedError, UserError

TAIL_LINES = 30
"""Of what failed processes said, how much is told."""


def launch_command(module: str, world_size: int, arguments: Sequence[str]) -> list[str]:
    """The command line: plain python for one process, torchrun for more."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    return [sys.executable, *(torchrun if world_size > 1 else []), "-m", module, *arguments]


@contextlib.contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit, so that what was started does not outlive this process."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def failure_of(what: str, code: int, output: Path) -> UserError | TrainingFailedError:
    """What to raise for processes that have failed: their one line if they say what the user can mend."""
    lines = output.read_text(errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told and code in (EXIT_USAGE, 1):
        return UserError(told[0])
    return TrainingFailedError("\n".join([f"{what} ended with exit code {code}. It said:", *lines[-TAIL_LINES:]]))


@contextlib.contextmanager
def started(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running command, its output in a file; at the end it is killed with all below it, if it still runs."""
    with output.open("w") as stream, _ending_by_sigterm():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_tree(process.pid)
                process.wait()
