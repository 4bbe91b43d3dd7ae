"""Starting this package's commands on several processes of this machine, for commands that compare runs."""

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
"""How many lines of a failed command's output its error shows."""


def launch_command(module: str, world_size: int, arguments: Sequence[str]) -> list[str]:
    """The command line: plain python for one process, torchrun for more."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    return [sys.executable, *(torchrun if world_size > 1 else []), "-m", module, *arguments]


@contextlib.contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM raises SystemExit, so that child processes do not outlive this process."""

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
    """The error for a command that failed: its own `error:` line if it has one, or the end of its output."""
    lines = output.read_text(errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told and code in (EXIT_USAGE, 1):
        return UserError(told[0])
    head = f"{what} ended with exit code {code}. The end of its output:"
    return TrainingFailedError("\n".join([head, *lines[-TAIL_LINES:]]))


@contextlib.contextmanager
def started(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running command whose output goes to a file. At the end it is killed with its descendants if it still runs."""
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
