"""Starting the workers of this node under torch's elastic agent, as torchrun does, and waiting for their end."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from signs_dist.environment.addresses import find_loopback
from signs_dist.environment.cores import share_of_cores
from signs_dist.environment.process_table import (
    describe_process,
    find_descendants,
    is_alive,
    kill_tree,
    process_state,
    read_birth,
)
from signs_dist.errors import EXIT_FAILED, EXIT_OK, EXIT_STOPPED
from signs_dist.monitoring.heartbeat import ORPHAN_SECONDS
from signs_dist.monitoring.waiting import telling

from .elastic_agent import GO, WORKERS, AgentSettings, WorkerFailure
from .launch_folder import launch_folder, note_owner
from .passing_signals import passing_signals
from .program import program
from .worker_files import copying_standard_error, has_begun, has_standard_error, has_stopped

AGENT_LOG = "agent.log"
"""The agent's standard error: torch's warnings, and its traceback if it fails itself."""
LOG_LEVELS = ("DEBUG", "INFO", "WARNING")
"""Levels of torch's log at which its warnings are written."""
NUM_LINES = 40
"""How many lines of a failure are printed if no worker has written to its standard error."""
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that sends a process a signal when its parent ends."""


@dataclasses.dataclass(frozen=True)
class Rendezvous:
    """Where the agents of a launch meet.

    Attributes:
        num_nodes: number of nodes, and so of agents.
        endpoint: HOST:PORT that one agent serves. Port 0 takes a free port, for a launch of one node.
        run_id: the launch's name, the same for all agents.
        is_host: whether this agent serves the endpoint; None lets torch compare names and addresses.
    """

    num_nodes: int
    endpoint: str
    run_id: str
    is_host: bool | None = None


def meet_on_this_machine() -> Rendezvous:
    """The rendezvous of one agent alone, as `torchrun --standalone` makes it: a free port, and a UUID as name.

    Raises:
        UserError: loopback is down.
    """
    return Rendezvous(1, f"{find_loopback()}:0", str(uuid.uuid4()))


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """What is started on this node.

    Attributes:
        num_processes: number of workers.
        variables: what is added to the environment.
        arguments: of the program, such as signs_dist.train's.
        max_restarts: how often all workers are started again after one has failed.
        rendezvous: where this node's agent meets those of other nodes.
        program: what Python runs in each worker, before `arguments`.
        folder: the working folder of agent and workers; None: the same as of this process.
        shutdown_seconds: how long workers have to end after a stop signal, until they are killed; None: torch's 30.
    """

    num_processes: int
    variables: Mapping[str, str]
    arguments: tuple[str, ...]
    max_restarts: int = 0
    rendezvous: Rendezvous = dataclasses.field(default_factory=meet_on_this_machine)
    program: tuple[str, ...] = ("-m", "signs_dist.train")
    folder: str | None = None
    shutdown_seconds: int | None = None

    @property
    def settings(self) -> AgentSettings:
        """The settings that the agent reads."""
        is_host = self.rendezvous.is_host
        return AgentSettings(
            num_nodes=self.rendezvous.num_nodes,
            num_workers=self.num_processes,
            run_id=self.rendezvous.run_id,
            endpoint=self.rendezvous.endpoint,
            rendezvous={} if is_host is None else {"is_host": is_host},
            max_restarts=self.max_restarts,
            arguments=(*self.program, *self.arguments),
            shutdown_seconds=self.shutdown_seconds,
        )


def choose_thread_variables(environment: Mapping[str, str], num_cores: int, num_processes: int) -> dict[str, str]:
    """OMP_NUM_THREADS for each of this node's processes, unless the user has set it; torchrun would set 1 and warn."""
    if "OMP_NUM_THREADS" in environment:
        return {}
    return {"OMP_NUM_THREADS": str(share_of_cores(num_cores, num_processes))}


def choose_log_level(environment: Mapping[str, str]) -> dict[str, str]:
    """LOGLEVEL for torch's messages, unless the user has set a legal one.

    torch refuses to start with another name, and above WARNING it does not say why a rendezvous fails.
    """
    level = environment.get("LOGLEVEL", "WARNING")
    return {} if level in LOG_LEVELS else {"LOGLEVEL": level.upper() if level.upper() in LOG_LEVELS else "WARNING"}


def choose_exit_code(
    agent_code: int, *, first_signal: int | None, has_stopped: bool, failure: WorkerFailure | None
) -> int:
    """The exit code of a launch.

    Args:
        agent_code: the agent's exit code; -N if signal N ended it.
        first_signal: the first signal that this process has passed on; None without one.
        has_stopped: whether a worker has saved and ended as a scheduler's signal asks.
        failure: the worker that failed first; None where the agent names none.
    """
    if agent_code == 0:
        return EXIT_OK
    if first_signal is not None:
        return EXIT_STOPPED if has_stopped else 128 + first_signal
    if agent_code < 0:
        return 128 - agent_code
    return EXIT_FAILED if failure is None else failure.exit_code


def start(
    plan: LaunchPlan,
    on_signal: Callable[[int], None] = lambda number: None,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Start the agent and its workers, copy what workers write to standard error, pass on signals, wait for the end.

    Args:
        plan: what to start.
        on_signal: is called with the number of the first signal that asks to stop.
        check: is called while the agent imports torch. If it raises, no worker is started.

    Returns:
        The exit code of the worker that failed first, or the code for a signal (`choose_exit_code`).
    """
    with launch_folder() as folder:
        workers = folder / WORKERS
        plan.settings.write(folder)
        process = _start_agent(plan, folder)
        note_owner(folder, process.pid)
        with passing_signals(process, on_signal) as signals, copying_standard_error(workers):
            agent_code = _wait(process, plan, folder, check)
        failure = None if agent_code < 0 else WorkerFailure.read(folder)
        if agent_code < 0 and not signals:
            print(
                f"error: torchrun, which looks after the processes, was ended by signal {-agent_code} "
                f"({signal.Signals(-agent_code).name}); they have been stopped as well. Nothing that was saved is "
                f"lost: the same command with the same --run-dir resumes the run.",
                file=sys.stderr,
            )
        elif signals and not has_begun(workers):
            print(describe_early_stop(signals[0]), file=sys.stderr)
        elif agent_code and not signals and not has_standard_error(workers):
            said = failure.message if failure else (folder / AGENT_LOG).read_text(errors="replace")
            print(last_lines(said), file=sys.stderr)
        return choose_exit_code(
            agent_code,
            first_signal=signals[0] if signals else None,
            has_stopped=has_stopped(workers),
            failure=failure,
        )


def describe_early_stop(number: int) -> str:
    """One line for a signal that came before a worker could say anything about it."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return f"stopped by {name} before training began: repeat the command"


def last_lines(text: str) -> str:
    """The last lines of a text, without empty lines around them."""
    return "\n".join(text.strip().splitlines()[-NUM_LINES:])


def _start_agent(plan: LaunchPlan, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / AGENT_LOG).open("w") as log:
        return subprocess.Popen(
            # Unbuffered, as its workers, which may be forked from it. They show the arguments as their command line.
            [sys.executable, "-u", *program("elastic_agent"), str(folder), *plan.settings.arguments],
            env={**os.environ, **choose_log_level(os.environ), **plan.variables},
            cwd=plan.folder,
            stdin=subprocess.PIPE,  # for the word that it may start the workers
            stderr=log,
            start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _end_with_parent() -> None:
    """Called in the new process: the agent gets SIGTERM if this process is killed, and then stops its workers."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _let_begin(process: subprocess.Popen[bytes]) -> None:
    """Tell the agent that it may start the workers."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stream:  # it may have ended
        stream.write(GO)


def _wait(process: subprocess.Popen[bytes], plan: LaunchPlan, folder: Path, check: Callable[[], None]) -> int:
    """Check, wait for the agent, and return its exit code. No process that it started outlives this call."""
    workers: list[tuple[int, str]] = []
    try:
        with telling(lambda: "" if has_begun(folder / WORKERS) else describe_start(plan, process.pid)):
            check()
            _let_begin(process)
            while process.poll() is None:
                # Listed while the agent lives: afterwards the system does not know whose children they were.
                workers = [(pid, read_birth(pid)) for pid in find_descendants(process.pid)] or workers
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        return process.returncode
    finally:
        kill_tree(process.pid)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        _end_orphans(workers)


def describe_start(plan: LaunchPlan, agent: int) -> str:
    """What a launch waits for before its processes have started.

    Args:
        plan: what is started.
        agent: process id of torch's agent.
    """
    nodes = plan.rendezvous.num_nodes
    others = f", which meets the agents of {nodes} nodes at {plan.rendezvous.endpoint}" if nodes > 1 else ""
    return f"torch's agent has not started the {plan.num_processes} processes yet: {describe_process(agent)}{others}"


def _end_orphans(workers: Sequence[tuple[int, str]]) -> None:
    """Wait until workers whose agent was killed have ended by themselves, and kill those that have not.

    Args:
        workers: process id and birth of each.
    """
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (left := [worker for worker in workers if is_alive(*worker)]) and time.monotonic() < deadline:
        if all(process_state(pid) == "stopped" for pid, _ in left):
            break  # by SIGSTOP: they cannot end by themselves
        time.sleep(POLL_SECONDS)
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
