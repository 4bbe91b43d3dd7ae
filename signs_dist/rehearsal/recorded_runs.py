"""Starting a run of `signs_dist.rehearsal.recording` on a number of processes of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.subprocesses import count_processes, failure_of, last_lines, launch_command, started
from signs_dist.errors import TrainingFailedError
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
    output = folder / "output"
    command = launch_command("signs_dist.rehearsal.recording", world_size, [str(folder), *arguments])
    with started(command, output) as process:
        try:
            code = process.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            printed = "\n".join(last_lines(output))
            raise TrainingFailedError(
                f"the run on {count_processes(world_size)} did not end within {LONGEST_SECONDS:g} s. It printed:\n"
                f"{printed}"
            ) from None
    if code:
        raise failure_of(f"the run on {count_processes(world_size)}", code, output)
    return read_record(folder, world_size)
