"""Submit a training run to SLURM, and look after it.

python launch/submit.py --nodes 2 --gpus-per-node 4 --time 4:00:00 --partition gpu -- --config configs/signs.yaml
python launch/submit.py --dry-run …                       # everything except submitting
python launch/submit.py status|logs|cancel|wait [RUN_DIR|JOB]
python launch/submit.py doctor --nodes 2 …                # examine the nodes that a run would get
"""

from __future__ import annotations

import argparse
import difflib
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # as `python launch/submit.py`: a file has no package to import from, so it starts as a module
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in place of launch/
    runpy.run_module("launch.submit", run_name="__main__", alter_sys=True)

from signs_dist import train
from signs_dist.console.command import CommandParser, run_command
from signs_dist.environment.installation import spell
from signs_dist.errors import UserError

from .flags import FLAGS
from .local import read_sides
from .request import CLUSTERS
from .schedulers import SCHEDULERS

LOOKING_AFTER = ("status", "logs", "cancel", "wait")
COMMANDS = (*LOOKING_AFTER, "doctor")


def build_parser() -> CommandParser:
    """The flags of a submission."""
    parser = CommandParser(
        prog=spell("submit"),
        description="Submit a training run to SLURM: srun starts one process per GPU, ranks and addresses come from "
        "the allocation, and the run is saved and requeued at the time limit and at preemption. What follows `--` goes "
        "to signs_dist.train.",
        epilog=f"Before: {spell('submit')} doctor, which examines the nodes. Then: {spell('submit')} "
        "status|logs|cancel|wait [RUN_DIR|JOB]; each has a --help. Exit codes: 0 "
        "submitted (with --wait: finished), 2 wrong input or refused by SLURM; with --wait those of signs_dist.train.",
    )
    parser.add_argument(
        "--cluster",
        default="slurm",
        metavar="NAME",
        help=f"settings of a site: a file in {CLUSTERS}/ of this folder, a path, or one of {', '.join(SCHEDULERS)} "
        "(default: slurm)",
    )
    for name, (kind, metavar, text) in FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.add_argument("--agent", choices=("srun", "torchrun"), help="what starts the processes (default: srun)")
    parser.add_argument("--gpus-per-task", type=int, choices=(1,), help="let SLURM show each process its own GPU only")
    parser.add_argument(
        "--extra", action="append", metavar="NAME=VALUE", help="another parameter of sbatch; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the script, submit nothing")
    parser.add_argument("--no-snapshot", action="store_true", help="run the code as it is when the job starts")
    parser.add_argument(
        "--data-on-nodes", action="store_true", help="only compute nodes see the images: do not look for them here"
    )
    parser.add_argument(
        "--array",
        nargs="+",
        metavar="NAME=V1,V2",
        help="a run for each combination, such as seeds=0,1,2 optim.lr=0.1,0.03",
    )
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="runs of an array at once (default: 8; on this machine as many as it has cores or GPUs for)",
    )
    parser.add_argument("--wait", action="store_true", help="follow the run to its end, and exit with its exit code")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="for signs_dist.train")
    parser.passes_on = train.build_parser()
    return parser


def main(arguments: Sequence[str]) -> int:
    """Submit, or look after what was submitted."""
    first = arguments[0] if arguments else ""
    if first in LOOKING_AFTER:
        from .look_after import look_after

        return look_after(arguments)
    if first == "doctor":
        from .doctor import submit_doctor

        return submit_doctor(build_parser(), arguments[1:])
    if not first.startswith("-") and (near := difflib.get_close_matches(first, COMMANDS, n=1)):
        raise UserError(f"there is no command {first}. Did you mean {near[0]}? Commands: {', '.join(COMMANDS)}.")
    options, rest = read_sides(build_parser(), arguments, example="--nodes 1")
    if options.parallel is not None and not options.array:
        raise UserError("--parallel is for --array: how many of its runs there are at once. Omit it.")
    if options.parallel is not None and options.parallel < 1:
        raise UserError(f"--parallel {options.parallel}: at least 1.")
    if options.array:
        from .array import submit_array

        return submit_array(options, rest)
    from .run import submit_run

    return submit_run(options, rest)


def read_sweep_flags(words: Sequence[str]) -> argparse.Namespace:
    """The flags of a submission that are typed after `--slurm` of signs_dist.sweep. Raises `UserError`."""
    options, rest = read_sides(build_parser(), words, example="--nodes 1")
    if options.array or rest:
        given = "--array" if options.array else "--"
        raise UserError(f"{given} is not for a sweep, which has its runs already. Omit it.")
    if options.parallel is not None and options.parallel < 1:
        raise UserError(f"--parallel {options.parallel}: at least 1.")
    return options


def submit_sweep(options: argparse.Namespace, arguments: Sequence[str], settings: Mapping[str, tuple[str, ...]]) -> int:
    """Submit the runs of a sweep as one array. Called by signs_dist.sweep, by name.

    Args:
        options: from `read_sweep_flags`.
        arguments: those of signs_dist.train; --run-dir names the folder of all runs.
        settings: name of each run's folder below it → the run's settings.

    Raises:
        UserError: a run would fail, or the scheduler refuses the array.
    """
    from .array import submit_trials

    return submit_trials(options, arguments, settings)


if __name__ == "__main__":
    sys.exit(run_command(main))
