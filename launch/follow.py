"""Following a run, or an array, to its end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from signs_dist.console.screen import Screen
from signs_dist.console.streams import lasting
from signs_dist.environment.context import is_watched
from signs_dist.environment.installation import spell
from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED, UserError
from signs_dist.monitoring.beats import Work, read_beats
from signs_dist.run_folder.folder import RunFolder

from .jobs import is_finished, jobs_of
from .logs import cards_of, explain_end
from .program import typed
from .requeue import read_own_code
from .schedulers import ask_state
from .schedulers.base import WAITING, JobState
from .status import describe_array
from .trials import Trial, count_alive, read_trials

POLL_SECONDS = 0.5
ARRAY_POLL_SECONDS = 3.0
ASK_SECONDS = 2.0
"""How often the scheduler is asked: it serves the whole site."""
SILENT_SECONDS = 30.0
"""A heartbeat older than this is of a process that has ended; the machines' clocks may differ by less."""
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ?")


class StateWatch:
    """The state of a job, asked for every ASK_SECONDS; each change is told.

    Args:
        job: its id.
        tell: gets a line for each change.
    """

    def __init__(self, job: str, tell: Callable[[str], None]) -> None:
        self._job, self._tell = job, tell
        self._state = JobState(job, WAITING[0])
        self._asked, self._told = -ASK_SECONDS, ""

    def look(self) -> JobState:
        """The newest state that is known."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._asked = time.monotonic()
            try:
                self._state = ask_state(self._job)
                news = self._state.describe()
            except UserError as error:  # a controller that is restarting answers soon, and the job continues
                news = str(error)
            if news != self._told:
                self._told = news
                self._tell(f"job {self._job}: {news}")
        return self._state


def follow(run_path: Path, job: str) -> int:
    """Show rank 0's log until the run is finished or its job has ended, also across requeues; return the exit code.

    Ctrl-C ends this command and not the job.
    """
    folder, log = RunFolder(run_path), run_path / "logs" / "rank0.log"
    position = log.stat().st_size if log.exists() else 0
    screen = Screen(is_terminal=is_watched(), file=lasting(sys.stdout))  # its exit code is wanted, whoever reads it
    watch = StateWatch(job, screen.say)
    try:
        with screen.following() as show:
            while True:
                position = _show_new(log, position, screen)
                show(find_work(log.parent))
                state = watch.look()
                if not state.is_alive:
                    break
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        shown = typed(run_path)
        print(f"\nthe job continues. To follow it again: {spell('submit')} wait {shown}", file=sys.stderr)
        raise
    _show_new(log, position, screen)
    if is_finished(run_path, job):
        screen.say(f"finished: everything is in {run_path}")
        return EXIT_OK
    print(explain_end(run_path, job), file=sys.stderr)
    print(f"not finished: job {job} is {state.describe()}", file=sys.stderr)
    return state.exit_code or read_own_code(folder, job, cards_of(run_path, job)) or EXIT_FAILED


def follow_array(folder: Path) -> int:
    """Wait until no trial waits or runs, and print the table. Returns the worst of the trials' exit codes."""
    told, output = "", lasting(sys.stdout)  # as in `follow`
    while True:
        trials = read_trials(folder)
        try:
            alive = count_alive(trials)
            line = f"{sum(trial.is_finished for trial in trials)} of {len(trials)} trials finished, {alive} wait or run"
        except UserError as error:  # a controller that is restarting answers soon
            alive, line = len(trials), str(error)
        if line != told:
            print(line, file=output, flush=True)
            told = line
        if not alive:
            break
        time.sleep(ARRAY_POLL_SECONDS)
    print(describe_array(folder), file=output)
    return worst_code([_trial_code(trial) for trial in trials])


def worst_code(codes: Collection[int]) -> int:
    """The exit code of several runs: 0 if all have it, else the highest; a run that failed is worse than a stopped one.

    Only a failure needs more than the same command again.
    """
    failed = [code for code in codes if code not in (EXIT_OK, EXIT_STOPPED, EXIT_INTERRUPTED)]
    return max(failed or codes, default=EXIT_OK)


def _trial_code(trial: Trial) -> int:
    """The exit code of a trial whose job has ended."""
    if trial.is_finished:
        return EXIT_OK
    jobs = jobs_of(trial.path)
    if not jobs:
        return EXIT_FAILED
    code = ask_state(jobs[-1]).exit_code
    return code or read_own_code(RunFolder(trial.path), jobs[-1], cards_of(trial.path, jobs[-1])) or EXIT_FAILED


def find_work(logs: Path) -> Work | None:
    """The long work that rank 0 does now, by its heartbeat; None without such work, or if the heartbeat is old."""
    beat = read_beats(logs).get(0)
    return beat.work if beat is not None and abs(time.time() - beat.time) < SILENT_SECONDS else None


def _show_new(log: Path, position: int, screen: Screen) -> int:
    """Print what was added to rank 0's log since `position`, without the times; return the new position."""
    if not log.exists():
        return position
    with log.open("rb") as stream:
        stream.seek(position)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        screen.say(STAMP.sub("", line))
    return position + len(whole)
