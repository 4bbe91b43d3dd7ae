"""A torchrun on each node of a SLURM job, which starts the node's processes and meets the others by itself.

srun --ntasks-per-node=1 python -m launch.agent --nproc 4 -- --config configs/signs.yaml --run-dir runs/a
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.local import split_arguments
from launch.notices import note_signal
from launch.torchrun import Launch, start
from signs_dist.console.command import CommandParser, run_command
from signs_dist.environment.context import read_context
from signs_dist.environment.port_exchange import ask, find_free_port, hosted
from signs_dist.errors import UserError

MEETING_SECONDS = 120.0
"""How long the agent of a node waits for that of the first."""


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
    """Start torchrun for this node, and return the exit code of its processes.

    Args:
        num_processes: on this node.
        arguments: of signs_dist.train.
        run_path: the run folder, where a signal is noted down for who decides on a requeue.
        max_restarts: how often torchrun may start the processes anew.
        program: what each process runs before its arguments.
        folder: where torchrun is started; None: here.
        shutdown_seconds: how long processes may take to save and end after a stop signal; None: torchrun's default.

    Raises:
        UserError: SLURM has not started this process, or more than one on this node.
        PeerLostError: the first node's agent was not found.
    """
    context = read_context()
    if not context.is_by_slurm or not context.meeting_name:
        raise UserError("launch.agent is started by srun, once on each node. On one machine: python -m launch.local")
    if context.local_world_size > 1:
        raise UserError(
            f"srun has started {context.local_world_size} tasks on this node, and torchrun starts the others itself. "
            f"Type srun --ntasks-per-node=1"
        )
    name, address = f"agents {context.meeting_name}", context.master_address or "localhost"
    variables = {}
    if "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, context.cores_per_process // num_processes))
    with contextlib.ExitStack() as stack:
        if context.rank == 0:
            port = find_free_port()
            stack.enter_context(hosted(name, port))  # as long as agents may come
        else:
            port = ask(name, address, context.rank, MEETING_SECONDS)
        launch = Launch(
            num_processes,
            variables,
            tuple(arguments),
            max_restarts,
            rendezvous=(
                f"--nnodes={context.world_size}",
                "--rdzv-backend=c10d",
                f"--rdzv-endpoint={address}:{port}",
                f"--rdzv-id={context.launch_id}.{context.restart_count}",
                # Else torchrun compares names and addresses, which on machines with several networks finds nobody.
                f"--rdzv-conf=is_host={'true' if context.rank == 0 else 'false'}",
            ),
            program=program,
            folder=folder,
            shutdown_seconds=shutdown_seconds,
        )
        return start(launch, on_signal=lambda number: note_signal(run_path, context.rank, number))


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m launch.agent",
        description="In a SLURM job, started by srun once on each node: train on several processes there by torchrun.",
        epilog="What follows `--` goes to signs_dist.train, with its --run-dir, and so do its exit codes come back.",
    )
    parser.add_argument("--nproc", type=int, required=True, metavar="N", help="number of processes on each node")
    parser.add_argument(
        "--max-restarts", type=int, default=3, metavar="N", help="start all anew, so many times (default: 3)"
    )
    parser.add_argument(
        "--shutdown-seconds",
        type=int,
        metavar="N",
        help="how long processes may save after a stop signal (default: torchrun's own 30)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Start as the arguments say."""
    own, rest = split_arguments(arguments)
    options = build_parser().parse_args(own)
    if options.nproc < 1 or options.max_restarts < 0:
        raise UserError(f"--nproc {options.nproc} --max-restarts {options.max_restarts}: at least 1, and at least 0.")
    from signs_dist import train

    run_path = train.build_parser().parse_intermixed_args(rest).run_dir
    if run_path is None:
        raise UserError("a job that may be started again must find its run: add --run-dir behind --.")
    return start_agent(
        options.nproc,
        rest,
        run_path,
        max_restarts=options.max_restarts,
        shutdown_seconds=options.shutdown_seconds,
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
