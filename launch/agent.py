"""In a SLURM job, start the processes of one node under torch's elastic agent, which meets the other nodes' agents.

srun --ntasks-per-node=1 python -m launch.agent --nproc 4 -- --config configs/signs.yaml --run-dir runs/a
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.console.command import MOST_PROCESSES, CommandParser, run_command, whole_number
from signs_dist.environment.addresses import await_name
from signs_dist.environment.context import Context, read_context
from signs_dist.environment.installation import spell
from signs_dist.environment.port_exchange import ask, find_free_port, hosted
from signs_dist.errors import UserError
from signs_dist.monitoring.waiting import telling

from .local import split_arguments
from .notices import note_signal
from .torchrun import LaunchPlan, Rendezvous, choose_thread_variables, start

MEETING_SECONDS = 120.0
"""How long the agent of a node waits for the agent of the first node."""


def start_agent(
    num_processes: int,
    arguments: Sequence[str],
    run_path: Path,
    *,
    max_restarts: int,
    program: tuple[str, ...] = ("-m", "signs_dist.train"),
    folder: str | None = None,
    shutdown_seconds: int | None = None,
) -> int:
    """Start the processes of this node, and return their exit code.

    Args:
        num_processes: on this node.
        arguments: of signs_dist.train.
        run_path: the run folder, where a signal is noted for the decision on a requeue.
        max_restarts: how often all processes may be started again within one attempt of the job.
        program: what Python runs in each process, before `arguments`.
        folder: the working folder of the processes; None: the same as of this process.
        shutdown_seconds: how long after a stop signal processes are killed, and so the time to save; None: torch's 30.

    Raises:
        UserError: SLURM has not started this process, or has started several tasks on this node.
        PeerLostError: the first node's agent was not found.
    """
    context = read_context()
    require_one_task_per_node(context)
    name, address = f"agents {context.meeting_name}", context.master_address or "localhost"
    with contextlib.ExitStack() as stack:
        if context.rank == 0:
            require_address(address, context.host)
            port = find_free_port()
            stack.enter_context(hosted(name, port))  # until the end: an agent may come late
        else:
            looks = f"the agent on {context.host} looks for the first node's agent at {address}"
            with telling(lambda: f"{looks}; after {MEETING_SECONDS:g} s it ends"):
                port = ask(name, address, context.rank, MEETING_SECONDS)
        plan = LaunchPlan(
            num_processes,
            choose_variables(os.environ, context, num_processes),
            tuple(arguments),
            max_restarts,
            rendezvous=plan_rendezvous(context, f"{address}:{port}"),
            program=program,
            folder=folder,
            shutdown_seconds=shutdown_seconds,
        )
        return start(plan, on_signal=lambda number: note_stop(run_path, context.rank, number))


def note_stop(run_path: Path, rank: int, number: int) -> None:
    """Record a signal for the decision on a requeue, unless SLURM sends it for a person only, as it does SIGHUP."""
    if number not in (signal.SIGHUP, signal.SIGXCPU):
        note_signal(run_path, rank, number)


def require_address(address: str, host: str, seconds: float = MEETING_SECONDS) -> None:
    """Raise unless the name of the first node resolves on it: its agent connects to itself by this name.

    Raises:
        UserError: saying what the name server answers.
    """
    with telling(lambda: f"the agent on {host} looks up the address of {address}"):
        reason = await_name(address, seconds)
    if reason:
        raise UserError(
            f"{host} found no address for {address}, the first node of the job, within {seconds:g} s: {reason}. Set "
            f"MASTER_ADDR to a name or an address of this machine that all nodes know."
        )


def require_one_task_per_node(context: Context) -> None:
    """Raise unless srun has started one task on this node.

    Raises:
        UserError: saying how to start it.
    """
    if not context.is_by_slurm or not context.meeting_name:
        raise UserError(f"{spell('agent')} is started by srun, once on each node. On one machine: {spell('local')}")
    if context.local_world_size > 1:
        raise UserError(
            f"srun has started {context.local_world_size} tasks on this node, and each would start all of the node's "
            f"processes. Type srun --ntasks-per-node=1"
        )


def choose_variables(environment: Mapping[str, str], context: Context, num_processes: int) -> dict[str, str]:
    """The variables that are added for this node's processes, which share the cores of this task."""
    return choose_thread_variables(environment, context.cores_per_process, num_processes)


def plan_rendezvous(context: Context, endpoint: str) -> Rendezvous:
    """Where the agents of this attempt of the job meet.

    Args:
        context: of this task.
        endpoint: HOST:PORT on the first node.
    """
    return Rendezvous(
        num_nodes=context.world_size,
        endpoint=endpoint,
        run_id=f"{context.launch_id}.{context.restart_count}",
        # torch would compare names and addresses: on nodes with several networks it may find no host.
        is_host=context.rank == 0,
    )


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog=spell("agent"),
        description="In a SLURM job, started by srun once on each node: train on several processes of that node, under "
        "torch's elastic agent, as torchrun does.",
        epilog="Arguments after `--` are for signs_dist.train, its --run-dir among them. Exit codes are those of "
        "signs_dist.train.",
    )
    parser.add_argument(
        "--nproc",
        type=whole_number(MOST_PROCESSES),
        required=True,
        metavar="N",
        help="number of processes on each node",
    )
    parser.add_argument(
        "--max-restarts",
        type=whole_number(10_000),
        default=3,
        metavar="N",
        help="start all processes again when one fails, at most N times (default: 3)",
    )
    parser.add_argument(
        "--shutdown-seconds",
        type=whole_number(7 * 86_400),
        metavar="N",
        help="how long processes may save after a stop signal (default: torch's own 30)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Start the processes of this node."""
    own, rest = split_arguments(arguments)
    options = build_parser().parse_args(own)
    if options.nproc < 1 or options.max_restarts < 0:
        raise UserError(
            f"--nproc {options.nproc} --max-restarts {options.max_restarts}: --nproc is at least 1, --max-restarts at "
            f"least 0."
        )
    from signs_dist import train

    run_path = train.build_parser().parse_intermixed_args(rest).run_dir
    if run_path is None:
        raise UserError("a job that is started again must find its run: add --run-dir after --.")
    return start_agent(
        options.nproc,
        rest,
        run_path,
        max_restarts=options.max_restarts,
        shutdown_seconds=options.shutdown_seconds,
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
