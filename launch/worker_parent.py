"""A process that has imported torch and forks workers on request: N processes for the price of one import.

The agent's process imports first, while it has one thread, and forks this parent. Only then does it start torch's
elastic agent, whose threads forbid a fork. The parent answers the agent over a socket, one request after another: it
forks a worker, or tells the exit codes of those that have ended. It ends with the agent; its workers then see that
their parent has gone, as they do when torch's agent has started them and is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.environment.process_table import is_alive, read_birth
from signs_dist.monitoring.signals import STOP_SIGNALS

from .forked_interpreter import enter_environment, enter_session, run_program

BLOCKED = (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, *STOP_SIGNALS)
"""Signals that the parent does not take: SLURM sends them to every process of a step."""
ANSWER_SECONDS = 60.0
"""After this time without an answer the parent counts as lost."""
END_SECONDS = 10.0
"""How long killed workers are waited for; one that waits for a disk or a GPU may take longer."""
POLL_SECONDS = 0.02
PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that sends a process a signal when its parent ends."""
_LARGEST_MESSAGE = 1 << 20
_GO = b"\0"


class ParentLostError(Exception):
    """The workers' parent has ended, or does not answer."""


class WorkerParent:
    """The agent's side: the process that forks workers.

    Args:
        pid: of that process, a child of this one.
        connection: to it; a message is one JSON object.
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection
        self._connection.settimeout(ANSWER_SECONDS)
        self._environment = dict(os.environ)
        self._births: dict[int, str] = {}
        self._exit_codes: dict[int, int] = {}
        self._number = 0
        self._is_lost = False

    @classmethod
    def fork(cls) -> WorkerParent:
        """Fork it from this process, which has one thread. In a worker this does not return: it runs its program."""
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        agent = os.getpid()
        gc.freeze()  # the collector does not write to, and so copy, what is shared from here on
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        pid = os.fork()
        if pid == 0:
            own.close()
            _end_with_agent(agent)
            request = _serve(other)
            enter_environment(request["changes"])
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            run_program(request["arguments"])
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other.close()
        return cls(pid, own)

    def fork_worker(
        self, arguments: Sequence[str], environment: Mapping[str, str], standard_error: str
    ) -> ForkedWorker:
        """Start a worker, in a session of its own.

        Args:
            arguments: of Python.
            environment: all of it.
            standard_error: a file that exists.

        Raises:
            OSError: the system has no room for a further process.
            ParentLostError: there is no parent any more.
        """
        changes: dict[str, str | None] = dict.fromkeys(self._environment.keys() - environment.keys())
        changes |= {name: value for name, value in environment.items() if self._environment.get(name) != value}
        answer = self._ask(arguments=list(arguments), changes=changes, standard_error=standard_error)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        pid = int(answer["pid"])
        self._exit_codes.pop(pid, None)  # of an earlier worker: after restarts the system gives its number again
        self._births[pid] = read_birth(pid)
        return ForkedWorker(pid, self)

    def exit_code(self, pid: int) -> int | None:
        """The exit code of a worker, -N if signal N ended it; None while it runs.

        Without a parent nobody knows it: then all workers are killed, and have ended by SIGKILL.
        """
        if pid not in self._exit_codes:
            try:
                codes = self._ask()["codes"]
                self._exit_codes |= {int(each): code for each, code in codes.items()}
            except ParentLostError:
                self._kill_workers()
        return self._exit_codes.get(pid)

    def close(self) -> None:
        """End the parent. Its workers have ended before."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _ask(self, **request: object) -> dict[str, Any]:
        if self._is_lost:
            raise ParentLostError
        # The handler of a signal may raise between request and answer: an answer to an earlier request is passed over.
        self._number += 1
        message = json.dumps({"number": self._number, **request}).encode()
        if len(message) > _LARGEST_MESSAGE:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        try:
            self._connection.sendall(message)
            while received := self._connection.recv(_LARGEST_MESSAGE):
                answer: dict[str, Any] = json.loads(received)
                if answer["number"] == self._number:
                    return answer
        except (ConnectionError, TimeoutError):
            pass
        self._is_lost = True
        raise ParentLostError

    def _kill_workers(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may be stopped
        left = [(pid, birth) for pid, birth in self._births.items() if pid not in self._exit_codes]
        for pid, birth in left:
            if is_alive(pid, birth):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while any(is_alive(*worker) for worker in left) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self._exit_codes |= {pid: -signal.SIGKILL for pid, _ in left}


class ForkedWorker:
    """A worker, with the methods of `subprocess.Popen` that torch's agent calls.

    Args:
        pid: its process id.
        parent: the process that has forked it.

    Attributes:
        returncode: its exit code, once `poll` or `wait` has seen its end.
    """

    def __init__(self, pid: int, parent: WorkerParent) -> None:
        self.pid = pid
        self._parent = parent
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code.

        Raises:
            TimeoutExpired: it has not ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                assert timeout is not None
                raise subprocess.TimeoutExpired("python", timeout)
            time.sleep(POLL_SECONDS)
        return code


def _end_with_agent(agent: int) -> None:
    """Let the system kill this process when its agent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != agent:  # it ended before the call
        os._exit(1)


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Answer requests until the agent ends, and end then. Returns in a worker only: the request that started it."""
    running: set[int] = set()
    codes: dict[int, int] = {}
    while message := _receive(connection):
        request: dict[str, Any] = json.loads(message)
        answer: dict[str, Any] = {"number": request["number"]}
        waiting: socket.socket | None = None
        if "arguments" not in request:
            codes |= _reap(running)
            answer["codes"] = codes
        else:
            try:
                pid, waiting = _fork_worker(request["standard_error"])
            except OSError as error:
                answer["errno"] = error.errno
            else:
                if waiting is None:
                    connection.close()
                    return request
                running.add(pid)
                codes.pop(pid, None)
                answer["pid"] = pid
        with contextlib.suppress(ConnectionError):
            connection.sendall(json.dumps(answer).encode())
            if waiting is not None:
                waiting.sendall(_GO)
        if waiting is not None:
            waiting.close()
    os._exit(0)  # what the agent has registered for its exit is not done here


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_LARGEST_MESSAGE)
    except ConnectionError:
        return b""


def _fork_worker(standard_error: str) -> tuple[int, socket.socket | None]:
    """Fork a worker, which waits for a word on the socket. In the worker there is no socket, and the word has come.

    The agent sends signals to the worker's process group, so the worker has one before the agent hears of it. If this
    process is killed before it has told the agent, the worker ends: nobody would look after it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            raise
        if pid == 0:
            ours.close()
            if _is_told(theirs, standard_error):
                return 0, None
            os._exit(1)
    ours.recv(1)  # nothing if the worker has failed
    return pid, ours


def _is_told(parent: socket.socket, standard_error: str) -> bool:
    """In a worker: enter its session, and wait until the agent knows of it. False if that fails, which is printed."""
    try:
        enter_session(standard_error)
        parent.sendall(_GO)
        return bool(parent.recv(1))
    except ConnectionError:  # the parent was killed
        return False
    except OSError as error:
        print(f"error: a worker cannot be started: {error}", file=sys.stderr, flush=True)
        return False


def _reap(running: set[int]) -> dict[int, int]:
    """Exit codes of the workers that have ended since, which are then taken out of `running`."""
    codes = {}
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes[pid] = os.waitstatus_to_exitcode(status)
            running.remove(pid)
    return codes
