"""The means by which a drill kills an attempt: the program to start, and what to do until the attempt has ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from signs_dist.environment.process_table import process_state
from signs_dist.rehearsal.attempts import START_SECONDS, Attempt
from signs_dist.rehearsal.drill_settings import SAVE_EVERY_STEPS
from signs_dist.rehearsal.save_stages import STAGES_OF_EVERY_SAVE

TRAIN = "signs_dist.train"
END_SECONDS = 120.0
"""How long a killed or stopped attempt may take to end."""
SHARE_AT_START = 0.15
"""The share of the kills that are sent while the processes are still starting."""
LONGEST_START_SECONDS = 5.0
"""The latest time of such a kill, from the start of the attempt."""

Program = tuple[str, list[str]]
"""A module and its arguments."""


class Means(Protocol):
    """A way for an attempt to end."""

    def program(self, train: Sequence[str], killed_file: Path) -> Program:
        """The program to start.

        Args:
            train: the arguments of `signs_dist.train`.
            killed_file: a file to make when the attempt is killed.
        """

    def end(self, attempt: Attempt, choose: random.Random) -> str:
        """Kill the attempt and wait until it has ended. Returns how it was ended, for the table."""


@dataclasses.dataclass(frozen=True)
class NoKill:
    """The attempt ends by itself."""

    def program(self, train: Sequence[str], killed_file: Path) -> Program:
        """The training itself."""
        return TRAIN, list(train)

    def end(self, attempt: Attempt, choose: random.Random) -> str:
        """Wait until the attempt has ended."""
        attempt.wait_for_end()
        return "finished"


@dataclasses.dataclass(frozen=True)
class KillInSave:
    """The process that saves kills itself in the middle of a save.

    Attributes:
        stage: of the save.
        number: of the save in this attempt, from 1. An attempt with fewer saves ends by itself.
    """

    stage: str
    number: int

    def program(self, train: Sequence[str], killed_file: Path) -> Program:
        """The training in a process that kills itself."""
        return "signs_dist.rehearsal.kill_in_save", [self.stage, str(self.number), str(killed_file), TRAIN, *train]

    def end(self, attempt: Attempt, choose: random.Random) -> str:
        """Wait until the attempt has ended."""
        attempt.wait_for_end()
        return f"KILL in save {self.number} ({self.stage})"


@dataclasses.dataclass(frozen=True)
class SendSignal:
    """A signal, sent when the attempt has done a step, or after some seconds.

    Attributes:
        number: of the signal.
        is_for_all: whether it is sent to all processes, torchrun included, or to one rank. It is also sent to all if
            no rank has written a heartbeat yet.
        step: the step of the run after which it is sent. A run with fewer steps ends by itself.
        patience_seconds: how long to wait for the step.
    """

    number: signal.Signals
    is_for_all: bool
    step: int
    patience_seconds: float

    def program(self, train: Sequence[str], killed_file: Path) -> Program:
        """The training itself."""
        return TRAIN, list(train)

    def end(self, attempt: Attempt, choose: random.Random) -> str:
        """Send the signal at its time and wait until all processes have ended."""
        begun = time.monotonic()
        attempt.wait_until(
            lambda: (
                attempt.has_done(self.step) or attempt.has_ended or time.monotonic() - begun > self.patience_seconds
            ),
            START_SECONDS,
        )
        time.sleep(choose.uniform(0, 0.05))
        process_ids = attempt.process_ids()
        done = "ended by itself"
        if not attempt.has_ended:
            done = self._send(attempt, process_ids, choose)
            attempt.killed_file.touch()
        attempt.wait_until(lambda: attempt.has_ended, END_SECONDS)
        attempt.wait_until(lambda: all(process_state(pid) == "gone" for pid in process_ids), END_SECONDS)
        return done

    def _send(self, attempt: Attempt, process_ids: Sequence[int], choose: random.Random) -> str:
        ranks = {} if self.is_for_all else attempt.rank_process_ids()
        rank = choose.choice(sorted(ranks)) if ranks else None
        for pid in process_ids if rank is None else [ranks[rank]]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.number)
        return f"{self.number.name.removeprefix('SIG')} to {'all processes' if rank is None else f'rank {rank}'}"


MEANS = ("KILL one rank", "KILL all", "TERM all", "USR2 one rank", "KILL in a save")
"""The names of all means that end an attempt early."""


def choose_kill(
    name: str, choose: random.Random, *, first_step: int, num_steps: int, num_later_kills: int
) -> KillInSave | SendSignal:
    """Choose the moment of a kill, early enough to leave some steps for the later kills of the same run.

    Args:
        name: one of `MEANS`.
        choose: the random numbers for all choices.
        first_step: the step after which the attempt resumes.
        num_steps: of the whole run.
        num_later_kills: how many kills of this run are to follow.
    """
    num_left = num_steps - first_step
    furthest = max(1, min(num_left - 1, 2 * num_left // (num_later_kills + 2)))
    if name == "KILL in a save":
        return KillInSave(choose.choice(STAGES_OF_EVERY_SAVE), choose.randint(1, max(1, furthest // SAVE_EVERY_STEPS)))
    signal_name, _, target = name.partition(" ")
    step = first_step + choose.randint(1, furthest)
    is_at_start = choose.random() < SHARE_AT_START
    return SendSignal(
        signal.Signals[f"SIG{signal_name}"],
        is_for_all=target == "all",
        step=step,
        patience_seconds=choose.uniform(0.5, LONGEST_START_SECONDS) if is_at_start else START_SECONDS,
    )
