"""The commands after a submission: status, logs, cancel, wait."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_OK, UserError

from .follow import follow, follow_array
from .jobs import JOBS, SUBMIT, jobs_of
from .logs import print_array_logs, print_logs
from .schedulers import ask_state, cancel, scheduler_of
from .status import describe_array, describe_runs, describe_submitted_run
from .trials import Trial, read_trials

RUNS = Path("runs")


def build_parser() -> CommandParser:
    """The commands."""
    parser = CommandParser(prog=spell("submit"), description="Look after what was submitted.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{status,logs,cancel,wait}")
    status = commands.add_parser("status", help="how far runs are: the queue, the last step, what failed")
    logs = commands.add_parser("logs", help="the log of a run's last attempt")
    stop = commands.add_parser("cancel", help="end a run's job; what was saved stays")
    wait = commands.add_parser("wait", help="follow a run to its end, and exit with its exit code")
    status.add_argument("name", nargs="?", metavar="RUN_DIR|JOB", help="one run (default: all below runs/)")
    for each in (logs, stop, wait):
        each.add_argument("name", metavar="RUN_DIR|JOB", help="the run's folder, or its job's id")
    logs.add_argument("--rank", type=int, default=0, metavar="N", help="which process (default: 0)")
    logs.add_argument("--all", action="store_true", help="every line of every attempt, not only the last lines")
    return parser


def look_after(arguments: Sequence[str]) -> int:
    """Do what the arguments say."""
    options = build_parser().parse_args(list(arguments))
    if options.command == "status" and options.name is None:
        paths = sorted(find_runs(RUNS))
        print(describe_runs(paths) if paths else f"no run below {RUNS}/ has a job. For a run elsewhere type its folder")
        return EXIT_OK
    run_path = find_run(options.name)
    if trials := read_trials(run_path):
        return _look_after_array(run_path, trials, options)
    jobs = jobs_of(run_path)
    if options.command == "wait":
        return follow(run_path, jobs[-1])
    if options.command == "status":
        print(describe_submitted_run(run_path, jobs))
    elif options.command == "logs":
        print_logs(run_path, jobs[-1], rank=options.rank, is_all=options.all)
    else:
        print(cancel_alive(run_path, jobs))
    return EXIT_OK


def _look_after_array(folder: Path, trials: Sequence[Trial], options: argparse.Namespace) -> int:
    if options.command == "wait":
        return follow_array(folder)
    if options.command == "logs":
        print_array_logs(trials, str(folder), rank=options.rank, is_all=options.all)
    elif options.command == "cancel":
        print(cancel_alive(folder, [job for trial in trials for job in jobs_of(trial.path)[-1:]]))
    else:
        print(describe_array(folder))
    return EXIT_OK


def cancel_alive(path: Path, jobs: Sequence[str]) -> str:
    """Cancel the jobs that wait or run; returns a line that names them. Raises `UserError` if the scheduler refuses."""
    alive = [job for job in jobs if ask_state(job).is_alive]
    cancel(alive)
    return f"{path}: {'cancelled ' + ', '.join(alive) if alive else 'has no job that waits or runs'}"


def find_runs(root: Path) -> Iterator[Path]:
    """Run folders below `root` for which a job was submitted."""
    for pattern in (f"*/{SUBMIT}/{JOBS}", f"*/*/{SUBMIT}/{JOBS}"):
        for path in root.glob(pattern):
            yield path.parent.parent


def find_run(name: str) -> Path:
    """The run folder of a name: its path, or the id of one of its jobs. Raises `UserError`."""
    if not name:
        raise UserError("which run? Type its folder, or its job's id.")
    path = Path(name)
    if (path / SUBMIT / JOBS).is_file():
        return path
    for run_path in find_runs(RUNS):
        if name in jobs_of(run_path):
            # On this machine an array has the id of its first run.
            return next((trial.path for trial in read_trials(run_path) if name in jobs_of(trial.path)), run_path)
    if (told := scheduler_of(name).find_run(name)) is not None:
        return next((trial.path for trial in read_trials(told) if name in jobs_of(trial.path)), told)
    if path.is_dir():
        raise UserError(f"{name}: no job was submitted for this folder.")
    raise UserError(
        f"{name} is neither a run folder nor a job that {spell('submit')} has submitted. "
        f"Type {spell('submit')} status to see the runs below {RUNS}/."
    )
