"""Starting a run of `signs_dist.rehearsal.recording` on a number of processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from signs_dist.environment.subprocesses import count_processes, failure_of, launch_command, started
from signs_dist.rehearsal.records import Record, read_record


def record_run(world_size: int, arguments: Sequence[str], folder: Path) -> Record:
    """Train some steps on a number of processes, and read what they wrote down.

    Args:
        world_size: number of processes.
        arguments: flags and settings for `signs_dist.rehearsal.recording`.
        folder: a new folder for what the processes write and print.

    Raises:
        UserError: the processes were given wrong input.
        TrainingFailedError: the processes failed; the message ends with the last lines that they printed.
    """
    folder.mkdir()
    output = folder / "output"
    command = launch_command("signs_dist.rehearsal.recording", world_size, [str(folder), *arguments])
    with started(command, output) as process:
        code = process.wait()
    if code:
        raise failure_of(f"the run on {count_processes(world_size)}", code, output)
    return read_record(folder, world_size)
