"""The trials of an array: a run folder for each combination of a grid of settings."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import write_json
from signs_dist.run_folder.folder import RunFolder

from .jobs import jobs_of
from .schedulers import ask_state, find_alive

ARRAY = "array.json"
"""In the array's folder: the name and the settings of each trial."""
LONGEST_NAME = 80


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of an array: its folder, and the settings that only this trial has."""

    path: Path
    settings: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Whether its result exists."""
        return RunFolder(self.path).is_finished

    @property
    def is_alive(self) -> bool:
        """Whether a job waits or runs for it. Raises `UserError` where the scheduler does not answer."""
        return any(ask_state(job).is_alive for job in jobs_of(self.path)[-1:])


def trial_name(number: int, settings: Sequence[str]) -> str:
    """Name of a trial's run folder: its number, and its settings for people."""
    words = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join(settings))
    return f"{number:03d}-{words}"[:LONGEST_NAME]


def make_trials(folder: Path, grid: Sequence[tuple[str, ...]]) -> list[Trial]:
    """The trials of a grid in an array's folder.

    Raises:
        UserError: the folder holds another array.
    """
    trials = [Trial(folder / trial_name(number, settings), settings) for number, settings in enumerate(grid)]
    before = read_trials(folder)
    if before and before != trials:
        raise UserError(
            f"{folder} holds another array: {len(before)} trials, the first with {' '.join(before[0].settings)}. "
            f"Type the same --array again, or another --run-dir."
        )
    return trials


def read_trials(folder: Path) -> list[Trial]:
    """The trials of an array's folder; empty for any other folder."""
    try:
        written = json.loads((folder / ARRAY).read_text(encoding="utf-8"))
        return [Trial(folder / entry["name"], tuple(entry["settings"])) for entry in written["trials"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """Write down the trials of an array."""
    write_json(folder / ARRAY, {"trials": [{"name": trial.path.name, "settings": trial.settings} for trial in trials]})


def count_alive(trials: Sequence[Trial]) -> int:
    """How many trials have a job that waits or runs. Raises `UserError` where the scheduler does not answer."""
    return len(find_alive([job for trial in trials if not trial.is_finished for job in jobs_of(trial.path)[-1:]]))
