"""Starting the real thing: several processes of a command, as torchrun or a person would."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from signs_dist.environment.process_table import kill_tree

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE = 300.0
"""Seconds after which a command is taken for hanging: a dozen starts of PyTorch on a busy machine take two minutes."""


@dataclasses.dataclass
class Ended:
    """How a process ended: exit code, what it wrote, how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def last_lines(self) -> list[str]:
        return [line for line in (self.out + self.err).splitlines() if line.strip()][-15:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what a launcher may have left in it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC"))}
    return inherited | {"PYTHONPATH": str(REPOSITORY)} | changes


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


@contextlib.contextmanager
def started(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own; it is killed at the end, with all below it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**(variables or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def finish(process: subprocess.Popen[str], timeout: float = PATIENCE) -> Ended:
    begun = time.monotonic()
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err, time.monotonic() - begun)


def run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None, timeout: float = PATIENCE
) -> Ended:
    with started(command, folder, variables) as process:
        return finish(process, timeout)


def program_command(folder: Path, code: str, *arguments: str, starts_others: bool = False) -> list[str]:
    """Python code as a file in a folder. Unlike `python -c` it need not be a new interpreter: see warm_processes.

    Args:
        starts_others: whether the processes that it starts itself need not be new interpreters either.
    """
    path = folder / ("starts_others.py" if starts_others else "program.py")
    path.write_text(code)
    return [sys.executable, str(path), *arguments]


def train_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "signs_dist.train", *arguments]


def torchrun_command(num_processes: int, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [*start, "-m", "signs_dist.train", *arguments]


def run_ranks(
    world_size: int,
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
) -> list[Ended]:
    """All ranks of a command, started by hand."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                started(command, folder, {**rank_environment(rank, world_size, port), **(variables or {})})
            )
            for rank in range(world_size)
        ]
        return [finish(process, timeout) for process in processes]


@contextlib.contextmanager
def without_reader() -> Iterator[io.TextIOWrapper]:
    """A stream into a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream, Path(os.devnull).open("w") as nothing:
        yield stream
        os.dup2(nothing.fileno(), writer)  # so that the stream can be closed


def wait_for(path: Path, text: str = "", timeout: float = PATIENCE) -> None:
    """Return when a file is there and holds a text."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if text in path.read_text(errors="replace"):
                return
        time.sleep(0.05)
    raise AssertionError(f"{path} never held {text!r}")


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Return when a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listening_addresses(*pids: int) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets on which processes listen, from /proc (proc_pid_net(5))."""
    own = {link for pid in pids for link in _links(pid)}
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:  # TCP_LISTEN
                digits, _, port = words[1].partition(":")
                # 32-bit words in the order of this machine's bytes
                packed = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found


def _links(pid: int) -> list[str]:
    links = []
    with contextlib.suppress(OSError):  # it has ended
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it is closed meanwhile, as the one that lists the others
                links.append(str(path.readlink()))
    return links


def unshared(flag: str, *command: str) -> list[str]:
    """A command in a namespace of its own (unshare(1)); skips the test where that is not allowed."""
    program = shutil.which("unshare")
    if program is None:
        pytest.skip("there is no unshare")
    tried = subprocess.run([program, flag, "true"], capture_output=True, check=False, timeout=60)
    if tried.returncode:
        pytest.skip(f"unshare {flag} is not allowed here")
    return [program, flag, *command]


def printed_in_own_mounts(setup: str, code: str, *arguments: str) -> str:
    """What Python prints in a mount namespace of its own; skips the test where that is not allowed.

    Args:
        setup: shell that mounts something first; `$2` is the first of `arguments`.
        code: Python.
        arguments: for both.
    """
    shell = f'{setup} && exec "$0" -c "$@"'
    command = unshared("--mount", "sh", "-c", shell, sys.executable, code, *arguments)
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
