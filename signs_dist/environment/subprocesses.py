"""Starting a module on a number of processes of this machine, and the error to raise if they fail."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from signs_dist.environment.addresses import find_loopback
from signs_dist.environment.process_table import kill_tree
from signs_dist.errors import (
    EXIT_FAILED,
    EXIT_OTHER_ARITHMETIC,
    EXIT_USAGE,
    OtherArithmeticError,
    TrainingFailedError,
    UserError,
)

TAIL_LINES = 30
"""How many of the last lines of failed processes a message shows."""


def count_processes(number: int) -> str:
    """The number in words: 1 process, 2 processes."""
    return f"{number} process{'' if number == 1 else 'es'}"


def with_own_modules(environment: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """An environment in which Python finds modules where this process finds them.

    Args:
        environment: of this process.
        path: `sys.path` of this process; "" is the working directory.
    """
    return {**environment, "PYTHONPATH": os.pathsep.join(folder or str(Path.cwd()) for folder in path)}


def launch_command(module: str, world_size: int, arguments: Sequence[str]) -> list[str]:
    """The command line: plain python for one process, torchrun for more.

    Without an address torchrun looks up this machine's name, and waits for minutes where it resolves nowhere.

    Raises:
        UserError: loopback is down.
    """
    if world_size == 1:
        return [sys.executable, "-m", module, *arguments]
    torchrun = ["--standalone", f"--local-addr={find_loopback()}", f"--nproc-per-node={world_size}"]
    return [sys.executable, "-m", "torch.distributed.run", *torchrun, "-m", module, *arguments]


@contextlib.contextmanager
def started(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running command that prints into a file. If it still runs at the end of the block, its process tree is killed.

    Within the block SIGTERM ends this process by SystemExit, so that the command does not outlive it.
    """
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


def run_on_processes(
    module: str, world_size: int, arguments: Sequence[str], output: Path, *, longest_seconds: float
) -> None:
    """Run `python -m MODULE` on a number of processes of this machine, and wait for its end.

    Args:
        module: what is run.
        world_size: number of processes.
        arguments: for each process.
        output: a file for what they print.
        longest_seconds: after this time they are killed: their own limits end them earlier, unless the launcher hangs.

    Raises:
        UserError: the processes were given wrong input.
        TrainingFailedError: the processes failed, or did not end; the message ends with the last lines that they
            printed.
    """
    what = f"the run on {count_processes(world_size)}"
    with started(launch_command(module, world_size, arguments), output) as process:
        try:
            code = process.wait(longest_seconds)
        except subprocess.TimeoutExpired:
            printed = "\n".join(last_lines(output))
            raise TrainingFailedError(
                f"{what} did not end within {longest_seconds:g} s. It printed:\n{printed}"
            ) from None
    if code:
        raise failure_of(what, code, output)


def failure_of(what: str, code: int, output: Path) -> UserError | TrainingFailedError:
    """The error to raise for processes that failed.

    Args:
        what: the subject of the message, such as "the run on 2 processes".
        code: the exit code.
        output: the file with what they printed.

    Returns:
        A UserError with the first `error:` line of the processes if there is one, else a TrainingFailedError with
        their last lines. The UserError has the exit code of the processes, as far as torchrun tells it.
    """
    errors = [line.removeprefix("error: ") for line in _lines(output) if line.startswith("error: ")]
    if errors and code == EXIT_OTHER_ARITHMETIC:
        return OtherArithmeticError(errors[0])
    if errors and code in (EXIT_USAGE, EXIT_FAILED):  # torchrun exits with 1 where its processes exit with 2
        return UserError(errors[0])
    return TrainingFailedError("\n".join([f"{what} ended with exit code {code}. It printed:", *last_lines(output)]))


def last_lines(output: Path) -> list[str]:
    """The last lines of a file with what processes printed."""
    return _lines(output)[-TAIL_LINES:]


def _lines(output: Path) -> list[str]:
    return output.read_text(errors="replace").splitlines()


@contextlib.contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM raises an exception, so that child processes do not outlive this process.

    A command has a handler of its own, which raises; elsewhere the exception is SystemExit.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or callable(signal.getsignal(signal.SIGTERM)):
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
