"""A `python` that is a fork of the server of warm processes, for programs that start an interpreter by its path.

`warm_processes.python` puts it, as a program of its own, into the folder of the server's socket and of a link to this
interpreter.

SLURM starts the tasks of a job by a path, and signals, stops and waits for its own children: a process that is forked
elsewhere is none of them. So this process stays as long as the fork. It passes signals on to the fork and to all below
it, as SLURM signals all processes of a step; it ends as the fork ends; and where it is killed, the fork is killed with
all below it. What the server may not fork, it becomes itself, as a new interpreter.

It imports little, not even pathlib: there is one for each process of a job.
"""

import array
import contextlib
import marshal
import os
import resource
import signal
import socket
import sys

PASSED_ON = [getattr(signal, f"SIG{name}") for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "CONT", "XCPU")]
GO = b"+"
"""The server's answer, before a process id: there is a fork."""
SOCKET, INTERPRETER = "socket", "interpreter"
"""Names in the folder."""


class Fork:
    """The process that runs the program, as soon as it is known; signals wait until then."""

    def __init__(self) -> None:
        self.pid = 0
        self._waiting: list[int] = []

    def take(self, number: int, frame: object) -> None:
        """The handler of signals that are passed on."""
        if self.pid:
            self.signal(number)
        else:
            self._waiting.append(number)

    def signal(self, number: int) -> None:
        """Send a signal to the process and to all below it."""
        for pid in tree(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def begin(self, pid: int) -> None:
        """It is known, and has the handlers of a new interpreter."""
        self.pid = pid
        while self._waiting:
            self.signal(self._waiting.pop(0))

    def give_up(self) -> None:
        """There is none: signals have their own effect on this process."""
        for number in PASSED_ON:
            if signal.getsignal(number) == self.take:
                signal.signal(number, signal.SIG_DFL)
        for number in self._waiting:
            os.kill(os.getpid(), number)


def tree(pid: int) -> list[int]:
    """A process, and all below it."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{each}/task"):  # noqa: PTH208
                with open(f"/proc/{each}/task/{thread}/children") as file:  # noqa: PTH123
                    found += map(int, file.read().split())
    return found


def request(command: list[str], ignored: list[int]) -> bytes:
    """What the server has to know, as `warm_processes` asks for a process."""
    umask = os.umask(0o077)
    os.umask(umask)
    limits = sorted(getattr(resource, name) for name in vars(resource) if name.startswith("RLIMIT_"))
    return marshal.dumps(
        {
            "command": command,
            "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in os.environb.items()},
            "folder": os.getcwd(),  # noqa: PTH109
            "ignored": ignored,
            "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            "umask": umask,
            "cores": os.sched_getaffinity(0),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "limits": {number: resource.getrlimit(number) for number in limits},
        }
    )


def read(stream: socket.socket, num_bytes: int) -> bytes:
    """So many bytes, or fewer where the other side has ended."""
    found = b""
    while len(found) < num_bytes and (part := stream.recv(num_bytes - len(found))):
        found += part
    return found


def ask(place: str, content: bytes) -> "socket.socket | None":
    """A stream on which the server tells of the fork; None where there is to be none."""
    stream = socket.socket(socket.AF_UNIX)
    try:
        for number in range(3):
            os.fstat(number)
        stream.connect(place)
        descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", range(3)))]
        stream.sendmsg([len(content).to_bytes(8, "little")], descriptors)
        stream.sendall(content)
        return stream if read(stream, 1) == GO else None
    except OSError:  # the server has ended, or a stream of this process is closed
        return None


def end(status: int) -> None:
    """End as a process has ended whose status of wait(2) this is."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Ask for a fork and stand for it, or become a new interpreter."""
    script, *words = sys.argv
    folder = os.path.dirname(script)  # noqa: PTH120
    ignored = [int(number) for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    ignored = [number for number in ignored if number not in (signal.SIGPIPE, signal.SIGXFSZ)]  # by Python itself
    content = request([script, *words], ignored)
    fork = Fork()
    for number in PASSED_ON:
        if number not in ignored:
            signal.signal(number, fork.take)
    stream = ask(f"{folder}/{SOCKET}", content)
    if stream is None:
        fork.give_up()
        real = os.readlink(f"{folder}/{INTERPRETER}")  # noqa: PTH115
        os.execv(real, [real, *words])
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)  # the other end of a pipe is to see that the fork has closed it
    pid = read(stream, 8)
    if len(pid) == 8:
        fork.begin(int.from_bytes(pid, "little"))
        status = read(stream, 8)
        if len(status) == 8:
            end(int.from_bytes(status, "little"))
    end(signal.SIGKILL)  # the server has ended, and its processes with it


if __name__ == "__main__":
    main()
