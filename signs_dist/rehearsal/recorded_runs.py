"""Starting a run of `signs_dist.rehearsal.recording` on a number of processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.subprocesses import run_on_processes
from signs_dist.rehearsal.records import Record, read_record

LONGEST_SECONDS = 6 * 3600.0
"""How long a run of some steps may take: its own limits end it earlier, unless its launcher hangs."""


def record_run(world_size: int, arguments: Sequence[str], folder: Path) -> Record:
    """Train some steps on a number of processes, and read what they wrote down.

    Args:
        world_size: number of processes.
        arguments: flags and settings for `signs_dist.rehearsal.recording`.
        folder: a new folder for what the processes write and print.

    Raises:
        UserError: the processes were given wrong input.
        TrainingFailedError: the processes failed, or did not end; the message ends with the last lines that they
            printed.
    """
    folder.mkdir()
    run_on_processes(
        "signs_dist.rehearsal.recording",
        world_size,
        [str(folder), *arguments],
        folder / "output",
        longest_seconds=LONGEST_SECONDS,
    )
    return read_record(folder, world_size)
