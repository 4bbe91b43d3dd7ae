"""After a submission: how the jobs are, what they say, ending them, and following a run to its end."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from launch.array import Trial, describe_array, follow_array, read_trials
from launch.notices import last_attempt, own_failures, read_notices
from launch.requeue import read_own_code
from launch.schedulers.slurm_questions import (
    JOBS,
    SUBMIT,
    WAITING,
    JobState,
    ask_state,
    cancel,
    find_run_of_job,
    jobs_of,
    submission_time,
)
from signs_dist.console.command import CommandParser
from signs_dist.console.screen import Screen, columns, percent
from signs_dist.environment.context import is_watched
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.monitoring.beats import Work, read_beats
from signs_dist.monitoring.failure_card import FailureCard, choose_root, read_failures, render
from signs_dist.run_folder.folder import RunFolder

RUNS = Path("runs")
POLL_SECONDS = 0.5
ASK_SECONDS = 2.0
"""How often the controller is asked: it serves the whole site."""
SILENT_SECONDS = 30.0
"""A heartbeat older than this is that of a process that has ended; the machines' clocks may differ by less."""
CLOCK_SECONDS = 60.0
"""By which the clocks of machines may differ."""
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ?")
TAIL_LINES = 40


def build_parser() -> CommandParser:
    """The commands."""
    parser = CommandParser(prog="python launch/submit.py", description="Look after what was submitted.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{status,logs,cancel,wait}")
    status = commands.add_parser("status", help="how the runs are: the queue, the last step, what broke")
    logs = commands.add_parser("logs", help="what the last attempt of a run has said")
    stop = commands.add_parser("cancel", help="end a run's job; what was saved stays")
    wait = commands.add_parser("wait", help="follow a run to its end, and exit as it does")
    status.add_argument("name", nargs="?", metavar="RUN_DIR|JOB", help="one run (default: all below runs/)")
    for each in (logs, stop, wait):
        each.add_argument("name", metavar="RUN_DIR|JOB", help="the run's folder, or its job's id")
    logs.add_argument("--rank", type=int, default=0, metavar="N", help="which process (default: 0)")
    logs.add_argument("--all", action="store_true", help="all of it, not the last lines alone")
    return parser


def look_after(arguments: Sequence[str]) -> int:
    """Do as the arguments say."""
    options = build_parser().parse_args(list(arguments))
    if options.command == "status" and options.name is None:
        print(describe_all(sorted(find_runs(RUNS))))
        return EXIT_OK
    run_path = find_run(options.name)
    if trials := read_trials(run_path):
        return _look_after_array(run_path, trials, options)
    jobs = jobs_of(run_path)
    if options.command == "status":
        print(describe_run(run_path, jobs))
    elif options.command == "logs":
        print_logs(run_path, jobs, options)
    elif options.command == "wait":
        return follow(run_path, jobs[-1])
    else:
        alive = [job for job in jobs if ask_state(job).is_alive]
        cancel(alive)
        print(f"{run_path}: {'cancelled ' + ', '.join(alive) if alive else 'has no job that waits or runs'}")
    return EXIT_OK


def _look_after_array(folder: Path, trials: Sequence[Trial], options: argparse.Namespace) -> int:
    if options.command == "wait":
        return follow_array(folder)
    if options.command == "logs":
        names = "\n".join(f"  {trial.path}" for trial in trials)
        raise UserError(f"{folder} is an array. Name one of its runs:\n{names}")
    if options.command == "cancel":
        alive = [job for trial in trials for job in jobs_of(trial.path)[-1:] if ask_state(job).is_alive]
        cancel(alive)
        print(f"{folder}: {'cancelled ' + ', '.join(alive) if alive else 'has no job that waits or runs'}")
        return EXIT_OK
    print(describe_array(folder))
    return EXIT_OK


def find_runs(root: Path) -> Iterator[Path]:
    """Run folders below `root` for which a job was submitted."""
    for pattern in (f"*/{SUBMIT}/{JOBS}", f"*/*/{SUBMIT}/{JOBS}"):
        for path in root.glob(pattern):
            yield path.parent.parent


def find_run(name: str) -> Path:
    """The run folder of a name: its path, or the id of a job of it. Raises `UserError`."""
    if not name:
        raise UserError("which run? Type its folder, or its job's id.")
    path = Path(name)
    if (path / SUBMIT / JOBS).is_file():
        return path
    for run_path in find_runs(RUNS):
        if name in jobs_of(run_path):
            return run_path
    if re.fullmatch(r"\d+(_\d+)?", name) and (told := find_run_of_job(name)) is not None:
        return next((trial.path for trial in read_trials(told) if name in jobs_of(trial.path)), told)
    if path.is_dir():
        raise UserError(f"{name}: no job was submitted for this folder.")
    raise UserError(
        f"{name}: neither a run folder, nor a job that was submitted with launch/submit.py. "
        f"`python launch/submit.py status` lists those below {RUNS}/."
    )


def last_numbers(folder: RunFolder) -> dict[str, Any]:
    """The newest line of metrics.jsonl on training; empty before the first."""
    lines = folder.read_lines(folder.metrics)
    return next((line for line in reversed(lines) if line.get("kind") in ("epoch", "step")), {})


def describe_progress(folder: RunFolder) -> str:
    """How far a run is, in a few words."""
    numbers = last_numbers(folder)
    if not numbers:
        return ""
    words = [f"epoch {numbers.get('epoch')} step {numbers.get('step'):,}"]
    judged = [line for line in folder.read_lines(folder.metrics) if line.get("val_accuracy") is not None]
    if judged:
        words.append(f"best val {percent(max(line['val_accuracy'] for line in judged))}")
    return ", ".join(words)


def describe_all(paths: Sequence[Path]) -> str:
    """A table of runs."""
    if not paths:
        return f"no run below {RUNS}/ has a job; of one that is elsewhere, type the folder"
    rows = [("run", "job", "state", "progress")]
    for path in paths:
        if trials := read_trials(path):
            done = sum(trial.is_finished for trial in trials)
            rows.append((str(path), jobs_of(path)[-1], f"array: {done} of {len(trials)} finished", ""))
            continue
        folder, job = RunFolder(path), jobs_of(path)[-1]
        try:
            state = describe_state(folder, job)
        except UserError:
            state = "not known: SLURM does not answer"
        rows.append((str(path), job, state, describe_progress(folder)))
    return columns(rows)


def describe_state(folder: RunFolder, job: str) -> str:
    """A run is finished when its result is there, whatever SLURM calls its job. Raises `UserError` as `ask_state`."""
    if folder.is_finished:
        return "finished"
    state = ask_state(job)
    return state.describe() if state.is_alive else f"not finished ({state.describe()})"


def describe_run(run_path: Path, jobs: Sequence[str]) -> str:
    """One run in full: its job, its attempts, and the card of what broke."""
    folder = RunFolder(run_path)
    lines = [f"{run_path}: {describe_state(folder, jobs[-1])}; job {', '.join(jobs)}"]
    if progress := describe_progress(folder):
        lines.append(progress)
    for line in folder.read_lines(folder.attempts):
        if line.get("event") == "start":
            count = line.get("world_size")
            lines.append(
                f"  attempt {line['attempt']}  {line['time']}  {count} process{'' if count == 1 else 'es'}, "
                f"from step {line.get('first_step', 0):,}"
            )
        elif line.get("event") == "end":
            lost = f", {line['seconds_lost']:g} s lost" if line.get("seconds_lost") else ""
            lines.append(f"             {line['time']}  {line['reason']}{lost}")
        else:
            lines.append(f"             {line.get('time')}  requeued: {line.get('why')}")
    if not folder.is_finished and not ask_state(jobs[-1]).is_alive:
        lines += ["", last_words(run_path, jobs[-1])]
    return "\n".join(lines)


def last_words(run_path: Path, job: str) -> str:
    """Why a run has ended: the card, or where there is none, the last lines of its logs."""
    root = choose_root(cards_of(run_path, job))
    if root is not None:
        return render(root)
    # A task that failed before it trained has left no card: its own log tells.
    ranks = [rank for rank, _ in own_failures(read_notices(run_path, last_attempt(run_path, job)))] or [0]
    said = [line for path in job_logs(run_path, job, ranks[0]) for line in _last_lines(path, 8)]
    return "\n".join(said) or f"it has said nothing; its logs are in {run_path}/logs and {run_path}/{SUBMIT}"


def cards_of(run_path: Path, job: str) -> list[FailureCard]:
    """The cards of a job's processes: those of an earlier job are there until the next one trains."""
    submitted = submission_time(run_path, job)
    cards = read_failures(run_path / "logs")
    return [card for card in cards if submitted is None or card.time > submitted - CLOCK_SECONDS]


def last_error(run_path: Path, job: str) -> str:
    """The last line of a job's logs that tells an error, without more; "" where there is none."""
    for path in reversed(job_logs(run_path, job)):
        for line in reversed(_last_lines(path, TAIL_LINES)):
            if found := re.match(r" ?error(?::|  ) ?(.*)", line):
                return found[1]
    return ""


def job_logs(run_path: Path, job: str, rank: int = 0) -> list[Path]:
    """The files of a job: the batch script's, and those of a rank, an attempt each, the newest last."""
    number = job.removeprefix("local")
    folders = [run_path / SUBMIT, run_path.absolute().parent / SUBMIT]  # an array's own, for one of its runs
    batch = [path for folder in folders for path in sorted(folder.glob(f"*/submitit/{number}_0_log.out"))]
    if job.startswith("local"):  # what is said before a task says anything, and where none does
        batch = [*sorted((run_path / SUBMIT).glob("*/submitit/controller.log"))[-1:], *batch]
    return [*batch, *sorted(_rank_logs(run_path, job, str(rank)), key=lambda path: path.stat().st_mtime)]


def _rank_logs(run_path: Path, job: str, rank: str) -> Iterator[Path]:
    name = job if job.startswith("local") else f"job{job}"
    return (run_path / "logs").glob(f"{name}.*.rank{rank}.txt")


def known_ranks(run_path: Path, job: str) -> list[int]:
    """The ranks of a job that have a log of their own."""
    found = (re.search(r"\.rank(\d+)\.txt$", path.name) for path in _rank_logs(run_path, job, "*"))
    return sorted({int(each[1]) for each in found if each is not None})


def print_logs(run_path: Path, jobs: Sequence[str], options: argparse.Namespace) -> None:
    """Show what a job has said."""
    ranks = known_ranks(run_path, jobs[-1])
    if ranks and options.rank not in ranks:
        raise UserError(f"--rank {options.rank}: job {jobs[-1]} has the ranks {', '.join(map(str, ranks))}.")
    paths = job_logs(run_path, jobs[-1], options.rank)
    if not paths:
        raise UserError(f"job {jobs[-1]} has said nothing yet: it is {ask_state(jobs[-1]).describe()}.")
    for path in paths if options.all else [*paths[:1], *paths[1:][-1:]]:
        print(f"──── {path}")
        print("\n".join(_last_lines(path, sys.maxsize if options.all else TAIL_LINES)))


def follow(run_path: Path, job: str) -> int:
    """Show what rank 0 says until the run is finished or its job has ended; the exit code tells which.

    A requeue is followed through. Ctrl-C leaves the job as it is.
    """
    folder, log = RunFolder(run_path), run_path / "logs" / "rank0.log"
    place = log.stat().st_size if log.exists() else 0
    told, asked = "", -ASK_SECONDS
    state = JobState(job, WAITING[0])
    screen = Screen(is_terminal=is_watched())
    try:
        with screen.following() as show:
            while True:
                place = _show_new(log, place, screen)
                show(find_work(log.parent))
                if time.monotonic() - asked > ASK_SECONDS:
                    asked = time.monotonic()
                    try:
                        state = ask_state(job)
                        news = state.describe()
                    except UserError as error:  # a controller that is restarted is back soon, and the job goes on
                        news = str(error)
                    if news != told:
                        told = news
                        screen.say(f"job {job}: {told}")
                if not state.is_alive:
                    break
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        shown = shlex.quote(str(run_path))
        print(f"\nthe job goes on; python launch/submit.py wait {shown} follows it again", file=sys.stderr)
        raise
    _show_new(log, place, screen)
    if folder.is_finished:
        screen.say(f"finished: everything is in {run_path}")
        return EXIT_OK
    print(last_words(run_path, job), file=sys.stderr)
    print(f"not finished: job {job} is {state.describe()}", file=sys.stderr)
    return state.exit_code or read_own_code(folder, job, cards_of(run_path, job)) or EXIT_FAILED


def find_work(logs: Path) -> Work | None:
    """What rank 0 has under way by its heartbeat; None where it has none, or has not been heard of."""
    beat = read_beats(logs).get(0)
    return beat.work if beat is not None and abs(time.time() - beat.time) < SILENT_SECONDS else None


def _show_new(log: Path, place: int, screen: Screen) -> int:
    """Print what was added to rank 0's log, without the times; returns the new place."""
    if not log.exists():
        return place
    with log.open("rb") as stream:
        stream.seek(place)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        screen.say(STAMP.sub("", line))
    return place + len(whole)


def _last_lines(path: Path, most: int) -> list[str]:
    return path.read_text(errors="replace").rstrip("\n").split("\n")[-most:]
