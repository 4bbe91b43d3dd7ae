"""Start a run on several processes of this machine, as torchrun does, with port, devices, threads and logs set up.

python -m launch.local --nproc 4 -- --config configs/signs.yaml
python -m launch.local --gpus 0,2,5,6 -- --config configs/signs.yaml optim.lr=0.05
python -m launch.local --nproc 4 --module signs_dist.doctor
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module

from signs_dist import train
from signs_dist.cli import COMMANDS
from signs_dist.console.command import MOST_PROCESSES, CommandParser, run_command, whole_number
from signs_dist.environment.context import read_context
from signs_dist.environment.devices import parse_gpus
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK, UserError
from signs_dist.run_folder.folder import RunFolder

from .torchrun import LaunchPlan, choose_thread_variables, start

TRAIN = "signs_dist.train"
"""What each process runs, unless --module names another module."""
_WITH_DEVICE = ("signs_dist.bench", "signs_dist.doctor")
"""Others that take --device."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog=spell("local"),
        description="Train on several processes of this machine (DistributedDataParallel): one per GPU, or on the CPU. "
        "The command chooses a free port, and sets each process's device, threads and log.",
        epilog="Arguments after `--` are for signs_dist.train. Exit codes are those of signs_dist.train.",
    )
    parser.add_argument(
        "--nproc",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="number of processes (default: one per GPU of --gpus)",
    )
    parser.add_argument(
        "--gpus", metavar="0,2,5,6", help="which GPUs: numbers as nvidia-smi shows them, or GPU-… names (default: all)"
    )
    parser.add_argument(
        "--max-restarts",
        type=whole_number(10_000),
        default=0,
        metavar="N",
        help="start all processes again when one fails, at most N times, from the newest checkpoint (default: 0)",
    )
    parser.add_argument(
        "--module",
        default=TRAIN,
        metavar="NAME",
        help="what each process runs, such as signs_dist.doctor (default: signs_dist.train)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the command that would be started, and exit")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="for signs_dist.train, or for NAME")
    parser.passes_on = train.build_parser()
    return parser


def main(arguments: Sequence[str]) -> int:
    """Start the processes, or with --dry-run print what would be started."""
    options, rest = read_sides(build_parser(), arguments, example="--nproc 4")
    context = read_context()
    if context.launcher != "python":
        raise UserError(f"{spell('local')} starts processes itself: type it as it is, not under {context.launcher}.")
    plan = plan_launch(
        nproc=options.nproc,
        gpus=options.gpus,
        max_restarts=options.max_restarts,
        arguments=rest,
        usable_cores=context.usable_cores,
        environment=os.environ,
        module=options.module,
    )
    if options.dry_run:
        print(describe_launch(plan))
        return EXIT_OK

    def check() -> None:
        if options.module == TRAIN:
            check_arguments(rest, plan.num_processes)
        else:
            check_flags(options.module, rest)
        if options.gpus is None and plan.num_processes > context.usable_cores:
            from signs_dist.console.screen import Screen

            screen = Screen(is_terminal=context.is_terminal, quiet="--quiet" in rest)
            screen.say(describe_shared_cores(plan.num_processes, context.usable_cores))

    return start(plan, check=check)  # while the processes' parent imports torch


def check_arguments(arguments: Sequence[str], num_processes: int) -> None:
    """Refuse at once, and once, what each process would refuse after its start.

    Args:
        arguments: of signs_dist.train.
        num_processes: that share the batch.

    Raises:
        UserError: a setting is wrong, or the batch cannot be cut for so many processes.
    """
    from signs_dist.config.file_text import refuse_pipe
    from signs_dist.config.reading import accepted_names, read_config
    from signs_dist.data.plan import cut_global_batch

    options = train.build_parser().parse_intermixed_args(arguments)
    refuse_pipe(options.config)  # also for one process, which would find it read to its end
    config = read_config(options.config, options.overrides).config
    accepted_names(options.accept_change)
    if options.run_dir is not None and RunFolder(options.run_dir).is_begun:
        return  # it may be finished, and its micro-batch is kept: the processes look into it
    cut_global_batch(config.train.global_batch, config.train.micro_batch, num_processes)


def check_flags(module: str, arguments: Sequence[str]) -> None:
    """Let the parser of one of this toolkit's commands read the arguments: wrong ones end this process.

    Args:
        module: what each process runs.
        arguments: of it.
    """
    if module in {name for name, _ in COMMANDS.values()}:
        import_module(module).build_parser().parse_intermixed_args(arguments)


def describe_shared_cores(num_processes: int, num_cores: int) -> str:
    """The note that there are more processes than cores."""
    cores = "core" if num_cores == 1 else "cores"
    return (
        f"note: {num_processes} processes on {num_cores} usable {cores} take turns; more than {num_cores} are slower, "
        f"and each holds its own copy of the model in memory"
    )


def describe_launch(plan: LaunchPlan) -> str:
    """The torchrun command that starts the same processes on this machine, as a person would type it."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in plan.variables.items()]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    flags = [f"--nproc-per-node={plan.num_processes}", f"--max-restarts={plan.max_restarts}"]
    return " ".join([*variables, shlex.join([*torchrun, *flags, *plan.program, *plan.arguments])])


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before the first `--`, and those after it."""
    if "--" not in arguments:
        return list(arguments), []
    place = list(arguments).index("--")
    return list(arguments[:place]), list(arguments[place + 1 :])


def read_sides(
    parser: CommandParser, arguments: Sequence[str], *, example: str, module: str = TRAIN
) -> tuple[argparse.Namespace, list[str]]:
    """A launcher's own flags, and the arguments after the first `--`, which are for the command that it starts.

    Args:
        parser: of the launcher; its positional `arguments` takes what belongs after `--`, to name it in the message.
        arguments: as typed.
        example: flags for the message.
        module: what takes the arguments after `--`.

    Raises:
        UserError: an argument is on the wrong side of `--`.
    """
    own, rest = split_arguments(arguments)
    options = parser.parse_args(own)
    require_on_its_side(parser, rest)
    if options.arguments:
        raise UserError(
            f"arguments for {module} go after --, such as: {parser.prog} {example} -- {shlex.join(options.arguments)}"
        )
    return options, rest


def require_on_its_side(parser: CommandParser, rest: Sequence[str]) -> None:
    """Refuse the launcher's own flags after the first `--`.

    Args:
        parser: of the launcher.
        rest: the arguments after `--`.

    Raises:
        UserError: naming the flag.
    """
    assert parser.passes_on is not None
    own = set(parser.flags()) - set(parser.passes_on.flags())
    wrong = next((word for word in rest if word.partition("=")[0] in own), None)
    if wrong is not None:
        name = wrong.partition("=")[0]
        raise UserError(f"{name} is a flag of this command: type it before --, as in {parser.prog} {name} … -- …")


def plan_launch(
    *,
    nproc: int | None,
    gpus: str | None,
    arguments: Sequence[str],
    usable_cores: int,
    environment: Mapping[str, str],
    max_restarts: int = 0,
    module: str = TRAIN,
) -> LaunchPlan:
    """Decide what to start.

    Args:
        nproc: `--nproc`, or None.
        gpus: `--gpus`, or None.
        arguments: of signs_dist.train.
        usable_cores: of this machine.
        environment: of this process.
        max_restarts: `--max-restarts`.
        module: `--module`.

    Raises:
        UserError: a number is not legal, or contradicts another.
    """
    variables = {}
    if gpus is not None:
        names = parse_gpus(gpus)
        if nproc is not None and nproc > len(names):
            raise UserError(
                f"--nproc {nproc} with --gpus {gpus}: {nproc} processes, but {len(names)} GPUs. "
                f"Type --nproc {len(names)}, or name {nproc} GPUs."
            )
        nproc = len(names) if nproc is None else nproc
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(names[:nproc])
        if module in (TRAIN, *_WITH_DEVICE) and not any(
            argument.partition("=")[0] == "--device" for argument in arguments
        ):
            arguments = ["--device", "cuda", *arguments]  # without these GPUs the run fails rather than use the CPU
    if nproc is None:
        raise UserError("how many processes? Type --nproc 4, or --gpus 0,1,2,3 for one per GPU.")
    if nproc < 1:
        raise UserError(f"--nproc {nproc}: at least 1.")
    if max_restarts < 0:
        raise UserError(f"--max-restarts {max_restarts}: 0 or more.")
    if "--dp" in arguments:
        raise UserError("--dp is one process with several GPUs. Omit it here: each process has a GPU of its own.")
    variables |= choose_thread_variables(environment, usable_cores, nproc)
    return LaunchPlan(nproc, variables, tuple(arguments), max_restarts, program=("-m", module))


if __name__ == "__main__":
    sys.exit(run_command(main))
