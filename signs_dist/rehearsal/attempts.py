"""An attempt of a run that the drill has started: its processes, the lines that it writes, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from signs_dist.environment.process_table import find_descendants
from signs_dist.environment.subprocesses import last_lines
from signs_dist.errors import TrainingFailedError
from signs_dist.monitoring.beats import read_beats
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import SaveLine, StartLine, of_kind

START_SECONDS = 600.0
"""How long an attempt may take until its next step. Opening a large data set takes long."""
POLL_SECONDS = 0.005


@dataclasses.dataclass(frozen=True)
class Attempt:
    """An attempt that was started.

    Attributes:
        process: its launcher, or its only process.
        folder: of its run.
        output: the file with all that its processes print.
        killed_file: the file that says that it was killed on purpose.
        num_starts_before: how many attempts of this run started before it.
    """

    process: subprocess.Popen[bytes]
    folder: RunFolder
    output: Path
    killed_file: Path
    num_starts_before: int

    @property
    def has_ended(self) -> bool:
        """Whether its launcher has ended."""
        return self.process.poll() is not None

    def has_done(self, step: int) -> bool:
        """Whether this attempt has started, and the run has done this step."""
        return num_starts(self.folder) > self.num_starts_before and last_step(self.folder) >= step

    def process_ids(self) -> list[int]:
        """The process ids of its launcher and of all descendants of the launcher."""
        return [self.process.pid, *find_descendants(self.process.pid)]

    def rank_process_ids(self) -> dict[int, int]:
        """Rank → process id, for the processes of this attempt that have written a heartbeat."""
        own = self.process_ids()
        beats = read_beats(self.folder.logs)
        return {rank: beat.identity.pid for rank, beat in beats.items() if beat.identity.pid in own}

    def wait_until(self, is_true: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition.

        Raises:
            TrainingFailedError: `seconds` have passed without it.
        """
        deadline = time.monotonic() + seconds
        while not is_true():
            if time.monotonic() > deadline:
                raise self._stuck(seconds)
            time.sleep(POLL_SECONDS)

    def wait_for_end(self) -> None:
        """Wait until its launcher has ended.

        Raises:
            TrainingFailedError: `START_SECONDS` have passed without a step.
        """
        while not self.has_ended:
            step_before = last_step(self.folder)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(START_SECONDS)
                return
            if last_step(self.folder) == step_before:
                raise self._stuck(START_SECONDS)

    def _stuck(self, seconds: float) -> TrainingFailedError:
        printed = "\n".join(last_lines(self.output))
        return TrainingFailedError(f"nothing happened for {seconds:.0f} s. The processes printed:\n{printed}")


def num_starts(folder: RunFolder) -> int:
    """How many attempts of a run have started."""
    return len(of_kind(folder.read_attempts(), StartLine))


def last_step(folder: RunFolder) -> int:
    """The last step in metrics.jsonl, from 1; 0 without one."""
    return max((line.step for line in folder.read_metrics()), default=0)


def last_saved_step(folder: RunFolder) -> int:
    """The step of the newest save in metrics.jsonl, from 1; 0 without one."""
    return max((line.step for line in of_kind(folder.read_metrics(), SaveLine)), default=0)
