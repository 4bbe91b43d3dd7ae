"""Whether to requeue a job: its batch script asks once, when all tasks have ended.

    signal or event                                              who requeues
    SIGUSR2, `--signal-seconds` before the time limit            this toolkit
    SIGTERM at a preemption with grace time                      this toolkit: a job that ends by itself within the
                                                                 grace time is not requeued by SLURM
    SIGTERM at a preemption without grace time                   SLURM
    a node that fails                                            SLURM
    scontrol requeue                                             SLURM
    an exact run is on machines that compute other bits          this toolkit, without these machines
    a check of an exact run has found faulty hardware            this toolkit, without these machines

python -m launch.requeue RUN_DIR --exit-code CODE …          (internal: prints `requeue`, `requeue-without NODES` or
                                                              `end` and why; its own exit code is that for the job)
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import re
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.environment.installation import spell
from signs_dist.environment.slurm_job import JobAttempt, read_job_attempt, read_node_list
from signs_dist.errors import EXIT_FAILED, EXIT_OK, EXIT_OTHER_ARITHMETIC, EXIT_STOPPED
from signs_dist.monitoring.failure_card import FailureCard, read_failures
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.run_folder.folder import RunFolder, timestamp
from signs_dist.run_folder.other_machine import OTHER_BITS, WRONG_RESULTS, read_other_machine, read_why
from signs_dist.run_folder.records import AttemptLine, EndLine, RequeueLine, StartLine, of_kind

from .durations import parse_duration
from .notices import CODE, EXIT_TERMINATED, NOT_ITS_OWN, last_attempt, own_failures, read_notices

NEAR_SECONDS = 90.0
"""A job that ends within this time after its signal was due was signalled because of its time limit."""
MAX_ELSEWHERE = 3
"""How often a job is requeued because it was on machines that compute other bits than its run did, or wrong ones."""
EXIT_KILLED = 128 + signal.SIGKILL
"""Exit code of a task that was killed, by the kernel when memory runs out, or by a person."""
EXIT_SIGNALLED = 128 + signal.SIGUSR2
"""Exit code of a task that got the job's signal before it had a handler: in the first half second of launch.job, and in
the templates of slurm/ until the task trains."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """How an attempt has ended.

    Attributes:
        exit_code: of the task that failed by itself, after which srun ended the others; else the highest of all tasks.
        signals: the names of its signals.
        seconds_left: until its time limit; None without a limit.
        is_preempted: whether it is in the grace time of a preemption.
        job_state: SLURM's state of the job: RUNNING unless SLURM ends or requeues the job; "" if SLURM does not answer.
        signal_seconds: how long before the time limit its signal is due.
        restart_count: how often the job was requeued before.
        timeouts: how often this toolkit has requeued it because its time limit was near.
        idle_attempts: how many attempts in a row, up to this one, have made no step.
        other_machines: the nodes that it should not come back to, as SLURM names them; "" for none.
        why_other: what is wrong with them.
        elsewhere: how often this toolkit has requeued the job for that.
        excluded: the nodes that SLURM does not give to the job already.
    """

    exit_code: int
    signals: frozenset[str]
    seconds_left: float | None
    signal_seconds: float
    restart_count: int
    timeouts: int
    idle_attempts: int
    is_preempted: bool = False
    job_state: str = "RUNNING"
    other_machines: str = ""
    why_other: str = OTHER_BITS
    elsewhere: int = 0
    excluded: str = ""

    @property
    def is_timeout(self) -> bool:
        """Whether it was signalled because its time limit was near."""
        near = self.seconds_left is not None and self.seconds_left <= self.signal_seconds + NEAR_SECONDS
        return near and not self.is_preempted

    @property
    def cause(self) -> str:
        """Why it was signalled, in a few words."""
        if self.is_preempted:
            return "it was preempted"
        return "its time limit was near" if self.is_timeout else "it was signalled"


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether to requeue, and why, in one line.

    Attributes:
        exit_code: the job's; None for that of its tasks.
        excluded: all nodes that the requeued job must not come back to; "" to leave them as they are.
    """

    is_requeue: bool
    why: str
    exit_code: int | None = None
    excluded: str = ""

    @property
    def line(self) -> str:
        """What the batch script reads."""
        verb = f"requeue-without {self.excluded}" if self.excluded else "requeue"
        return f"{verb if self.is_requeue else 'end'} {self.why}"


def decide(ending: Ending, *, max_requeues: int, max_timeouts: int) -> Decision:
    """Whether this toolkit requeues the job.

    Args:
        ending: how the attempt has ended.
        max_requeues: how often a job may be requeued in all.
        max_timeouts: how often because its time limit was near.
    """
    if ending.exit_code == EXIT_OK:
        return Decision(False, "finished")
    code_of_other = EXIT_FAILED if ending.why_other == WRONG_RESULTS else EXIT_OTHER_ARITHMETIC
    if ending.exit_code == code_of_other and ending.other_machines:
        return _decide_elsewhere(ending, max_requeues=max_requeues)
    if ending.exit_code not in (EXIT_STOPPED, EXIT_TERMINATED, EXIT_SIGNALLED):
        return Decision(False, f"the attempt failed by itself (exit code {ending.exit_code})")
    if signal.SIGTERM.name in ending.signals and not ending.is_preempted:
        return Decision(False, "stopped by SIGTERM: SLURM ends the job, or has requeued it already")
    if not ending.signals and not (ending.is_preempted and ending.exit_code == EXIT_TERMINATED):
        if ending.exit_code == EXIT_TERMINATED:
            return Decision(False, "a task was killed, and srun ended the others", EXIT_KILLED)
        return Decision(False, "stopped by a person")
    if ending.job_state not in ("RUNNING", ""):
        return Decision(False, f"SLURM ends or requeues it already: the job is {ending.job_state.lower()}")
    cause = ending.cause
    if ending.restart_count >= max_requeues:
        return Decision(False, f"{cause}, but it was requeued {_times(max_requeues)}: max_requeues")
    if ending.is_timeout and ending.timeouts >= max_timeouts:
        return Decision(False, f"{cause}, but it was requeued for that {_times(max_timeouts)}: max_timeouts")
    if ending.idle_attempts >= 2:
        return Decision(False, f"{cause}, but two attempts in a row made no step")
    return Decision(True, cause)


def _decide_elsewhere(ending: Ending, *, max_requeues: int) -> Decision:
    """Whether the job may come back on other nodes than those that compute other bits, or wrong ones."""
    cause = f"{ending.other_machines} {ending.why_other}"
    remedy = (
        "submit it with --constraint for the kind of node that the run began on, or with --accept-change arithmetic"
        if ending.why_other == OTHER_BITS
        else f"submit it with --exclude {ending.other_machines}"
    )
    if ending.job_state not in ("RUNNING", ""):
        return Decision(False, f"SLURM ends or requeues it already: the job is {ending.job_state.lower()}")
    if ending.restart_count >= max_requeues:
        return Decision(False, f"{cause}, and it was requeued {_times(max_requeues)}: max_requeues; {remedy}")
    if ending.elsewhere >= MAX_ELSEWHERE:
        return Decision(False, f"{cause}, and it was requeued for that {_times(MAX_ELSEWHERE)}; {remedy}")
    known = [ending.excluded] if ending.excluded else []
    return Decision(True, cause, excluded=",".join([*known, ending.other_machines]))


def _times(count: int) -> str:
    return {0: "0 times", 1: "once"}.get(count, f"{count} times")


def count_idle(lines: Sequence[AttemptLine], attempt: JobAttempt) -> int:
    """How many attempts of a job in a row, counted back from `attempt`, have made no step.

    Args:
        lines: of attempts.jsonl. An attempt that was signalled or killed before it trained has no line.
        attempt: the attempt that has just ended.
    """
    counts = range(attempt.restart_count, -1, -1)
    made = (count_steps(lines, JobAttempt(attempt.job, count)) for count in counts)
    return len(list(itertools.takewhile(lambda steps: steps == 0, made)))


def count_steps(lines: Sequence[AttemptLine], attempt: JobAttempt) -> int:
    """How many steps of an attempt were saved. torchrun may have restarted the processes within the attempt.

    An attempt that was killed has no line for its end: the first step of the next start tells how far it had saved.
    """
    starts = of_kind(lines, StartLine)
    own = [number for number, line in enumerate(starts) if line.job == attempt.mark]
    if not own:
        return 0
    ends = _ends_of(lines, attempt)
    following = starts[own[-1] + 1 : own[-1] + 2]
    first = starts[own[0]].first_step
    reached = [line.last_step for line in ends] + [line.first_step for line in following]
    return max(0, max(reached, default=first) - first)


def stop_signals(lines: Sequence[AttemptLine], attempt: JobAttempt) -> set[str]:
    """Names of the signals that stopped an attempt while it trained, by its last line for an end."""
    reasons = [line.reason for line in _ends_of(lines, attempt)]
    names = (signal.SIGTERM.name, signal.SIGUSR2.name)
    return {name for reason in reasons[-1:] for name in names if reason.startswith(f"stopped by {name} ")}


def _ends_of(lines: Sequence[AttemptLine], attempt: JobAttempt) -> list[EndLine]:
    numbers = {line.attempt for line in of_kind(lines, StartLine) if line.job == attempt.mark}
    return [line for line in of_kind(lines, EndLine) if line.attempt in numbers]


def read_ending(
    folder: RunFolder, exit_code: int, environment: Mapping[str, str], *, job: str, signal_seconds: float
) -> Ending:
    """How the attempt has ended, from the run folder and from SLURM.

    Args:
        folder: the run folder.
        exit_code: of its tasks.
        environment: of the batch script.
        job: what `scontrol --oneliner show job` says.
        signal_seconds: how long before the time limit the job's signal is due.
    """
    lines = folder.read_attempts()
    attempt = read_job_attempt(environment)
    met = {signal.SIGUSR2.name} if exit_code == EXIT_SIGNALLED else set()
    notices = read_notices(folder.path, attempt.mark)
    noticed = {what for _, what in notices if not what.startswith(CODE)}
    # Notices come first: torchrun sends SIGTERM to its processes whatever signal it got, and srun sends it to the tasks
    # that still run when one has ended.
    signals = frozenset((met | noticed) or stop_signals(lines, attempt))
    shown = dict(re.findall(r" (JobState|RunTime|TimeLimit|PreemptTime|ExcNodeList)=(\S*)", job))
    is_preempted = shown.get("JobState") == "RUNNING" and shown.get("PreemptTime", "None") not in ("None", "")
    # The cards of an earlier attempt stay until the next one trains.
    has_trained = any(line.job == attempt.mark for line in of_kind(lines, StartLine))
    cards = read_failures(folder.logs) if has_trained else []
    # A SIGTERM may come from srun, which ends the other tasks when one has failed.
    if exit_code in NOT_ITS_OWN - {EXIT_OK} and signals <= {signal.SIGTERM.name} and not is_preempted:
        exit_code = find_own_code(notices, [] if signals else cards) or exit_code
    other = read_other_machine(folder, attempt.mark)
    elsewhere = [line.excluded for line in of_kind(lines, RequeueLine) if line.job == attempt.job and line.excluded]
    excluded = shown.get("ExcNodeList", "(null)")
    if excluded == "(null)":  # SLURM did not answer, now or when the nodes were to be excluded
        excluded = elsewhere[-1] if elsewhere else ""
    limit, ran = parse_duration(shown.get("TimeLimit", "")), parse_duration(shown.get("RunTime", ""))
    return Ending(
        exit_code=exit_code,
        signals=signals,
        seconds_left=limit - ran if limit is not None and ran is not None else None,
        signal_seconds=signal_seconds,
        restart_count=attempt.restart_count,
        timeouts=sum(line.job == attempt.job and line.is_timeout for line in of_kind(lines, RequeueLine)),
        idle_attempts=count_idle(lines, attempt),
        is_preempted=is_preempted,
        job_state=shown.get("JobState", ""),
        other_machines="" if other is None else ",".join(other) or read_node_list(environment),
        why_other=read_why(folder, attempt.mark),
        elsewhere=len(elsewhere),
        excluded=excluded,
    )


def find_own_code(notices: Collection[tuple[int, str]], cards: Sequence[FailureCard]) -> int | None:
    """The exit code of the task that failed by itself, after which srun ended the others; None if it is not known.

    Args:
        notices: of the attempt, from `read_notices`.
        cards: of the attempt.
    """
    if own := own_failures(notices):
        return min(code for _, code in own)
    root = find_root_cause(cards)
    if root is None:
        return None
    return {"error": root.exit_code, "killed": EXIT_KILLED}.get(root.kind, EXIT_FAILED)


def read_own_code(folder: RunFolder, job: str, cards: Sequence[FailureCard]) -> int | None:
    """The exit code of a job's last attempt: of a task that failed by itself, or else the highest.

    None if neither notices nor cards have it.
    """
    notices = read_notices(folder.path, last_attempt(folder.path, job))
    codes = [int(what.removeprefix(CODE)) for _, what in notices if what.startswith(CODE)]
    return find_own_code(notices, cards) or max(codes, default=None)


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(prog=spell("requeue"), description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the job's run folder")
    parser.add_argument("--exit-code", type=int, required=True, metavar="CODE", help="of the job's tasks")
    parser.add_argument("--signal-seconds", type=float, default=0.0, help="how long before the limit the signal is due")
    parser.add_argument("--job", default="", metavar="TEXT", help="what `scontrol --oneliner show job` says")
    parser.add_argument("--max-requeues", type=int, default=50, metavar="N")
    parser.add_argument("--max-timeouts", type=int, default=20, metavar="N")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the decision, whose first word is `requeue` or `end`; write a requeue to attempts.jsonl.

    Returns the exit code for the job.
    """
    options: argparse.Namespace = build_parser().parse_args(arguments)
    folder = RunFolder(options.folder)
    ending = read_ending(folder, options.exit_code, os.environ, job=options.job, signal_seconds=options.signal_seconds)
    decision = decide(ending, max_requeues=options.max_requeues, max_timeouts=options.max_timeouts)
    if decision.is_requeue:
        job = read_job_attempt(os.environ).job
        folder.add(
            RequeueLine(
                time=timestamp(),
                why=decision.why,
                is_timeout=ending.is_timeout and not decision.excluded,
                job=job,
                before=ending.restart_count,
                excluded=decision.excluded or None,
            )
        )
    print(decision.line)
    return ending.exit_code if decision.exit_code is None else decision.exit_code


if __name__ == "__main__":
    sys.exit(run_command(main))
