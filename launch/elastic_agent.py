"""torch's elastic agent in a process of its own: it starts the workers of this node, and restarts them if one fails.

python -m launch.elastic_agent FOLDER        (internal: launch.torchrun starts it)

`torchrun` is a command line around the same agent. Here its settings and its outcome are data: the agent reads
FOLDER/settings.json, and writes FOLDER/failure.json when a worker has failed. FOLDER/workers gets a folder for each
worker, with its standard error and its error file. It imports torch at once, and starts workers when a byte on its
standard input says so.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from signs_dist.environment.addresses import find_loopback, listen
from signs_dist.errors import EXIT_FAILED, EXIT_OK

from .program import refuse_typed

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

SETTINGS = "settings.json"
FAILURE = "failure.json"
WORKERS = "workers"
GO = b"\n"
"""What the agent reads from its standard input before it starts workers."""
LOOPBACK_BACKEND = "c10d-loopback"
"""The name of the rendezvous on one machine among torch's."""


@dataclasses.dataclass(frozen=True)
class AgentSettings:
    """What the agent of one node does.

    Attributes:
        num_nodes: number of nodes, and so of agents.
        num_workers: number of workers that this agent starts.
        run_id: the name of this launch; all its agents have the same.
        endpoint: HOST:PORT where the agents meet; port 0 takes a free one, and is for one node.
        rendezvous: what else torch's c10d rendezvous takes, such as `is_host`.
        max_restarts: how often the agent starts all workers again after one has failed.
        arguments: of Python, for each worker, such as `-m signs_dist.train --run-dir runs/a`.
        shutdown_seconds: how long workers have to end after a stop signal, until the agent kills them; None: torch's
            default of 30 seconds.
    """

    num_nodes: int
    num_workers: int
    run_id: str
    endpoint: str
    rendezvous: Mapping[str, bool]
    max_restarts: int
    arguments: Sequence[str]
    shutdown_seconds: int | None = None

    def write(self, folder: Path) -> None:
        """Write them where the agent reads them."""
        (folder / SETTINGS).write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> AgentSettings:
        """Read what `write` wrote."""
        return cls(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))


@dataclasses.dataclass(frozen=True)
class WorkerFailure:
    """The worker that failed first.

    Attributes:
        exit_code: of its process; 128 + N if signal N ended it.
        message: what its error file says, or what torch says of a worker without one.
    """

    exit_code: int
    message: str

    def write(self, folder: Path) -> None:
        """Write it where the process that started the agent reads it."""
        (folder / FAILURE).write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> WorkerFailure | None:
        """Read what `write` wrote; None where no worker has failed."""
        path = folder / FAILURE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def find_first_failure(error: ChildFailedError) -> WorkerFailure:
    """The failure with the earliest time: most later failures are its consequences."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    exit_code = 128 - code if code < 0 else code
    # torch declares text; from an error file it is {"message": …, "extraInfo": {"py_callstack": …, "timestamp": …}}.
    message: object = failure.message
    if isinstance(message, dict):
        shown = str(message.get("extraInfo", {}).get("py_callstack") or message.get("message", ""))
        return WorkerFailure(exit_code, shown)
    if code > 0 and not Path(failure.error_file).is_file():
        message = f"exit code {code}, without a message on standard error"  # torch's own text is a link
    return WorkerFailure(exit_code, f"rank {rank}: {message}")


def build_config(settings: AgentSettings, folder: Path) -> LaunchConfig:
    """torch's own form of the settings, with the fields that torch has had since 2.6.

    Raises:
        ValueError: torch refuses a value, such as a TORCH_ELASTIC_SHUTDOWN_TIMEOUT that is no number.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    on_one_machine: dict[str, str] = {}
    if settings.num_nodes == 1:
        on_one_machine = {"rdzv_backend": register_loopback(), "local_addr": find_loopback()}
    return LaunchConfig(
        min_nodes=settings.num_nodes,
        max_nodes=settings.num_nodes,
        nproc_per_node=settings.num_workers,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / WORKERS), redirects=Std.ERR),
        run_id=settings.run_id,
        role="default",  # torchrun's name for the workers
        rdzv_endpoint=settings.endpoint,
        rdzv_configs=dict(settings.rendezvous),
        max_restarts=settings.max_restarts,
        **{"rdzv_backend": "c10d"} | on_one_machine,  # type: ignore[arg-type]
    )


def honour_nohup(config: LaunchConfig) -> LaunchConfig:
    """The config of an agent that leaves SIGHUP ignored where `nohup` has it ignored, as do then its workers.

    Releases of torch without the field `signals_to_handle` handle SIGHUP in any case.
    """
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and hasattr(config, "signals_to_handle"):
        names = [name for name in config.signals_to_handle.split(",") if name != signal.SIGHUP.name]
        config.signals_to_handle = ",".join(names)
    return config


def register_loopback() -> str:
    """Register torch's c10d rendezvous with stores that listen on loopback only, and return its name.

    torch's own stores listen on all interfaces, to whoever connects, and unpickle what they get.
    """
    from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
    from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, create_handler

    class Backend(C10dRendezvousBackend):
        @property
        def name(self) -> str:
            return LOOPBACK_BACKEND

    def create(parameters: RendezvousParameters) -> DynamicRendezvousHandler:
        store = serve_on_loopback()
        handler = create_handler(store, Backend(store, parameters.run_id), parameters)
        # The agent makes a second store by this method, for its workers: MASTER_ADDR and MASTER_PORT.
        handler._create_tcp_store_server = (  # type: ignore[method-assign]
            lambda master_addr, master_port: serve_on_loopback()
        )
        return handler

    if LOOPBACK_BACKEND not in rendezvous_handler_registry._registry:
        rendezvous_handler_registry.register(LOOPBACK_BACKEND, create)
    return LOOPBACK_BACKEND


def serve_on_loopback() -> TCPStore:
    """A store on a free port that only processes of this machine reach."""
    from torch._C._distributed_c10d import TCPStore

    address = find_loopback()
    listener = listen(address)
    port = listener.getsockname()[1]
    return TCPStore(address, port, is_master=True, multi_tenant=True, master_listen_fd=listener.detach())


def choose_shutdown_variables(seconds: int | None, fields: Collection[str]) -> dict[str, str]:
    """The variable that says how long workers have after a stop signal, for the agent and for the workers.

    Args:
        seconds: None: the variable stays as it is.
        fields: names of LaunchConfig's fields in this release of torch. Releases without `shutdown_timeout` (2.6 is
            one) do not read the variable, kill after 30 seconds, and their workers must not rely on more.
    """
    known = seconds is not None and "shutdown_timeout" in fields
    return {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(seconds)} if known else {}


def make_handler(stop: Callable[[int], None]) -> Callable[[int, FrameType | None], None]:
    """A signal handler that calls `stop` for the first signal and ignores those that follow.

    SLURM signals every process of a step, and the process above this one passes its signal on: it arrives twice. The
    second would interrupt the agent while it waits for its workers, and the agent would send them SIGTERM.
    """
    is_stopping = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        if not is_stopping:
            is_stopping = True
            stop(number)

    return handle


def await_go() -> None:
    """Wait until the launcher lets this process start workers, whose standard input is then empty.

    Raises:
        SystemExit: the launcher has ended, or refuses what it was given.
    """
    if os.read(0, 1) != GO:
        raise SystemExit(EXIT_FAILED)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)


def end(code: int) -> NoReturn:
    """End this process with all that is registered for its exit, but without taking PyTorch's modules to pieces.

    That would take 0.2 s of a core, while the launcher waits. No code of a user's own runs in the agent.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed before Python began
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run the agent until its workers have ended."""
    folder = Path(arguments[0])
    settings = AgentSettings.read(folder)

    from .forked_workers import fork_parent, forking_workers

    parent = fork_parent(settings.arguments, settings.num_workers, await_go)

    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def stop(number: int) -> None:
        name = signal.Signals(number)
        raise SignalException(f"Process {os.getpid()} got signal: {name.name}", name)

    fields = {field.name for field in dataclasses.fields(LaunchConfig)}
    os.environ.update(choose_shutdown_variables(settings.shutdown_seconds, fields))
    # At SIGTERM, SIGINT, SIGHUP and SIGQUIT the agent raises SignalException, and sends its workers that signal. The
    # same for others is the field `signals_to_handle` in newer releases only, and there each signal raises again.
    handle = make_handler(stop)
    for number in (signal.SIGUSR2, signal.SIGXCPU):
        signal.signal(number, handle)
    config = honour_nohup(build_config(settings, folder))
    try:
        with forking_workers(parent):
            elastic_launch(config, sys.executable)("-u", *settings.arguments)
    except ChildFailedError as error:
        find_first_failure(error).write(folder)
        return EXIT_FAILED
    except SignalException as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


if __name__ == "__main__":
    refuse_typed(sys.argv[1:], 1, "local")
    end(main(sys.argv[1:]))
