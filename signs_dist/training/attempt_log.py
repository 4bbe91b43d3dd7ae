"""The lines of attempts.jsonl: when and why the attempts of a run began and ended."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from signs_dist.checkpointing.resume_rules import is_before
from signs_dist.checkpointing.store import Cursor
from signs_dist.data.plan import EpochPlan
from signs_dist.environment.context import Context
from signs_dist.monitoring.beats import Beat, read_beats
from signs_dist.monitoring.failure_card import clear_failures
from signs_dist.run_folder.folder import RunFolder, timestamp
from signs_dist.run_folder.lines import parse, read_raw_lines
from signs_dist.run_folder.records import EndLine, StartLine
from signs_dist.run_folder.sample_log import keep_samples
from signs_dist.training.prediction_files import drop_later_predictions
from signs_dist.training.run_state import RunState

_NO_START = tuple(b'{"event": "' + kind for kind in (b"e", b"r"))
"""How torn lines begin that were no start: of an end or of a requeue."""


def next_attempt(file: Path) -> int:
    """The number of the next attempt: one that no earlier attempt had, also none whose line was torn.

    Args:
        file: attempts.jsonl.
    """
    number = 0
    for _, line in read_raw_lines(file):
        seen = [int(digits) for digits in re.findall(rb'"attempt": ?(\d{1,15})[,}]', line)]
        may_hide_one = parse(line) is None and not seen and not line.startswith(_NO_START)
        number = max([number + may_hide_one, *seen])
    return number + 1


def begin_attempt(folder: RunFolder, context: Context, run_state: RunState) -> StartLine:
    """Write the first line of an attempt."""
    changed = [each["what"] for each in run_state.arithmetic_changes if each["step"] == run_state.steps_done + 1]
    line = StartLine(
        attempt=next_attempt(folder.attempts),
        time=timestamp(),
        first_step=run_state.steps_done,
        world_size=context.world_size,
        host=context.host,
        restart=context.restart_count,
        job=context.job or None,  # the decision on a requeue finds the attempt by it
        other_bits="; ".join(changed) or None,
    )
    folder.add(line)
    return line


def wind_back(folder: RunFolder, plan: EpochPlan, run_state: RunState, saved_at: float | None) -> None:
    """Drop what comes after the checkpoint from metrics, sample logs and predictions; end a killed attempt's log.

    Args:
        folder: the run folder.
        plan: which samples each step trains on.
        run_state: the state from the checkpoint.
        saved_at: when the checkpoint was made, in seconds since 1970; None without a checkpoint.
    """
    cursor = run_state.cursor
    earlier = folder.read_attempts()
    if earlier and isinstance(earlier[-1], StartLine):
        last_progress = find_last_progress(folder, read_beats(folder.logs), plan)
        folder.add(end_of_killed(earlier[-1], last_progress, saved_at))
    # Saved after an epoch's last step, before its validation: the line of the epoch's end is written again.
    is_unvalidated = cursor.step == plan.num_steps
    folder.keep_lines(
        folder.metrics,
        lambda line: (
            is_before(line, cursor, run_state.steps_done)
            and not (is_unvalidated and line.get("kind") == "state" and line.get("step") == run_state.steps_done)
        ),
    )
    keep_samples(folder.logs, lambda place: is_sample_before(place, cursor))
    drop_later_predictions(folder, run_state.steps_done)
    clear_failures(folder.logs)


def is_sample_before(place: tuple[int, int], cursor: Cursor) -> bool:
    """Whether a step, (epoch, step) both from 1, comes before a place of the run."""
    epoch, step = place
    return (epoch - 1, step) <= (cursor.epoch, cursor.step)


def find_last_progress(folder: RunFolder, beats: Mapping[int, Beat], plan: EpochPlan) -> tuple[int, float | None]:
    """What the processes wrote last: (steps done since the start of the run, seconds since 1970 or None)."""
    steps, times = [0], []
    for beat in beats.values():
        # A beat has the step in progress, counted from 1.
        steps.append(max(0, beat.epoch - 1) * plan.num_steps + max(0, beat.step - 1))
        times.append(beat.time)
    steps += [line["step"] for line in folder.read_lines(folder.metrics) if isinstance(line.get("step"), int)]
    with contextlib.suppress(OSError):
        times.append(folder.metrics.stat().st_mtime)
    return max(steps), max(times, default=None)


def end_of_killed(start: StartLine, last_progress: tuple[int, float | None], saved_at: float | None) -> EndLine:
    """The last line of an attempt that was killed before it wrote one.

    Args:
        start: the attempt's first line.
        last_progress: from `find_last_progress`.
        saved_at: when the checkpoint was made from which the next attempt resumes, in seconds since 1970, or None.
    """
    last_step, last_time = last_progress
    begun = 0.0
    with contextlib.suppress(ValueError):  # a damaged line
        begun = datetime.datetime.fromisoformat(start.time).timestamp()
    lost = None if last_time is None else max(0.0, last_time - max(saved_at or 0.0, begun))
    return EndLine(
        attempt=start.attempt,
        time=timestamp(last_time),
        reason="killed without a message",
        last_step=max(last_step, start.first_step),
        seconds_lost=None if lost is None else round(lost, 3),
    )


def end_attempt(
    folder: RunFolder, attempt: int, run_state: RunState, reason: str, *, seconds_since_save: float, is_saved: bool
) -> None:
    """Write the last line of an attempt. With `is_saved`, the next attempt repeats no step."""
    lost = 0.0 if is_saved else seconds_since_save
    folder.add(
        EndLine(
            attempt=attempt,
            time=timestamp(),
            reason=reason,
            last_step=run_state.steps_done,
            seconds_lost=round(lost, 3),
        )
    )
